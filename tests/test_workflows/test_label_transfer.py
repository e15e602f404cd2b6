"""From two files and a model to scores of labels carried over, and those of baselines."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
import yaml

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.benchmarks.label_transfer import LabelTransferConfig
from scmodelforge.hub import load_bundle
from scmodelforge.hub.bundle import build_model
from scmodelforge.workflows.label_transfer import transfer_sets
from tests.conftest import make_adata
from tests.test_data.zarr_stores import copy_in_other_form
from tests.test_life_cycle import invoke, settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with cells of two batches, each a file that has its own names, and a model of the first."""
    folder = tmp_path_factory.mktemp("two")
    cells = make_adata(240, 30)
    first, second = (cells[cells.obs["batch"] == batch].copy() for batch in ("b0", "b1"))
    first.write_h5ad(folder / "first.h5ad")
    second.obs["annotation"] = second.obs["cell_type"].astype(str).replace({"type0": "T cell", "type2": "novel"})
    second.obs["donor"] = second.obs["donor_id"]
    del second.obs["cell_type"]
    second.write_h5ad(folder / "second.h5ad")
    config = settings(folder / "first.h5ad", folder / "run", training__max_epochs=1, eval__benchmarks=[])
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    invoke("train", "--config", folder / "run.yaml")
    return folder


@pytest.fixture(scope="module")
def bundle(folder):
    return load_bundle(folder / "run" / "model")


def sets(folder, bundle, baselines=("pca", "random", "untrained"), max_cells=100, **changes):
    given = {
        "reference": str(folder / "first.h5ad"),
        "reference_label": "cell_type",
        "dataset": str(folder / "second.h5ad"),
        "label": "annotation",
        "batch": "donor",
        "mapping": {"T cell": "type0"},
        "probes": ["linear_probe", "knn"],
        **changes,
    }
    return transfer_sets(
        [LabelTransferConfig(**given)],
        bundle,
        untrained=lambda: build_model(bundle.model_config, bundle.tokenizer),
        baselines=baselines,
        max_cells=max_cells,
        batch_size=16,
        seed=0,
    )


@pytest.fixture(scope="module")
def records(folder, bundle):
    (each,) = sets(folder, bundle)
    return each.evaluate(bundle.model, model_id="m", device=torch.device("cpu"))


class TestTwoFiles:
    def test_are_scored_for_the_model_and_its_baselines(self, records):
        found = {record.representation: record for record in records if record.metric == "accuracy_knn15"}
        assert set(found) == {"model", "untrained", "pca", "random"}
        assert {record.dataset for record in records} == {"first_to_second"}
        assert found["pca"].value > 0.5
        assert found["model"].baselines["pca"] == found["pca"].value
        assert found["model"].n == 100

    def test_say_how_many_cells_theirs_were_chosen_from(self, folder, records):
        there = ad.read_h5ad(folder / "second.h5ad").n_obs
        assert there > 100
        assert {(each.n + each.n_skipped, each.subsample, each.params["subsample_size"]) for each in records} == {
            (100, there, 100)
        }
        assert records[0].params["subsample_of_reference"] == ad.read_h5ad(folder / "first.h5ad").n_obs

    def test_have_labels_under_common_names(self, records):
        params = records[0].params
        assert params["labels_in_both"] == ["type0", "type1"]
        assert params["labels_of_query_only"] == params["unseen_labels"] == ["novel"]
        assert params["labels_of_reference_only"] == ["type2"]
        table = next(record for record in records if record.metric == "accuracy_knn15").tables
        row = table["labels"].index("novel")
        assert sum(np.array(table["confusion"])[:, row]) == 0  # no probe can give it

    def test_tell_unknown_cells_better_than_noise_does(self, records):
        found = {record.representation: record for record in records if record.metric == "unknown_auroc_linear_probe"}
        assert found["random"].value == pytest.approx(0.5, abs=0.2)
        assert found["pca"].n == 100

    def test_have_intervals_over_the_donors_of_the_query(self, records):
        record = next(record for record in records if record.metric == "accuracy_knn15")
        assert (record.group_key, record.params["num_groups"]) == ("donor", 5)

    def test_say_which_of_them_the_model_was_trained_on(self, records):
        params = records[0].params
        assert (params["trained_on_reference"], params["trained_on_query"]) == (True, False)

    def test_baselines_are_made_once(self, folder, bundle, records):
        (each,) = sets(folder, bundle)
        first = each.evaluate(bundle.model, model_id="m", device=torch.device("cpu"))
        kept = dict(each._baselines)
        again = each.evaluate(bundle.model, model_id="m", device=torch.device("cpu"))
        assert all(each._baselines[name] is rows for name, rows in kept.items())
        assert [record.value for record in again] == [record.value for record in first]


class TestBaselines:
    def represented(self, each, bundle):
        found = each.evaluate(bundle.model, model_id="m", device=torch.device("cpu"))
        return found, list(dict.fromkeys(record.representation for record in found))

    @pytest.mark.parametrize("asked", [["hvg"], ["untrained", "pca"], ["random"], []])
    def test_are_those_asked_for(self, folder, bundle, asked):
        (each,) = sets(folder, bundle, asked, max_cells=40, probes=["knn"])
        found, names = self.represented(each, bundle)
        assert sorted(names) == sorted(["model", *asked])
        (record,) = [r for r in found if r.metric == "accuracy_knn15" and r.representation == "model"]
        assert set(record.baselines) == {"majority", *asked}

    def test_that_cannot_be_made_are_named_and_counted(self, folder, bundle, tmp_path, caplog):
        reference = ad.read_h5ad(folder / "first.h5ad")
        counts = reference.X.toarray()
        counts[:] = counts[0]
        reference.X = sp.csr_matrix(counts)
        reference.write_h5ad(tmp_path / "first.h5ad")
        changes = {"reference": str(tmp_path / "first.h5ad"), "probes": ["knn"], "max_cells": 40}
        (each,) = sets(folder, bundle, ["pca", "hvg", "random"], **changes)
        found, names = self.represented(each, bundle)
        assert names == ["model", "random", "pca", "hvg"]
        for name in ("pca", "hvg"):
            skipped = [record for record in found if record.representation == name]
            scored = [record for record in found if record.representation == "model"]
            assert [record.metric for record in skipped] == [record.metric for record in scored]
            for ours, theirs in zip(skipped, scored, strict=True):
                assert ours.value is None
                assert ours.n_skipped == theirs.n + theirs.n_skipped > 0
                assert ours.skipped_reason.startswith(f"baseline '{name}' cannot be made of the reference: ")
            assert f"first_to_second: baseline '{name}' cannot be made" in caplog.text


class TestWhatIsRefused:
    def test_one_file_as_both(self, folder, bundle):
        same = {"dataset": str(folder / "first.h5ad"), "label": "cell_type", "batch": None, "mapping": {}}
        with pytest.raises(DataError, match=r"reference and query are the same file \(first.h5ad\)"):
            sets(folder, bundle, **same)

    def test_another_form_of_one_as_both(self, folder, bundle, tmp_path):
        copy = copy_in_other_form(folder / "first.h5ad", tmp_path)
        same = {"dataset": str(copy), "label": "cell_type", "batch": None, "mapping": {}}
        with pytest.raises(DataError, match=r"reference and query: [\d,]+ of [\d,]+ cells are in both, maybe"):
            sets(folder, bundle, **same)

    def test_labels_of_which_none_is_in_both_before_anything_is_computed(self, folder, bundle):
        with pytest.raises(ConfigError, match=r"no label of the query .* is one of the reference .*in 'mapping'"):
            sets(folder, bundle, label="donor", mapping={})

    def test_a_query_that_the_model_was_trained_on(self, folder, bundle, tmp_path):
        copy = copy_in_other_form(folder / "first.h5ad", tmp_path)
        pair = {"reference": str(folder / "second.h5ad"), "reference_label": "annotation", "dataset": str(copy)}
        with pytest.raises(
            DataError, match=r"query .*copy.zarr: the model was trained on .*; name a query that it has not"
        ):
            sets(folder, bundle, **pair, label="cell_type", batch=None, mapping={})

    def test_a_data_set_whose_labels_are_not_named(self, folder, bundle):
        with pytest.raises(ConfigError, match=r"the labels of .*second.h5ad is named; set 'label' of the benchmark"):
            sets(folder, bundle, label=None)

    def test_a_column_that_is_not_there(self, folder, bundle):
        with pytest.raises(DataError, match="cell_typ"):
            sets(folder, bundle, reference_label="cell_typ")

    def test_other_benchmarks_are_passed_over(self, folder, bundle):
        from scmodelforge.config.schema import BenchmarkConfig

        assert transfer_sets([BenchmarkConfig(name="embedding_quality")], bundle, untrained=None, baselines=["pca"],
                             max_cells=9, batch_size=2, seed=0) == []  # fmt: skip
