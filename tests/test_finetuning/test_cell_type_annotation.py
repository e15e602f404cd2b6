"""Cell types: weights that no batching changes, types that only held-out cells have, errors in a line."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError
from scmodelforge.cli.main import app
from scmodelforge.eval.base import Record
from scmodelforge.finetuning.no_harm import gain_notes
from scmodelforge.finetuning.tasks.cell_type_annotation import class_weights
from scmodelforge.hub import load_bundle
from tests.test_life_cycle import invoke

from .conftest import scored_cells

LABELS = {"data": {"label_column": "cell_type"}}


def figures(run, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


class TestWeights:
    def test_balanced_types_count_the_same_and_training_cells_one_on_average(self):
        counts = np.array([10, 30, 60])
        weights = np.array(class_weights("balanced", ["a", "b", "c"], counts))
        assert np.ptp(weights * counts) == pytest.approx(0)
        assert (weights * counts).sum() == pytest.approx(counts.sum())

    def test_named_types_keep_their_ratio_and_others_have_one(self):
        counts = np.array([10, 30, 60])
        weights = class_weights({"b": 4.0}, ["a", "b", "c"], counts)
        assert weights[1] / weights[0] == pytest.approx(4)
        assert weights[0] == weights[2]
        assert np.dot(weights, counts) == pytest.approx(counts.sum())

    def test_none_is_none(self):
        assert class_weights("none", ["a", "b"], np.array([1, 2])) is None

    def test_a_type_that_there_is_not_is_refused(self):
        with pytest.raises(
            ConfigError, match=r"class_weights names 'z', which no training cell is; the types are a, b"
        ):
            class_weights({"z": 1.0}, ["a", "b"], np.array([1, 2]))

    def test_no_batching_changes_the_run(self, settings, tmp_path):
        """Three ways to put the same steps into batches: only rounding differs, as it would by any weighted batch."""
        ways = {"whole": (16, 1), "halves": (8, 2), "uneven": (4, 4)}
        for name, (size, parts) in ways.items():
            training = {"batch_size": size, "gradient_accumulation": parts, "log_every_n_steps": 1}
            path = settings(name, class_weights="balanced", changes={**LABELS, "training": training})
            invoke("train", "--config", path)
        for key in ("train/loss", "val/loss", "val/annotation_error"):
            found = [figures(tmp_path / name, key) for name in ways]
            assert found[0]
            for other in found[1:]:
                np.testing.assert_allclose(other, found[0], rtol=2e-4, err_msg=key)
        saved = load_bundle(tmp_path / "whole" / "model").model_config.head.class_weights
        labels = ad.read_h5ad(yaml.safe_load((tmp_path / "whole.yaml").read_text())["data"]["paths"][0]).obs[
            "cell_type"
        ]
        assert len(saved) == labels.nunique()
        assert np.ptp(saved) > 0


def test_the_error_of_held_out_cells_is_told_and_is_no_part_of_the_loss(settings, tmp_path):
    invoke("train", "--config", settings(changes=LABELS))
    run = tmp_path / "run"
    assert all(0 <= error <= 1 for error in figures(run, "val/annotation_error"))
    assert figures(run, "val/loss") == figures(run, "val/annotation")
    assert not figures(run, "train/annotation_error")


def test_types_that_only_held_out_cells_have_are_told_and_not_learned(settings, tmp_path):
    adata = scored_cells()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[adata.obs["donor_id"] == "d0", "cell_type"] = "rare"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    data = {
        "paths": [str(tmp_path / "cells.h5ad")],
        "label_column": "cell_type",
        "split": {"by": "donor_id", "validation_groups": ["d0", "d1"]},
    }
    evaluation = {"benchmarks": ["cell_type_annotation"], "baselines": ["random"]}
    said = " ".join(invoke("train", "--config", settings(changes={"data": data, "eval": evaluation})).split())
    number = int((adata.obs["cell_type"] == "rare").sum())
    assert f"{number} held-out cells are of 1 types in 'cell_type' that no training cell has (rare)" in said
    assert load_bundle(tmp_path / "run" / "model").labels["categories"] == ["type0", "type1", "type2"]
    records = [json.loads(line) for line in (tmp_path / "run" / "exported_results.jsonl").read_text().splitlines()]
    (accuracy,) = (each for each in records if each["metric"] == "accuracy_head")
    # they are scored, and none of them is right
    held_out = adata.obs["donor_id"].isin(["d0", "d1"])
    assert accuracy["n"] == held_out.sum()
    assert accuracy["value"] <= 1 - number / held_out.sum()
    assert accuracy["params"]["unseen_labels"] == ["rare"]


@pytest.mark.parametrize(
    ("changes", "finetune", "words"),
    [
        ({}, {}, "but task 'cell_type_annotation' needs the obs column of the types of cells; name it. There are: "),
        ({}, {}, "cell_type"),
        ({"data": {"label_column": "score"}}, {}, "of which each would be a type; use task 'regression'"),
        (LABELS, {"head": {"class_weights": [1.0, 2.0]}}, "head.class_weights is filled in when a run starts, from "),
        ({"data": {"label_column": "kind"}}, {}, "kind"),
        ({"data": {"label_column": "one"}}, {}, "the training cells have 1 label(s) in obs column 'one'"),
        (LABELS, {"class_weights": {"typ0": 2.0}}, "finetune.class_weights names 'typ0'"),
        (LABELS, {"class_weights": {"type0": 0.0}}, "finetune.class_weights"),
        (LABELS, {"task": "cell_types"}, "unknown task 'cell_types'"),
    ],
)
def test_what_cannot_be_learned_is_one_line(changes, finetune, words, settings, tmp_path, place):
    adata = scored_cells()
    adata.obs["one"] = "same"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    data = {**changes.get("data", {}), "paths": [str(tmp_path / "cells.h5ad")]}
    result = CliRunner().invoke(app, ["train", "--config", str(settings(changes={"data": data}, **finetune))])
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "run").exists()


def test_texts_that_mean_missing_are_told_of(settings, tmp_path):
    adata = scored_cells()
    adata.obs["kind"] = ["nan" if number % 5 == 0 else f"type{number % 2}" for number in range(adata.n_obs)]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    data = {"label_column": "kind", "paths": [str(tmp_path / "cells.h5ad")]}
    said = invoke("train", "--config", settings(changes={"data": data, "training": {"max_epochs": 1}}))
    assert "the text 'nan' of " in said
    assert "'type0'" not in said


def test_numbers_that_are_names_are_types(settings, tmp_path):
    """Clusters are numbered, also by whole numbers that are stored as others."""
    adata = scored_cells()
    adata.obs["cluster"] = np.arange(adata.n_obs) % 30 * 1.0
    adata.write_h5ad(tmp_path / "cells.h5ad")
    data = {"label_column": "cluster", "paths": [str(tmp_path / "cells.h5ad")]}
    invoke("train", "--config", settings(changes={"data": data, "training": {"max_epochs": 1}}))


class TestWhetherItGained:
    @staticmethod
    def records(head: float, probe: float) -> list[Record]:
        of_model = [("macro_f1_head", head), ("macro_f1_linear_probe", head)]
        rows = [("model", *each) for each in of_model] + [("untrained", "macro_f1_linear_probe", probe)]
        return [Record("cell_type_annotation", "heldout", name, metric, value) for name, metric, value in rows]

    def test_a_base_model_that_does_as_well_is_told_of(self):
        (line,) = gain_notes(self.records(0.7, 0.72))
        assert "gained nothing on heldout: macro F1 of the head is 0.700, of a linear probe on the base" in line
        assert len(gain_notes(self.records(0.7, 0.7))) == 1

    def test_nothing_is_said_where_it_did_or_that_is_not_known(self):
        assert gain_notes(self.records(0.8, 0.7)) == []
        assert gain_notes(self.records(0.8, 0.9)[:2]) == []

    def test_the_metrics_are_those_of_the_benchmark(self, settings, place):
        data = {"label_column": "cell_type"}
        changes = {"data": data, "training": {"max_epochs": 1}, "eval": {"benchmarks": ["cell_type_annotation"]}}
        invoke("train", "--config", path := settings(changes=changes))
        lines = (path.parent / "run" / "exported_results.jsonl").read_text().splitlines()
        found = {(each["representation"], each["metric"]) for each in map(json.loads, lines)}
        assert {("model", "macro_f1_head"), ("untrained", "macro_f1_linear_probe")} <= found
