"""Labels of a reference for the cells of a query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.eval.annotation.transfer import share_labels, transfer_name
from tests.test_eval.scoring import clustered, run

NAMES = {"type0": "B cell", "type1": "T cell", "type2": "monocyte"}


def transfer(inputs, **settings):
    return run("label_transfer", inputs, reference="sets/ref.h5ad", dataset="query.h5ad", **settings)


def renamed(inputs, names):
    labels = np.array([names.get(label, label) for label in inputs.heldout.labels])
    return replace(inputs, dataset="ref_to_query", heldout=replace(inputs.heldout, labels=labels))


class TestSharedLabels:
    def test_match_by_exact_names(self):
        found = share_labels(np.array(["B", "T", "NK", ""]), np.array(["T", "b", "", "B"]), {})
        assert (found.both, found.only_reference, found.only_query) == (["B", "T"], ["NK"], ["b"])

    def test_are_renamed_on_both_sides(self):
        reference, query = np.array(["CD4 T", "CD8 T", "B"]), np.array(["T", "B cell"])
        found = share_labels(reference, query, {"CD4 T": "T", "CD8 T": "T", "B cell": "B"})
        assert found.reference.tolist() == ["T", "T", "B"]
        assert found.query.tolist() == ["T", "B"]
        assert (found.both, found.only_reference, found.only_query) == (["B", "T"], [], [])

    def test_names_are_exchanged_at_once(self):
        found = share_labels(np.array(["a", "b"]), np.array(["a", "b"]), {"a": "b", "b": "a"})
        assert found.reference.tolist() == ["b", "a"]

    def test_refuses_a_name_that_no_cell_has(self):
        with pytest.raises(ConfigError, match="mapping names the label 'T cel', which neither data set has"):
            share_labels(np.array(["T cell"]), np.array(["T"]), {"T cel": "T"})

    def test_refuses_data_sets_without_a_common_label(self):
        with pytest.raises(ConfigError, match=r"no label of the query \(B cell\) is one of the reference \(B\); name"):
            share_labels(np.array(["B"]), np.array(["B cell"]), {})


class TestBenchmark:
    def test_scores_the_query_with_probes_of_the_reference(self):
        found = transfer(renamed(clustered(), {}))
        assert found["accuracy_knn15"].value == found["accuracy_linear_probe"].value == 1
        params = found["accuracy_knn15"].params
        assert params["labels_in_both"] == ["type0", "type1", "type2"]
        assert params["reference"] == "ref.h5ad"

    def test_takes_the_users_names_for_the_same(self):
        inputs = renamed(clustered(), NAMES)
        with pytest.raises(ConfigError, match="no label of the query"):
            transfer(inputs)
        found = transfer(inputs, mapping={new: old for old, new in NAMES.items()})
        assert found["accuracy_knn15"].value == 1

    def test_counts_labels_of_the_query_alone_as_unknown_and_lists_them(self):
        inputs = renamed(clustered(num_cells=240, spread=0.5), {"type0": "plasma cell"})
        train = inputs.train.select(inputs.train.labels != "type0")
        record = transfer(replace(inputs, train=train))["accuracy_linear_probe"]
        assert record.value == pytest.approx(2 / 3)
        assert record.params["labels_of_query_only"] == record.params["unseen_labels"] == ["plasma cell"]
        assert record.params["num_unseen"] == 40

    def test_refuses_the_cells_of_one_data_set(self):
        with pytest.raises(DataError, match=r"got the cells of 'cells', and needs those of two data sets \('ref_to_qu"):
            transfer(clustered())

    @pytest.mark.parametrize(("given", "lacking"), [({"dataset": "a"}, "reference"), ({"reference": "a"}, "dataset")])
    def test_needs_two_data_sets(self, given, lacking):
        with pytest.raises(ConfigError, match=f"needs two data sets, and '{lacking}' is not set"):
            run("label_transfer", clustered(), **given)

    def test_is_named_after_both(self):
        assert transfer_name("atlas", "folder/mine.h5ad") == "atlas_to_mine"
