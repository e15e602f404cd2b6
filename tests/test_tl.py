"""Models on AnnData objects: what is added, that nothing else changes, and that numbers depend on the cell alone."""

from __future__ import annotations

import copy

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import scmodelforge as smf
from scmodelforge._errors import ConfigError, DataError
from scmodelforge.hub import save_bundle
from tests.conftest import make_adata
from tests.test_workflows.ready_models import GENES, TYPES, labelling_model, ready_model

KEY = "X_scmodelforge"


def cells(num_cells: int = 60, *, seed: int = 0) -> ad.AnnData:
    """Return cells that express from one to all genes, so that batches have padding."""
    adata = make_adata(num_cells, len(GENES), seed=seed)
    rng = np.random.default_rng(seed + 1)
    counts = adata.X.toarray() * (rng.random(adata.shape) < rng.random((num_cells, 1)))
    counts[:, 0] += 1
    adata.X = sp.csr_matrix(counts.astype(np.float32))
    return adata


def embedding(adata: ad.AnnData, model, **options) -> np.ndarray:
    return smf.tl.embed(adata, model, copy=True, **options).obsm[KEY]


def with_halves(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return a matrix of which each value is stored as two halves, genes in no order."""
    rng = np.random.default_rng(0)
    rows = [np.repeat(matrix.indices[a:b], 2) for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)]
    values = [np.repeat(matrix.data[a:b] / 2, 2) for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)]
    order = [rng.permutation(len(row)) for row in rows]
    parts = (np.concatenate([part[i] for part, i in zip(each, order, strict=True)]) for each in (values, rows))
    return sp.csr_matrix((*parts, 2 * matrix.indptr), shape=matrix.shape)


def assert_same(first: ad.AnnData, second: ad.AnnData) -> None:
    pd.testing.assert_frame_equal(first.obs, second.obs)
    pd.testing.assert_frame_equal(first.var, second.var)
    assert list(first.obsm) == list(second.obsm)
    assert list(first.layers) == list(second.layers)
    assert dict(first.uns) == dict(second.uns)
    if first.X is not None and not first.isbacked:
        np.testing.assert_array_equal(*(sp.csr_matrix(each.X).toarray() for each in (first, second)))


@pytest.fixture(scope="module")
def model():
    return ready_model()


@pytest.fixture(scope="module")
def labelling():
    return labelling_model()


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    return cells()


@pytest.fixture(scope="module")
def expected(adata, model) -> np.ndarray:
    return embedding(adata, model)


@pytest.fixture(scope="module")
def path(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


class TestWhatIsWritten:
    def test_embeddings_and_where_they_come_from_and_nothing_else(self, adata, model):
        given = adata.copy()
        given.obsm["X_pca"] = np.ones((60, 2))
        given.uns["mine"] = 1
        before = given.copy()
        assert smf.tl.embed(given, model) is None
        rows = given.obsm.pop(KEY)
        assert (rows.shape, rows.dtype) == ((60, 16), np.float32)
        assert np.isfinite(rows).all()
        facts = given.uns.pop(KEY)
        assert facts["model_id"] == "000000000000@7"
        assert (facts["genes_known"], facts["genes_total"], facts["cells_without_known_genes"]) == (30, 30, 0)
        assert (facts["architecture"], facts["scmodelforge_version"]) == ("transformer_encoder", smf.__version__)
        assert '"normalize": null' in facts["preprocessing"]
        assert_same(given, before)

    def test_a_copy_leaves_the_object_alone(self, adata, model, expected):
        before = adata.copy()
        found = smf.tl.embed(adata, model, key_added="X_mine", copy=True)
        np.testing.assert_array_equal(found.obsm["X_mine"], expected)
        assert "X_mine" in found.uns
        assert_same(adata, before)

    def test_what_is_written_can_be_saved(self, adata, labelling, tmp_path):
        found = smf.tl.annotate(smf.tl.embed(adata, labelling, copy=True), labelling, copy=True)
        found.write_h5ad(tmp_path / "out.h5ad")
        again = ad.read_h5ad(tmp_path / "out.h5ad")
        np.testing.assert_array_equal(again.obsm[KEY], found.obsm[KEY])
        assert list(again.obs["scmodelforge_label"].cat.categories) == [*TYPES, "unknown"]
        assert again.uns["scmodelforge_label"]["label_column"] == "cell_type"

    def test_the_model_may_be_an_address(self, adata, model, expected, tmp_path):
        save_bundle(tmp_path / "model", model, card="")
        for address in (tmp_path / "model", str(tmp_path / "model")):
            given = adata.copy()
            smf.tl.embed(given, address)
            np.testing.assert_array_equal(given.obsm[KEY], expected)
            assert given.uns[KEY]["model"] == str(address)

    def test_cells_without_a_known_gene_are_nan_and_counted(self, adata, model, expected):
        counts = adata.X.toarray()
        counts[[3, 59]] = 0
        given = ad.AnnData(counts, adata.obs, adata.var)
        smf.tl.embed(given, model)
        assert np.isnan(given.obsm[KEY][[3, 59]]).all()
        assert given.uns[KEY]["cells_without_known_genes"] == 2
        np.testing.assert_array_equal(*(np.delete(rows, [3, 59], axis=0) for rows in (given.obsm[KEY], expected)))

    def test_the_model_is_left_as_it_was(self, adata):
        model = ready_model()
        model.model.train()
        weights = copy.deepcopy(model.model.state_dict())
        smf.tl.embed(adata.copy(), model)
        assert model.model.training
        assert all(torch.equal(weights[name], own) for name, own in model.model.state_dict().items())


class TestKindsOfObjects:
    @pytest.mark.parametrize("kind", ["dense", "fortran", "csc", "float64", "int64", "csr_array"])
    def test_all_matrices_give_the_same_bits(self, adata, model, expected, kind):
        dense = adata.X.toarray()
        made = {
            "dense": dense,
            "fortran": np.asfortranarray(dense),
            "csc": adata.X.tocsc(),
            "float64": adata.X.astype(np.float64),
            "int64": adata.X.astype(np.int64),
            "csr_array": sp.csr_array(adata.X),
        }
        np.testing.assert_array_equal(embedding(ad.AnnData(made[kind], adata.obs, adata.var), model), expected)

    @pytest.mark.parametrize("kind", ["memory", "backed", "part of backed"])
    def test_a_gene_that_a_cell_has_twice_is_the_sum(self, adata, model, tmp_path, kind):
        once = adata.copy()
        once.X.data *= 2
        twice = once.copy()
        twice.X = with_halves(once.X)
        assert twice.X.nnz == 2 * once.X.nnz
        twice.write_h5ad(tmp_path / "twice.h5ad")
        before = twice.X.copy()
        if kind != "memory":
            twice = ad.read_h5ad(tmp_path / "twice.h5ad", backed="r")
        rows = slice(None) if kind != "part of backed" else slice(7, 30)
        given = twice if kind != "part of backed" else twice[rows]
        np.testing.assert_array_equal(embedding(given, model), embedding(once, model)[rows])
        if kind == "memory":  # as it was
            np.testing.assert_array_equal(twice.X.indices, before.indices)
            np.testing.assert_array_equal(twice.X.data, before.data)

    def test_counts_are_found_as_in_a_file(self, adata, model, expected):
        given = ad.AnnData(sp.csr_matrix(np.log1p(adata.X)), adata.obs, adata.var)
        given.raw = adata.copy()
        np.testing.assert_array_equal(embedding(given, model), expected)
        given.raw = None
        given.layers["umi/all"] = adata.X.tocsc()
        np.testing.assert_array_equal(embedding(given, model), expected)
        np.testing.assert_array_equal(embedding(given, model, layer="umi/all"), expected)
        given.X = None
        np.testing.assert_array_equal(embedding(given, model), expected)

    def test_genes_are_found_in_a_column(self, adata, model, expected):
        given = adata.copy()
        given.var["own"] = given.var_names
        given.var_names = [f"number {i}" for i in range(30)]
        np.testing.assert_array_equal(embedding(given, model, gene_id_column="own"), expected)

    def test_a_view_equals_its_rows_and_becomes_an_object(self, adata, model, expected):
        rows = np.array([40, 3, 17, 58])
        np.testing.assert_array_equal(embedding(adata[rows], model), expected[rows])
        view = adata[rows]
        with pytest.warns(ad.ImplicitModificationWarning):
            smf.tl.embed(view, model)
        np.testing.assert_array_equal(view.obsm[KEY], expected[rows])
        assert not view.is_view
        assert KEY not in adata.obsm

    @pytest.mark.parametrize("mode", ["r", "r+"])
    @pytest.mark.parametrize("form", ["csr", "dense"])
    def test_a_backed_object_gives_the_same_bits(self, adata, model, expected, tmp_path, mode, form):
        given = adata.copy()
        given.X = adata.X if form == "csr" else adata.X.toarray()
        given.raw = adata.copy()
        given.write_h5ad(tmp_path / "cells.h5ad")
        backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed=mode)
        for layer in (None, "raw"):
            assert smf.tl.embed(backed, model, layer=layer) is None
            np.testing.assert_array_equal(backed.obsm[KEY], expected)
        assert backed.isbacked
        backed.file.close()

    def test_what_was_changed_in_memory_of_a_backed_object_counts(self, adata, model, expected, path):
        backed = ad.read_h5ad(path, backed="r")
        backed.var_names = [f"strange{i}" for i in range(30)]
        with pytest.raises(DataError, match="None of the 30 genes"):
            smf.tl.embed(backed, model)
        backed.var_names = [str(i) for i in range(30)]
        backed.var["feature_id"] = adata.var_names
        smf.tl.embed(backed, model)
        np.testing.assert_array_equal(backed.obsm[KEY], expected)

    def test_a_part_of_a_backed_object_is_read_by_its_rows(self, adata, model, expected, path):
        backed = ad.read_h5ad(path, backed="r")
        rows, genes = np.array([40, 3, 17, 58]), np.array([0, *range(20, 9, -1)])
        found = smf.tl.embed(backed[rows], model, copy=True)
        np.testing.assert_array_equal(found.obsm[KEY], expected[rows])
        assert not found.isbacked
        few = embedding(backed[rows, genes], model)
        np.testing.assert_array_equal(few, embedding(adata[rows, genes], model))
        is_first = (backed.obs["cell_type"] == "type1").to_numpy()
        np.testing.assert_array_equal(embedding(backed[is_first], model), expected[is_first])
        assert backed.X[:2].shape == (2, 30)  # its file is open as before

    def test_a_part_of_a_backed_object_cannot_hold_results(self, model, path):
        backed = ad.read_h5ad(path, backed="r")
        with pytest.raises(ConfigError, match="cannot hold results; copy=True"):
            smf.tl.embed(backed[:5], model)

    def test_a_backed_matrix_by_columns_is_refused(self, adata, model, tmp_path):
        given = adata.copy()
        given.X = adata.X.tocsc()
        given.write_h5ad(tmp_path / "cells.h5ad")
        backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        for each, options in ((backed, {}), (backed[:5], {"copy": True})):
            with pytest.raises(DataError, match="stored by columns"):
                smf.tl.embed(each, model, **options)


def test_tl_is_there_and_not_imported_before_it_is_asked_for():
    import subprocess
    import sys

    code = "import sys, scmodelforge as smf; print('scmodelforge.tl' in sys.modules, smf.tl.embed.__name__)"
    code += "; print('torch' in sys.modules, 'tl' in dir(smf))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "embed", "False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'pl'"):
        smf.pl  # noqa: B018
