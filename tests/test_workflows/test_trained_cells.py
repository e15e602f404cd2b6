"""What a model folder knows of the cells it was trained on, from a run's first pass over the data to its last file."""

from __future__ import annotations

import json
import logging
import shutil

import anndata as ad
import numpy as np
import pytest

from scmodelforge.config.schema import RunConfig
from scmodelforge.data.cell_sketch import CellIdentities
from scmodelforge.data.scan import scan
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.hub.bundle import load_bundle, save_bundle
from scmodelforge.hub.extend import extend_vocabulary
from scmodelforge.workflows.prepare import open_source, prepare_data
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    make_adata(120, 40).write_h5ad(folder / "cells.h5ad")
    return train(folder, folder / "cells.h5ad", eval__benchmarks=[], training__max_epochs=1).parent


@pytest.fixture(scope="module")
def bundle(folder):
    return load_bundle(folder / "run" / "model")


def identities(folder, vocab, **how):
    source = open_source(LocalDataConfig(paths=[str(folder / "cells.h5ad")]))
    found = CellIdentities(vocab, source.panels, 120, **how)
    scan(source, vocab, expects="counts", visitors=[found])
    source.close()
    return found.values


def sides(folder):
    stored = json.loads((folder / "run" / "splits.json").read_text())
    source = open_source(LocalDataConfig(paths=[str(folder / "cells.h5ad")]))
    codes, names = source.obs("donor_id")
    source.close()
    held_out = np.isin(np.array(names)[codes], stored["groups"])
    assert 0 < held_out.sum() < len(codes)
    return ~held_out, held_out


def test_a_run_s_model_knows_its_training_cells_and_no_held_out_one(folder, bundle):
    found = identities(folder, bundle.vocab)
    train_cells, held_out = sides(folder)
    assert bundle.trained_cells.shared(found[train_cells]).share == 1
    assert bundle.trained_cells.shared(found[held_out]).found == 0


def test_a_resumed_run_keeps_it(folder, bundle):
    run = train(folder, folder / "cells.h5ad", "b", eval__benchmarks=[], training__max_epochs=2)
    later = sorted((run / "checkpoints").glob("step*"))[1:]
    assert later
    for checkpoint in later:
        shutil.rmtree(checkpoint)
    shutil.rmtree(run / "model")
    invoke("train", "--resume", run)
    again = load_bundle(run / "model").trained_cells
    np.testing.assert_array_equal(again.identities, bundle.trained_cells.identities)


def test_copies_of_a_model_folder_keep_it_and_an_extended_vocabulary_changes_nothing(folder, bundle, tmp_path):
    extended = extend_vocabulary(bundle, ["NEW1", "NEW2"])
    save_bundle(tmp_path / "copy", extended, card="")
    kept = load_bundle(tmp_path / "copy").trained_cells
    found = identities(folder, extended.vocab, genes=kept.genes)
    assert kept.shared(found[sides(folder)[0]]).share == 1


@pytest.mark.parametrize("num_repeated", [0, 30])
def test_held_out_cells_that_are_training_cells_too_are_counted_before_step_1(tmp_path, caplog, num_repeated):
    first, second = make_adata(90, 40), make_adata(60, 40, seed=3)
    parts = {"first": first, "second": second, "again": first[:num_repeated]}
    both = ad.concat({name: part for name, part in parts.items() if len(part)}, index_unique="-")
    both.obs["side"] = ["first"] * 90 + ["other"] * (len(both) - 90)
    both.write_h5ad(tmp_path / "both.h5ad")
    data = LocalDataConfig(paths=[str(tmp_path / "both.h5ad")], gene_vocab="from_data")
    data.split.by, data.split.validation_fraction = "side", 0.4
    with caplog.at_level(logging.WARNING):
        prepare_data(RunConfig(data=data)).source.close()
    lines = [record.message for record in caplog.records if "the same cell twice" in record.message]
    assert len(lines) == (1 if num_repeated else 0), lines
    assert all("33.3% of the held-out cells are also training cells" in line for line in lines)


def scores(out) -> set:
    return {json.loads(line)["params"].get("trained_on", "absent") for line in out.read_text().splitlines()}


@pytest.mark.parametrize("num_genes", [9, 25])
def test_of_a_copy_with_fewer_genes_it_cannot_be_told(folder, tmp_path, num_genes):
    ad.read_h5ad(folder / "cells.h5ad")[:, :num_genes].write_h5ad(tmp_path / "few.h5ad")
    out = tmp_path / "scores.jsonl"
    words = ("--data", tmp_path / "few.h5ad", "--label", "cell_type", "--split-by", "cells", "--out", out)
    output = invoke("evaluate", folder / "run", *words)
    assert "cannot be told: they were not measured for all genes that its training cells were" in output
    assert scores(out) == {None}


def test_a_model_of_few_genes_does_not_know_its_cells_and_says_so(tmp_path):
    make_adata(90, 9).write_h5ad(tmp_path / "nine.h5ad")
    changes = {"eval__benchmarks": [], "training__max_epochs": 1}
    run = train(tmp_path, tmp_path / "nine.h5ad", **changes)
    out = tmp_path / "scores.jsonl"
    words = ("--data", tmp_path / "nine.h5ad", "--label", "cell_type", "--split-by", "cells", "--out", out)
    assert "cannot be told" in invoke("evaluate", run, *words)
    assert scores(out) == {None}


def test_own_held_out_cells_that_are_there_twice_are_told_of_with_every_score(tmp_path):
    cells = make_adata(120, 40)
    ad.concat({"a": cells, "b": cells[:40]}, index_unique="-").write_h5ad(tmp_path / "twice.h5ad")
    benchmarks = [{"name": "cell_type_annotation", "probes": ["knn"]}]
    split = {"by": "cells", "validation_fraction": 0.3}
    run = train(
        tmp_path, tmp_path / "twice.h5ad", data__split=split, eval__benchmarks=benchmarks, training__max_epochs=1
    )
    assert scores(run / "exported_results.jsonl") == {True}
    out = tmp_path / "scores.jsonl"
    assert "are training cells too, so these scores are not of unseen cells" in invoke("evaluate", run, "--out", out)
    assert scores(out) == {True}
