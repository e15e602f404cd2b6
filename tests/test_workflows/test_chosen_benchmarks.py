"""Which benchmarks ``evaluate`` runs, and with which settings, on a run's own cells and on other data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge._errors import ConfigError
from scmodelforge.cli.main import app
from scmodelforge.config.load import parse_config
from scmodelforge.workflows.chosen_benchmarks import choose_benchmarks
from tests.conftest import make_adata
from tests.test_life_cycle import settings

TRANSFER = {"name": "label_transfer", "reference": "a.h5ad", "dataset": "b.h5ad", "label": "cell_type"}
METRICS = ["silhouette_label", "nmi_kmeans"]
OWN = {"name": "embedding_quality", "metrics": METRICS, "kmeans_starts": 3}


def chosen(benchmarks, names=None, *, data="other.h5ad", label=None, batch=None):
    """Return what is run in place of the benchmarks of some settings, and what is said of it."""
    config = parse_config({"data": {"paths": ["x.h5ad"]}, "eval": {"benchmarks": benchmarks}}, origin="run.yaml")
    file = None if data is None else Path(data)
    notes = choose_benchmarks(config, names, label=label, batch=batch, data=file)
    return config.eval.benchmarks, notes


class TestSettings:
    @pytest.mark.parametrize("names", [None, ["embedding_quality"]])
    @pytest.mark.parametrize("data", [None, "other.h5ad"])
    def test_are_kept_on_whatever_cells(self, names, data):
        (each,), notes = chosen([OWN], names, data=data)
        assert (each.metrics, each.kmeans_starts, notes) == (METRICS, 3, [])

    def test_of_a_benchmark_of_another_data_set_are_kept_without_its_columns(self):
        (each,), _ = chosen([{**OWN, "dataset": "lung.h5ad", "label": "kind", "batch": "chip"}])
        assert (each.metrics, each.dataset, each.label, each.batch) == (METRICS, None, None, None)

    def test_of_these_cells_come_before_those_of_another_data_set(self):
        elsewhere = {"name": "embedding_quality", "dataset": "lung.h5ad", "metrics": ["nmi_kmeans"]}
        (each,), _ = chosen([elsewhere, OWN])
        assert each.metrics == METRICS

    def test_of_one_the_run_does_not_have_are_the_defaults(self):
        (each,), _ = chosen([OWN], ["batch_integration"])
        assert each == type(each)()

    def test_give_way_to_columns_that_are_asked_for(self):
        (each,), _ = chosen([{**OWN, "label": "lineage", "batch": "chip"}], label="kind")
        assert (each.label, each.batch) == ("kind", "chip")


class TestColumns:
    @pytest.mark.parametrize("benchmarks", [[TRANSFER], [{**OWN, "dataset": "lung.h5ad"}, TRANSFER]])
    @pytest.mark.parametrize("option", ["label", "batch"])
    def test_that_no_benchmark_takes_are_refused(self, benchmarks, option):
        with pytest.raises(ConfigError, match=rf"--{option} would change nothing: .*label_transfer\)"):
            chosen(benchmarks, data=None, **{option: "kind"})

    def test_are_of_the_benchmarks_that_take_them(self):
        first, second, third = chosen([TRANSFER, OWN, {**OWN, "dataset": "lung.h5ad"}], data=None, label="kind")[0]
        assert (first.label, second.label, third.label) == ("cell_type", "kind", None)

    def test_are_taken_by_the_defaults_of_a_run_without_benchmarks(self):
        assert {each.label for each in chosen([], data=None, label="kind")[0]} == {"kind"}


class TestPairsOfDataSets:
    def test_are_left_out_elsewhere_and_that_is_said(self):
        found, notes = chosen([TRANSFER, "cell_type_annotation"])
        assert [each.name for each in found] == ["cell_type_annotation"]
        assert notes == ["label_transfer is left out: it is of two data sets of its own; run it without --data"]

    def test_asked_for_by_name_keep_their_own_or_are_refused(self):
        (each,), _ = chosen([TRANSFER], ["label_transfer"], data=None)
        assert (each.reference, each.dataset) == ("a.h5ad", "b.h5ad")
        with pytest.raises(ConfigError, match=r"is of two data sets of its own, not of other.h5ad"):
            chosen([TRANSFER], ["label_transfer"])

    def test_alone_make_room_for_the_defaults(self):
        found, _ = chosen([TRANSFER])
        assert [each.name for each in found] == ["cell_type_annotation", "embedding_quality"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return a run whose benchmark has settings and a column of its own, with other cells beside it."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("cells", "others")):
        adata = make_adata(90, 30, seed=seed)
        adata.obs["lineage"] = adata.obs["cell_type"]
        adata.write_h5ad(folder / f"{name}.h5ad")
    benchmarks = [{"name": "embedding_quality", "metrics": METRICS, "label": "lineage"}]
    config = settings(folder / "cells.h5ad", folder / "run", training__max_epochs=1, eval__benchmarks=benchmarks)
    config["training"]["steps_per_epoch"] = 2
    config["eval"] |= {"baselines": ["random"], "every_n_epochs": 1}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["train", str(folder / "run.yaml")])
    assert result.exit_code == 0, result.output
    return folder / "run"


def evaluated(*words: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


class TestOtherData:
    def test_is_scored_as_the_run_was(self, run):
        result = evaluated(run, "--data", run.parent / "others.h5ad", "--json")
        assert result.exit_code == 0, result.output
        found = [json.loads(line) for line in result.stdout.splitlines()]
        assert {each["metric"] for each in found} == set(METRICS)
        assert {each["label_key"] for each in found} == {"lineage"}

    def test_without_a_benchmark_s_column_is_one_line_with_the_option(self, run, tmp_path):
        other = make_adata(60, 30, seed=2)
        other.write_h5ad(tmp_path / "plain.h5ad")
        result = evaluated(run, "--data", tmp_path / "plain.h5ad")
        assert result.exit_code == 2
        (line,) = result.stderr.strip().splitlines()
        assert "has no obs column 'lineage'; name its column with --label." in line
        assert evaluated(run, "--data", tmp_path / "plain.h5ad", "--label", "cell_type").exit_code == 0
