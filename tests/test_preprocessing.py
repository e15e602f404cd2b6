"""Preprocessing through whole runs: which cells and genes a model is trained on, size factors wherever cells go in."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import DataConfig, PreprocessingConfig, RunConfig
from scmodelforge.data.hvg import HighlyVariable
from scmodelforge.data.size_factors import fit_size_factors
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.hub import load_bundle
from scmodelforge.workflows.config_hash import config_hash
from scmodelforge.workflows.evaluation_sets import split_for_evaluation
from scmodelforge.workflows.prepare import PreparedData, prepare_data
from scmodelforge.workflows.vocabulary import build_vocab
from tests.conftest import make_adata
from tests.test_bad_input import refused, written
from tests.test_life_cycle import invoke, losses, train

ALL = {
    "min_counts_per_cell": 20,
    "max_genes_per_cell": 29,
    "min_cells_per_gene": 5,
    "hvg_selection": 12,
    "hvg_flavor": "seurat_v3",
    "hvg_batch_column": "batch",
    "normalize": "scran",
}


def prepared(path: Path, *, by: str = "cells", expression: str | None = None, **settings) -> PreparedData:
    data = LocalDataConfig(paths=[str(path)], gene_vocab="from_data", preprocessing=PreprocessingConfig(**settings))
    data.filter = expression
    data.split.by, data.split.validation_fraction = by, 0.25
    return prepare_data(RunConfig(data=data))


@pytest.fixture
def counts() -> np.ndarray:
    """Return counts of 60 cells and 40 genes: four poor cells, three rich ones, a rare gene."""
    counts = np.minimum(make_adata(60, 40).X.toarray(), 30)
    counts[:, 1] = 0
    counts[[9, 30], 1] = 4
    counts[[3, 20, 41, 55], 5:] = 0
    counts[[7, 8, 50]] += 40
    return counts


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(90, 40).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    changes = {"data__preprocessing": ALL, "training__max_epochs": 1, "eval__every_n_epochs": 1}
    return train(tmp_path_factory.mktemp("runs"), data, **changes)


class TestLimits:
    def test_dropped_cells_are_on_neither_side_and_are_reported_in_one_line(self, tmp_path, counts, caplog):
        with caplog.at_level(logging.INFO, logger="scmodelforge"):
            data = prepared(written(tmp_path / "a.h5ad", counts), min_genes_per_cell=6, max_counts_per_cell=1500.0)
        dropped = [3, 7, 8, 20, 41, 50, 55]
        assert data.num_dropped == 7
        used = np.concatenate([data.split.train, data.split.validation])
        assert sorted(used) == np.delete(np.arange(60), dropped).tolist()
        line = (
            "dropped 7 of 60 cells by limits of data.preprocessing: 3 by max_counts_per_cell (1,500.0), 4 by min_genes"
        )
        assert [each for each in caplog.messages if each.startswith(line)]

    def test_cells_that_a_filter_leaves_out_are_not_counted_again(self, tmp_path, counts, caplog):
        counts[[4, 5, 6, 10]] = 0
        path = written(tmp_path / "a.h5ad", counts)  # cells are of batch b0 and b1 by turns
        with caplog.at_level(logging.INFO, logger="scmodelforge"):
            data = prepared(path, expression="batch == 'b1'", min_genes_per_cell=1, max_counts_per_cell=1500.0)
        assert (data.num_empty, data.num_dropped) == (0, 2)  # 5 is empty, 7 is rich
        assert len(data.split.train) + len(data.split.validation) == 28
        reasons = "1 by max_counts_per_cell (1,500.0), 1 by min_genes_per_cell (1)"
        assert f"dropped 2 of 30 cells by limits of data.preprocessing: {reasons}" in caplog.messages
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="scmodelforge"):
            data = prepared(path, expression="batch == 'b0'")
        assert (data.num_empty, data.num_dropped) == (3, 0)
        assert "skipped 3 of 30 cells: no gene of the vocabulary in them" in caplog.messages

    def test_genes_are_counted_over_training_cells_that_stay(self, tmp_path, counts):
        counts[:, 2] = 0
        counts[[3, 7, 8, 10], 2] = 1
        path = written(tmp_path / "a.h5ad", counts)
        data = prepared(path, min_genes_per_cell=7, max_counts_per_cell=1500.0, min_cells_per_gene=2)
        genes = np.array([f"ENSG{i:011d}" for i in range(1, 41)])
        common = np.count_nonzero(counts[data.split.train], axis=0) >= 2
        assert data.vocab.genes == genes[common].tolist()
        assert not common[2]

    def test_variable_genes_are_chosen_among_common_ones_of_cells_that_stay(self, tmp_path, counts):
        settings = {"min_genes_per_cell": 7, "max_counts_per_cell": 1500.0, "min_cells_per_gene": 3}
        data = prepared(written(tmp_path / "a.h5ad", counts), hvg_selection=10, **settings)
        chooser = HighlyVariable(build_vocab(DataConfig(gene_vocab="from_data"), data.source), 10)
        rows = data.source.read_rows(0, data.split.train)
        chooser.update(rows)
        common = np.count_nonzero(counts[data.split.train], axis=0) >= 3
        assert data.vocab.genes == chooser.select(common)
        assert not common.all()

    def test_batches_are_read_from_the_column(self, tmp_path, counts):
        path = written(tmp_path / "a.h5ad", counts)
        data = prepared(path, hvg_selection=10, hvg_flavor="seurat_v3", hvg_batch_column="batch")
        vocab = build_vocab(DataConfig(gene_vocab="from_data"), data.source)
        chosen = []
        for batches in (data.source.obs("batch")[0], None):
            chooser = HighlyVariable(vocab, 10, flavor="seurat_v3", batches=batches)
            chooser.update(data.source.read_rows(0, data.split.train))
            chosen.append(chooser.select())
        assert data.vocab.genes == chosen[0]
        assert chosen[0] != chosen[1]

    def test_whole_groups_that_are_dropped(self, tmp_path, counts):
        held = np.arange(60) % 5 == 1
        counts[held] = np.minimum(counts[held], 1)
        path = written(tmp_path / "a.h5ad", counts)
        split = {"by": "donor_id", "validation_groups": ["d1"]}
        message = refused(tmp_path, path, data__split=split, data__preprocessing={"min_counts_per_cell": 50})
        assert "no held-out cell is within the limits of data.preprocessing; loosen them, or hold out others" in message
        split["validation_groups"] = ["d0", "d2", "d3", "d4"]
        message = refused(tmp_path, path, data__split=split, data__preprocessing={"min_counts_per_cell": 50})
        assert "no training cell is within the limits of data.preprocessing; loosen them, or choose others" in message

    def test_no_gene_is_common(self, tmp_path, counts):
        with pytest.raises(
            ConfigError, match=r"min_cells_per_gene is 99, but no gene .* in more than 45 training cells"
        ):
            prepared(written(tmp_path / "a.h5ad", counts), min_cells_per_gene=99)

    def test_batch_column_that_is_not_there(self, tmp_path, counts):
        with pytest.raises(DataError, match="chemistry"):
            prepared(written(tmp_path / "a.h5ad", counts), hvg_selection=9, hvg_batch_column="chemistry")

    def test_counts_are_needed_for_a_choice_by_counts(self, tmp_path, counts):
        path = written(tmp_path / "a.h5ad", counts / counts.sum(axis=1, keepdims=True) * 1000)
        with pytest.raises(DataError, match="counts are needed"):
            prepared(path, hvg_selection=9, hvg_flavor="seurat_v3")


class TestRun:
    def test_settings_and_the_number_of_dropped_cells_are_kept_with_the_model(self, run, data):
        stored = json.loads((run / "model" / "preprocessing.json").read_text())
        assert ALL.items() <= stored.items()
        facts = json.loads((run / "model" / "fingerprint.json").read_text())
        expressed = np.count_nonzero(ad.read_h5ad(data).X.toarray(), axis=1)
        assert facts["num_dropped"] == np.count_nonzero(expressed > 29) > 0
        assert facts["num_train"] + facts["num_validation"] + facts["num_dropped"] == 90
        assert f"{facts['num_dropped']} outside the limits" in (run / "model" / "README.md").read_text()

    def test_embedding_leaves_out_no_cell(self, run, data, tmp_path):
        invoke("embed", data, tmp_path / "out.h5ad", "--model", run)
        assert np.isfinite(ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scmodelforge"]).all()

    def test_other_cells_get_size_factors_of_their_own(self, run, tmp_path):
        path = tmp_path / "other.h5ad"
        make_adata(50, 40, seed=3).write_h5ad(path)
        found = split_for_evaluation(LocalDataConfig(paths=[str(path)]), load_bundle(run / "model"))
        assert found.preprocessor.factors.tolist() == fit_size_factors(found.source).tolist()
        assert len(found.split.train) + len(found.split.validation) == 50
        invoke("evaluate", run, "--data", path, "--label", "cell_type")

    def test_too_few_cells_for_size_factors_are_refused_in_one_line(self, run, tmp_path):
        path = tmp_path / "few.h5ad"
        make_adata(12, 40).write_h5ad(path)
        with pytest.raises(DataError, match=r"few.h5ad: data.preprocessing.normalize 'scran' pools 21 cells and more"):
            split_for_evaluation(LocalDataConfig(paths=[str(path)]), load_bundle(run / "model"))

    def test_evaluates_and_resumes(self, run):
        invoke("evaluate", run)
        invoke("train", "--resume", run)


class TestCache:
    @pytest.mark.slow
    def test_a_run_from_the_cache_is_the_run_without(self, data, tmp_path):
        scaled = {"normalize": "scran", "min_genes_per_cell": 5}
        plain = train(tmp_path, data, "plain", data__preprocessing=scaled)
        first = train(tmp_path, data, "first", data__preprocessing={**scaled, "cache": str(tmp_path / "cache")})
        (entry,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
        written = entry.stat().st_mtime_ns
        second = train(tmp_path, data, "second", data__preprocessing={**scaled, "cache": str(tmp_path / "cache")})
        assert entry.stat().st_mtime_ns == written
        assert losses(first) == losses(second) == losses(plain)
        for run in (first, second):
            assert (run / "results.jsonl").read_text().count("\n") == (plain / "results.jsonl").read_text().count("\n")
            assert (run / "model/preprocessing.json").read_text() == (plain / "model/preprocessing.json").read_text()

    def test_evaluating_and_resuming_a_run_take_the_cells_from_it(self, data, tmp_path, monkeypatch):
        cache = tmp_path / "cache"
        scaled = {"normalize": "scran", "cache": str(cache)}
        run = train(tmp_path, data, data__preprocessing=scaled, training__max_epochs=1, eval__every_n_epochs=1)
        stored = (run / "results.jsonl").read_text().count("\n")

        def fails(source):
            raise AssertionError("size factors are fitted anew")

        with monkeypatch.context() as patch:
            patch.setattr("scmodelforge.data.preprocess.fit_size_factors", fails)
            scored = [line for line in invoke("evaluate", run, "--json").splitlines() if line.startswith("{")]
            invoke("train", "--resume", run)
        assert len(scored) == stored
        shutil.rmtree(cache)
        without = [line for line in invoke("evaluate", run, "--json").splitlines() if line.startswith("{")]
        assert not cache.exists()
        values = [
            [(record["metric"], record["value"]) for record in map(json.loads, lines)] for lines in (scored, without)
        ]
        assert values[0] == values[1]

    def test_where_it_lies_does_not_make_another_run(self, tmp_path):
        hashes = set()
        for cache in (None, str(tmp_path / "a"), str(tmp_path / "b")):
            data = LocalDataConfig(paths=["cells.h5ad"], preprocessing=PreprocessingConfig(cache=cache))
            hashes.add(config_hash(RunConfig(data=data)))
        assert len(hashes) == 1
