"""``scmodelforge hub import``: a published folder becomes a model folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.hub import load, pretrained, published_vocabulary
from scmodelforge.hub.bundle import load_bundle
from scmodelforge.hub.importers.base import find_importer
from scmodelforge.workflows import import_model as workflow
from tests.conftest import make_adata
from tests.test_hub.published_folders import GENES, bundle_batch, write_geneformer, write_scgpt
from tests.test_models.test_published import test_geneformer


def call(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["hub", "import", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stderr


def refused(*words: str | Path) -> str:
    """Return the one line that the command ends with."""
    result = CliRunner().invoke(app, ["hub", "import", *map(str, words)])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_it_writes_is_the_model_that_was_published(tmp_path):
    folder, out = write_geneformer(tmp_path / "theirs"), tmp_path / "models/ours"
    said = call(folder, out).splitlines()
    assert said[:3] == [
        "weights read: 42, of these put into another form: 2",
        "missing, as they were drawn: 0",
        "left over: 0",
    ]
    assert said[3:] == [
        f"geneformer: 23 tokens, written to {out}",
        "licence: not known; ask those who published it",
        f"next: scmodelforge embed cells.h5ad embedded.h5ad --model {out}",
    ]
    theirs, ours = find_importer(folder)[1].load(folder).bundle, load_bundle(out)
    with torch.no_grad():
        for name in ("encode", "forward"):
            found = [getattr(each.model, name)(**bundle_batch(theirs)) for each in (theirs, ours)]
            assert torch.equal(*(each if name == "encode" else each.logits for each in found))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["ours"]


def test_its_cells_are_embedded(tmp_path):
    out = tmp_path / "ours"
    call(write_geneformer(tmp_path / "theirs"), out)
    adata = make_adata(12, 19)
    assert list(adata.var_names) == GENES
    adata.write_h5ad(tmp_path / "cells.h5ad")
    words = ["embed", tmp_path / "cells.h5ad", tmp_path / "embedded.h5ad", "--model", out]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    found = anndata.read_h5ad(tmp_path / "embedded.h5ad").obsm["X_scmodelforge"]
    bundle = load_bundle(out)
    for row in range(3):
        tokens = bundle.tokenizer.tokenize(adata.X[[row]].toarray()[0], GENES)["input_ids"]
        ids = torch.as_tensor(tokens)[None]
        with torch.no_grad():
            states = bundle.model(ids, torch.ones_like(ids), output_hidden_states=True).hidden_states[-2]
        np.testing.assert_allclose(found[row], states[0, 1:-1].mean(0), atol=1e-5)


def test_its_card_says_where_it_is_from(tmp_path):
    folder, out = write_scgpt(tmp_path / "theirs"), tmp_path / "ours"
    call(folder, out)
    card = (out / "README.md").read_text()
    assert "# scgpt, 2 layers, width" in card
    assert "(`scgpt`) from `theirs`" in card
    assert "None is stated: ask those who made the model before you use it or pass it on." in card
    assert "- weights read: 43, of these put into another form: 4" in card
    assert f"| best_model.pt | `{hashlib.sha256((folder / 'best_model.pt').read_bytes()).hexdigest()}` |" in card
    assert str(tmp_path) not in card + (out / "fingerprint.json").read_text()


def test_weights_that_are_in_the_list_are_known_by_their_checksum(tmp_path, monkeypatch):
    folder, out = write_scgpt(tmp_path / "theirs"), tmp_path / "ours"
    sha256 = hashlib.sha256((folder / "best_model.pt").read_bytes()).hexdigest()
    entry = pretrained.get_pretrained("scgpt-human")
    files = [pretrained.PublishedFile(path="best_model.pt", sha256=sha256)]
    tokens = entry.vocabulary.model_copy(update={"num_tokens": 23})
    changed = entry.model_copy(update={"files": files, "vocabulary": tokens})
    monkeypatch.setattr(published_vocabulary, "list_pretrained", lambda: (changed,))
    said = call(folder, out)
    assert f"{entry.title}: 23 tokens, written to {out}" in said
    assert "licence: MIT" in said
    card = (out / "README.md").read_text()
    assert "\nlicense: mit\n" in card
    assert f"# {entry.title}\n" in card
    assert f"doi:{entry.citation}" in card
    facts = json.loads((out / "fingerprint.json").read_text())["imported_from"]
    assert (facts["name"], facts["licence"], facts["page"]) == ("scgpt-human", "MIT", entry.page)


def test_a_model_with_other_tokens_than_the_list_says_is_refused(tmp_path, monkeypatch):
    folder = write_scgpt(tmp_path / "theirs")
    entry = pretrained.get_pretrained("scgpt-human")
    monkeypatch.setattr(load, "published_as", lambda bundle: entry)
    line = refused(folder, tmp_path / "ours")
    assert line.endswith("has 23 tokens, that of scgpt-human 60,697; put the files of scgpt-human there.")


def test_a_missing_head_is_told_of(tmp_path):
    bare = {name: each for name, each in test_geneformer.published().items() if not name.startswith("cls.")}
    out = tmp_path / "ours"
    said = call(write_geneformer(tmp_path / "theirs", bare), out)
    assert "theirs has no weights of cls (5): what these predict means nothing before they are" in said
    assert "missing, as they were drawn: 5 (cls.predictions.bias, " in said
    assert "missing, as they were drawn: 5 (cls.predictions.bias, " in (out / "README.md").read_text()


class TestFoldersThatAreThere:
    def test_are_replaced_on_demand_if_they_are_models(self, tmp_path):
        out = tmp_path / "ours"
        out.mkdir()
        call(write_geneformer(tmp_path / "geneformer"), out)  # an empty one is as good as none
        before = files_of(out)
        scgpt = write_scgpt(tmp_path / "scgpt")
        assert refused(scgpt, out) == f"{out} exists; choose another name, or replace it with --force."
        assert files_of(out) == before
        call(scgpt, out, "--force")
        assert load_bundle(out).model_config.architecture == "scgpt"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["geneformer", "ours", "scgpt"]

    def test_are_not_replaced_if_they_are_something_else(self, tmp_path):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis/chapter.tex").write_text("years of work")
        folder = write_geneformer(tmp_path / "theirs")
        for out in (tmp_path / "thesis", tmp_path / "thesis/chapter.tex", folder):
            line = refused(folder, out, "--force")
            assert line == f"{out} is no model folder, so it is not replaced; choose another name."
        assert (tmp_path / "thesis/chapter.tex").read_text() == "years of work"

    def test_stay_as_they_were_if_the_import_fails(self, tmp_path, monkeypatch):
        out = tmp_path / "ours"
        call(write_geneformer(tmp_path / "geneformer"), out)
        before = files_of(out)
        broken = write_scgpt(tmp_path / "scgpt")
        (broken / "best_model.pt").write_bytes(b"half")
        assert "best_model.pt: damaged, or no weights" in refused(broken, out, "--force")

        def fails(folder, bundle, *, card):
            folder.mkdir()
            (folder / "config.json").write_text("{")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(workflow, "save_bundle", fails)
        line = refused(write_scgpt(tmp_path / "scgpt"), out, "--force")
        assert line == f"{out} cannot be written (No space left on device)."

        def interrupted(bundle):
            raise KeyboardInterrupt

        monkeypatch.setattr(workflow, "model_card", interrupted)
        with pytest.raises(KeyboardInterrupt):
            workflow.import_model(tmp_path / "scgpt", out, force=True)
        assert files_of(out) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["geneformer", "ours", "scgpt"]


class TestRefusals:
    def test_of_sources(self, tmp_path):
        (tmp_path / "empty").mkdir()
        out = tmp_path / "ours"
        assert refused(tmp_path / "none", out).startswith(f"{tmp_path / 'none'}: no such folder")
        assert "nor of a published model that can be imported (gene" in refused(tmp_path / "empty", out)
        assert "unknown scheme 's3://'" in refused("s3://bucket/model", out)
        assert "unknown importer 'bert'" in refused(tmp_path / "empty", out, "--importer", "bert")
        call(write_geneformer(tmp_path / "theirs"), out)
        line = refused(out, tmp_path / "again")
        assert line == f"{out} is a model folder of ours already: nothing to import; load or copy it as it is."
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "ours", "theirs"]

    def test_an_importer_that_is_named_reads_the_folder(self, tmp_path):
        folder = write_geneformer(tmp_path / "theirs", architectures=["BertForMaskedLM"])
        assert "give the folder of a published scGPT" in refused(folder, tmp_path / "ours", "--importer", "scgpt")
        call(folder, tmp_path / "ours", "--importer", "geneformer")

    def test_places_that_cannot_be_written_to(self, tmp_path):
        (tmp_path / "file").write_text("")
        line = refused(write_geneformer(tmp_path / "theirs"), tmp_path / "file/ours")
        assert line == f"cannot write to {tmp_path / 'file'} (File exists); choose a folder you may write to."
