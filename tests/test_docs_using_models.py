"""Code and commands of the page on using models run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import scmodelforge as smf
from scmodelforge.cli.predict import predict
from scmodelforge.hub import save_bundle
from tests.test_life_cycle import invoke
from tests.test_tl import cells
from tests.test_workflows.ready_models import labelling_model, ready_model

PAGE = (Path(__file__).parents[1] / "docs" / "using_models.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cells().write_h5ad("cells.h5ad")
    save_bundle(Path("runs/lung/model"), ready_model(), card="")
    save_bundle(Path("runs/annotation/model"), labelling_model(), card="")
    return tmp_path


def test_code_of_the_page_runs(folder, capsys):
    """UMAP is left to scanpy's own tests: it may be missing, and compiles for half a minute."""
    pytest.importorskip("scanpy")
    first, annotation, whatever, backed = blocks("python")
    names: dict = {}
    lines = [line for line in first.splitlines() if not line.startswith("sc.")]
    assert len(first.splitlines()) - len(lines) == 2
    exec("\n".join([*lines, annotation, whatever, backed]), names)
    adata = names["adata"]
    np.testing.assert_array_equal(names["backed"].obsm["X_scmodelforge"], adata.obsm["X_scmodelforge"])
    assert "scmodelforge_confidence" in capsys.readouterr().out
    assert "scmodelforge_label" in names["predicted"].obs


def test_every_function_of_tl_is_in_the_table():
    named = re.findall(r"^\| `tl\.(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(smf.tl.__all__)


def test_settings_of_the_page_train_a_model_that_labels(folder):
    adata = cells()
    adata.obs["cell_type"] = ["a" if number % 2 else "b" for number in range(adata.n_obs)]
    adata.write_h5ad("cells.h5ad")
    (text,) = blocks("yaml")
    assert "scmodelforge train annotation.yaml" in PAGE
    Path("annotation.yaml").write_text(text)
    small = ["model.backbone.hidden_dim=16", "model.backbone.num_layers=1", "training.max_epochs=1"]
    small += ["data.gene_vocab=from_data", "output.tensorboard=false"]
    said = invoke("train", "annotation.yaml", "--force", *(word for each in small for word in ("--set", each)))
    assert "scmodelforge predict YOUR.h5ad labelled.h5ad --model" in said
    labelled = smf.tl.annotate(cells(), "runs/annotation", copy=True)
    assert {*labelled.obs["scmodelforge_label"]} <= {"a", "b", "unknown"}


def test_commands_of_the_page_run(folder):
    (text,) = blocks("bash")
    for line in text.splitlines():
        invoke(*line.split()[1:])
    assert "scmodelforge_label" in ad.read_h5ad("labelled.h5ad").obs
    assert "X_scmodelforge" in ad.read_h5ad("embedded.h5ad").obsm


def test_every_argument_and_field_is_mentioned(folder):
    adata = smf.tl.annotate(smf.tl.embed(cells(), "runs/lung", copy=True), "runs/annotation", copy=True)
    fields = {name for facts in adata.uns.values() for name in facts}
    assert [name for name in fields if f"`{name}`" not in PAGE] == []
    options = {
        f"--{name.replace('_', '-')}" for name in predict.__annotations__ if name not in ("data", "out", "return")
    }
    assert [option for option in options if option not in PAGE] == []
