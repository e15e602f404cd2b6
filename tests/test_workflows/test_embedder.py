"""A model in two steps, as users of Helical have them: the embeddings are those of ``scmodelforge embed``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.workflows.embedder import CellEmbedder
from tests.conftest import make_adata
from tests.test_life_cycle import invoke, train


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    make_adata(80, 30).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    return train(tmp_path_factory.mktemp("runs"), data, training__max_epochs=1, eval__benchmarks=[])


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def by_command(path: Path, run: Path, *options: object) -> np.ndarray:
    out = path.with_name("embedded.h5ad")
    invoke("embed", path, out, "--model", run, "--force", *options)
    return ad.read_h5ad(out).obsm["X_scmodelforge"]


def test_embeddings_are_those_of_the_command(run, data):
    embedder = CellEmbedder(run, batch_size=7)
    dataset = embedder.process_data(ad.read_h5ad(data))
    assert len(dataset) == 80
    found = embedder.get_embeddings(dataset)
    assert (found.shape, found.dtype) == ((80, 16), np.float32)
    np.testing.assert_array_equal(found, by_command(data, run, "--batch-size", 7))
    np.testing.assert_array_equal(embedder.get_embeddings(dataset), found)


def test_counts_are_found_where_the_command_finds_them(run, data, tmp_path):
    adata = ad.read_h5ad(data)
    adata.raw = adata.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    adata.obs["anything"] = [object() for _ in range(80)]  # which no file can hold
    embedder, expected = CellEmbedder(run), by_command(data, run)
    for layer in ("counts", "raw", None):
        found = embedder.get_embeddings(embedder.process_data(adata, layer=layer))
        np.testing.assert_array_equal(found, expected)


def test_a_cell_without_known_genes_is_nan_and_the_others_keep_their_rows(run, data):
    adata = ad.read_h5ad(data)
    embedder = CellEmbedder(run)
    expected = embedder.get_embeddings(embedder.process_data(adata))
    counts = adata.X.toarray()
    counts[3] = 0
    adata.X = counts
    found = embedder.get_embeddings(embedder.process_data(adata))
    assert np.isnan(found[3]).all()
    np.testing.assert_allclose(np.delete(found, 3, axis=0), np.delete(expected, 3, axis=0), atol=1e-6)


def test_the_cells_are_left_as_they_are_and_nothing_stays_behind(run, data, temporary):
    adata, before = ad.read_h5ad(data), ad.read_h5ad(data)
    embedder = CellEmbedder(run)
    dataset = embedder.process_data(adata[10:20])
    assert embedder.get_embeddings(dataset).shape == (10, 16)
    assert (adata.X != before.X).nnz == 0
    assert adata.obs.equals(before.obs)
    assert list(temporary.iterdir()) == []


def test_what_a_model_cannot_take_is_refused(run, data, tmp_path, temporary):
    embedder = CellEmbedder(run)
    other = ad.read_h5ad(data)
    other.var_names = [f"strange{i}" for i in range(other.n_vars)]
    with pytest.raises(DataError, match="None of the 30 genes"):
        embedder.process_data(other)
    assert list(temporary.iterdir()) == []
    with pytest.raises(DataError, match="neither a model folder nor a run folder"):
        CellEmbedder(tmp_path)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        CellEmbedder(run, batch_size=0)


def test_columns_of_genes_that_no_file_can_hold_are_no_obstacle(run, data):
    """Texts beside numbers, and objects; ids are read from a column of the first kind all the same."""
    embedder, adata = CellEmbedder(run), ad.read_h5ad(data)
    expected = embedder.get_embeddings(embedder.process_data(adata))
    adata.var["mixed"] = [1, "a"] * 15
    adata.var["anything"] = [object() for _ in range(30)]
    ids = adata.var_names.astype(object)
    adata.raw = adata.copy()
    np.testing.assert_array_equal(embedder.get_embeddings(embedder.process_data(adata)), expected)
    named = adata.copy()
    named.raw = None
    named.var_names = [str(i) for i in range(30)]
    last = adata.copy()
    last.var_names = [*ids[:29], "7"]
    without_last = embedder.get_embeddings(embedder.process_data(last))
    for column in ("feature_id", "own"):  # the first is found
        given = named.copy()
        given.var[column] = [*ids[:29], 7]  # the last is of no gene
        found = embedder.process_data(given, gene_id_column=column if column == "own" else None)
        np.testing.assert_array_equal(embedder.get_embeddings(found), without_last)
    with pytest.raises(DataError, match=r"var has no column 'gene' \(gene_id_column\).* There are: mixed, anything"):
        embedder.process_data(adata, gene_id_column="gene")


def test_a_dataset_of_another_model_is_refused(run, data, tmp_path):
    other = train(tmp_path, data, training__max_epochs=1, training__seed=5, eval__benchmarks=[])
    dataset = CellEmbedder(other).process_data(ad.read_h5ad(data))
    with pytest.raises(DataError, match="the dataset was processed for model"):
        CellEmbedder(run).get_embeddings(dataset)
