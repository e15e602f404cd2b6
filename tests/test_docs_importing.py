"""Commands and code of the page on importing run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from scmodelforge._errors import DataError
from scmodelforge._registry import IMPORTERS
from scmodelforge.cli.main import app
from scmodelforge.hub.bundle import load_bundle
from scmodelforge.models.transformer_encoder import TransformerEncoder
from scmodelforge.workflows.import_model import import_model
from tests.test_docs import DOCS, blocks
from tests.test_hub.published_folders import write_geneformer, write_scgpt

PAGE = "importing.md"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_command_runs():
    write_geneformer(Path("geneformer_folder"))
    Path("dictionaries").mkdir()
    for name in ("token_dictionary.json", "gene_median_dictionary.json"):
        Path("geneformer_folder", name).rename(Path("dictionaries", name))
    (command,) = "".join(blocks(PAGE, "bash")).splitlines()
    result = CliRunner().invoke(app, command.split()[1:])
    assert result.exit_code == 0, result.output
    assert load_bundle("models/geneformer").model_config.architecture == "transformer_encoder"


def test_the_code_runs(capsys):
    write_scgpt(Path("scgpt_human"))
    names: dict = {}
    exec(blocks(PAGE, "python")[0], names)
    assert capsys.readouterr().out.startswith("weights read: 43, ")
    assert (names["name"], len(names["vocab"])) == ("scgpt", 23)


def test_the_importer_reads_a_model():
    exec(blocks(PAGE, "python")[1], {"__name__": "lab_importer"})
    genes = [f"ENSG{number:011d}" for number in range(1, 9)]
    sizes = {"hidden_dim": 8, "num_layers": 1, "num_heads": 2}
    model = TransformerEncoder(vocab_size=12, max_seq_len=64, **sizes)
    folder = Path("lab")
    folder.mkdir()
    (folder / "lab.json").write_text(json.dumps({"genes": genes, "sizes": sizes}))
    weights = {f"net.{name}": weight for name, weight in model.state_dict().items()}
    save_file(weights, folder / "lab.safetensors")
    import_model("lab", Path("ours"))
    found = load_bundle("ours").model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in model.state_dict().items())
    save_file({name: w for name, w in weights.items() if "encoder" not in name}, folder / "lab.safetensors")
    with pytest.raises(DataError, match=r"lab: the body of the model was not read: net\.encoder\."):
        import_model("lab", Path("again"))
    assert not Path("again").exists()


def test_every_block_of_code_is_run():
    assert len(blocks(PAGE, "python")) == 2
    assert len(blocks(PAGE, "bash")) == 1


def test_every_importer_is_in_the_table():
    text = (DOCS / PAGE).read_text()
    assert [name for name in IMPORTERS.names() if f"| `{name}` |" not in text] == []
