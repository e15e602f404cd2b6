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
    found = CellIdentities(vocab, 120, **how)
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
    found = identities(folder, extended.vocab, num_genes=kept.num_genes)
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
    assert len(lines) == (1 if num_repeated else 0)
    assert all("33.3% of the held-out cells are also training cells" in line for line in lines)
