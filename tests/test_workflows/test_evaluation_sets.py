"""A model in training is scored on data sets known by name, on cells that it never sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scmodelforge import datasets
from scmodelforge.cli.main import app
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.split_files import read_split
from scmodelforge.workflows.prepare import open_source
from tests.conftest import make_adata
from tests.test_bad_input import refused
from tests.test_data.zarr_stores import copy_in_other_form
from tests.test_life_cycle import settings

SPEC = Path(__file__).parents[1] / "fixtures" / "spec_002.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep fetched data sets in a folder of their own."""
    kept = tmp_path / "datasets"
    kept.mkdir()
    monkeypatch.setenv("SCMODELFORGE_DATASETS", str(kept))
    monkeypatch.delenv("SCMODELFORGE_DATASETS_MIRROR", raising=False)
    return kept


def fetched(folder: Path, name: str, **columns: str) -> Path:
    """Fetch 80 cells under the name of an atlas, with its columns."""
    adata = make_adata(80, 40, seed=1)
    for new, old in columns.items():
        adata.obs[new] = adata.obs[old]
    path = folder.parent / "download.h5ad"
    adata.write_h5ad(path)
    datasets.fetch(name, origin=str(path))
    return path


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def train(tmp_path: Path, data: Path | str, **changes) -> Path:
    config = tmp_path / "run.yaml"
    changes = {"training__max_epochs": 1, **changes}
    config.write_text(yaml.safe_dump(settings(data, tmp_path / "run", **changes)))
    result = invoke("train", "--config", config)
    assert result.exit_code == 0, result.output + str(result.exception)
    return tmp_path / "run"


class TestNotThere:
    @pytest.mark.parametrize("name", ["tabula_sapiens", "dataset://tabula_sapiens"])
    def test_a_benchmark_s_data_set_stops_the_run_before_it_starts(self, tmp_path, tiny_h5ad, name):
        message = refused(tmp_path, tiny_h5ad, eval__benchmarks=[{"cell_type_annotation": {"dataset": name}}])
        assert "data set 'tabula_sapiens' is not on this machine" in message
        assert "scmodelforge datasets fetch tabula_sapiens --from" in message

    def test_so_does_one_to_train_on(self, tmp_path):
        message = refused(tmp_path, Path("x"), data__paths=["dataset://norman"])
        assert "scmodelforge datasets fetch norman" in message

    def test_an_unknown_one_is_refused_with_the_nearest(self, tmp_path, tiny_h5ad):
        message = refused(tmp_path, tiny_h5ad, eval__benchmarks=[{"batch_integration": {"dataset": "immune_atlass"}}])
        assert "Did you mean 'immune_atlas'?" in message

    def test_the_proposal_s_file_names_what_to_fetch_before_it_asks_for_a_census(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        result = invoke("train", "--config", SPEC, "--set", "training.num_gpus=0", "--set", "data.uri=nowhere")
        assert result.exit_code == 2
        assert "scmodelforge datasets fetch tabula_sapiens" in result.stderr
        assert not (tmp_path / "runs").exists()


class TestNames:
    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["a/cells.h5ad", "b/cells.h5ad"], "'b/cells.h5ad' and 'a/cells.h5ad' are both called 'cells' in results"),
            (["a/norman.h5ad", "dataset://norman"], "'norman' and 'a/norman.h5ad' are both called 'norman'"),
            (["a/heldout.h5ad"], "'a/heldout.h5ad' and the run's own held-out cells are both called 'heldout'"),
        ],
    )
    def test_results_of_two_data_sets_are_never_mixed_up(self, tmp_path, tiny_h5ad, names, message):
        benchmarks = [{"cell_type_annotation": {"dataset": name}} for name in names]
        assert message in refused(tmp_path, tiny_h5ad, eval__benchmarks=benchmarks)


class TestFetched:
    @pytest.mark.slow
    def test_the_proposal_s_data_sets_are_scored_by_their_own_splits(self, tmp_path, tiny_h5ad, folder):
        fetched(folder, "tabula_sapiens")
        fetched(folder, "immune_atlas", final_annotation="cell_type", batch="donor_id")
        benchmarks = yaml.safe_load(SPEC.read_text())["eval"]["benchmarks"]
        run = train(tmp_path, tiny_h5ad, eval__benchmarks=benchmarks)
        records = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
        wanted = {"tabula_sapiens": ("cell_type", "donor_id"), "immune_atlas": ("final_annotation", "batch")}
        assert {record["dataset"] for record in records} == set(wanted)
        for name, columns in wanted.items():
            stored = json.loads((run / "splits" / f"{name}.json").read_text())
            of_set = [record for record in records if record["dataset"] == name]
            assert {record["split_hash"] for record in of_set} == {stored["split_hash"]}
            assert {(record["label_key"], record["batch_key"]) for record in of_set} == {columns}
            assert stored["by"] == datasets.info(name).split.by
            source = open_source(LocalDataConfig(paths=[f"dataset://{name}"]))
            assert read_split(run / "splits" / f"{name}.json", source).groups == stored["groups"]
            source.close()

    @pytest.mark.slow
    def test_the_split_does_not_follow_the_run_s_seed(self, tmp_path, tiny_h5ad, folder):
        fetched(folder, "tabula_sapiens")
        benchmarks = [{"cell_type_annotation": {"dataset": "tabula_sapiens"}}]
        hashes = set()
        for seed in (0, 1):
            (tmp_path / str(seed)).mkdir()
            run = train(
                tmp_path / str(seed), tiny_h5ad, eval__benchmarks=benchmarks, eval__seed=seed, training__seed=seed
            )
            hashes.add(json.loads((run / "splits" / "tabula_sapiens.json").read_text())["hash"])
        assert len(hashes) == 1

    @pytest.mark.slow
    def test_a_run_may_be_replaced_with_its_splits(self, tmp_path, tiny_h5ad, folder):
        fetched(folder, "tabula_sapiens")
        benchmarks = [{"cell_type_annotation": {"dataset": "tabula_sapiens"}}]
        train(tmp_path, tiny_h5ad, eval__benchmarks=benchmarks)
        assert invoke("train", "--config", tmp_path / "run.yaml", "--force").exit_code == 0

    def test_a_local_file_is_split_by_its_donors(self, tmp_path, tiny_h5ad, folder):
        own = fetched(folder, "tabula_sapiens")
        benchmarks = [{"cell_type_annotation": {"dataset": str(own), "label": "cell_type"}}]
        run = train(tmp_path, tiny_h5ad, eval__benchmarks=benchmarks)
        assert json.loads((run / "splits" / "download.json").read_text())["by"] == "donor_id"


class TestLeaks:
    def test_held_out_cells_of_a_data_set_may_not_be_trained_on(self, tmp_path, folder):
        fetched(folder, "tabula_sapiens")
        changes = {
            "data__paths": ["dataset://tabula_sapiens"],
            "data__split": {"by": "cells", "validation_fraction": 0.3},
            "eval__benchmarks": [{"cell_type_annotation": {"dataset": "tabula_sapiens"}}],
        }
        message = refused(tmp_path, Path("x"), **changes)
        assert "'tabula_sapiens' is trained on and evaluated on" in message
        assert "cells to be scored are training cells" in message
        assert "data.split.file to what 'scmodelforge datasets split tabula_sapiens -o split.json' writes" in message

    def test_a_copy_of_the_file_is_found_out(self, tmp_path, folder):
        copy = fetched(folder, "tabula_sapiens")
        message = refused(
            tmp_path,
            copy,
            data__split={"by": "cells"},
            eval__benchmarks=[{"cell_type_annotation": {"dataset": "tabula_sapiens"}}],
        )
        assert "cells to be scored are training cells" in message

    def test_another_form_of_the_file_is_found_out(self, tmp_path, tiny_h5ad):
        copy = copy_in_other_form(tiny_h5ad, tmp_path)
        message = refused(
            tmp_path,
            tiny_h5ad,
            data__split={"by": "cells"},
            eval__benchmarks=[{"cell_type_annotation": {"dataset": str(copy), "label": "cell_type"}}],
        )
        assert "are training cells that lie in another file" in message

    def test_with_the_data_set_s_own_split_the_run_is_allowed(self, tmp_path, folder):
        fetched(folder, "tabula_sapiens")
        result = invoke("datasets", "split", "tabula_sapiens", "-o", tmp_path / "split.json")
        assert result.exit_code == 0, result.output
        run = train(
            tmp_path,
            "dataset://tabula_sapiens",
            data__split={"file": str(tmp_path / "split.json")},
            eval__benchmarks=[{"cell_type_annotation": {"dataset": "tabula_sapiens"}}],
        )
        own = json.loads((run / "splits.json").read_text())
        scored = json.loads((run / "splits" / "tabula_sapiens.json").read_text())
        assert own["validation"] == scored["validation"]
