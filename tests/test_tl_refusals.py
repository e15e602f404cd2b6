"""Labels of cells, and what neither function takes: the words, and that the object is as it was."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import torch

import scmodelforge as smf
from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from tests.test_tl import assert_same, cells
from tests.test_workflows.ready_models import TYPES, labelling_model, ready_model


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
def path(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


class TestAnnotate:
    def test_labels_and_confidences_are_those_of_the_head(self, adata, labelling):
        given = adata.copy()
        assert smf.tl.annotate(given, labelling) is None
        label, confidence = given.obs["scmodelforge_label"], given.obs["scmodelforge_confidence"]
        assert list(label.cat.categories) == [*TYPES, "unknown"]
        assert confidence.dtype == np.float32
        assert label.nunique() > 1
        assert (confidence >= np.float32(1 / 3)).all()
        assert (confidence <= 1).all()
        assert set(given.uns) == {"scmodelforge_label"}
        assert list(given.obsm) == []
        given.obs = given.obs.drop(columns=["scmodelforge_label", "scmodelforge_confidence"])
        del given.uns["scmodelforge_label"]
        assert_same(given, adata)

    def test_doubtful_cells_and_those_without_known_genes_are_unknown(self, adata, labelling):
        counts = adata.X.toarray()
        counts[3] = 0
        given = ad.AnnData(counts, adata.obs, adata.var)
        smf.tl.annotate(given, labelling)
        least = float(np.nanmedian(given.obs["scmodelforge_confidence"]))
        sure = given.obs["scmodelforge_confidence"] >= least
        smf.tl.annotate(given, labelling, min_confidence=least, unknown="?", key_added="my")
        assert np.isnan(given.obs["my_confidence"].iloc[3])
        assert (given.obs["scmodelforge_label"] == "unknown").to_numpy().nonzero()[0].tolist() == [3]
        assert ((given.obs["my_label"] == "?") == ~sure).all()
        assert given.obs["my_label"][sure].astype(str).equals(given.obs["scmodelforge_label"][sure].astype(str))
        assert given.uns["my_label"]["min_confidence"] == least

    def test_a_backed_object_and_a_view_give_the_same(self, adata, labelling, path):
        expected = smf.tl.annotate(adata, labelling, copy=True).obs["scmodelforge_confidence"].to_numpy()
        backed = ad.read_h5ad(path, backed="r")
        smf.tl.annotate(backed, labelling)
        np.testing.assert_array_equal(backed.obs["scmodelforge_confidence"], expected)
        found = smf.tl.annotate(adata[10:20], labelling, copy=True)
        np.testing.assert_array_equal(found.obs["scmodelforge_confidence"], expected[10:20])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"min_confidence": 1.5}, "min_confidence is 1.5; a probability is needed"),
            ({"unknown": "type1"}, "'type1' is a cell type of the model; choose another word"),
            ({"unknown": ""}, "unknown is empty"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, adata, labelling, options, message):
        with pytest.raises(ConfigError, match=message):
            smf.tl.annotate(adata, labelling, **options)

    def test_a_model_without_labels_says_what_to_do(self, adata, model):
        with pytest.raises(ConfigError, match=r"has learned no cell types .*; give one that has"):
            smf.tl.annotate(adata, model)


class TestErrors:
    """Of each the words, and that the object is as it was."""

    @pytest.mark.parametrize(
        ("change", "options", "message"),
        [
            (lambda a: a.X.data.__setitem__(5, np.nan), {}, "has NaN for gene"),
            (lambda a: a.X.data.__setitem__(5, -1), {}, "a negative value"),
            (lambda a: a.X.data.__setitem__(slice(None), 0.0), {}, "cells are empty"),
            (
                lambda a: setattr(a, "var_names", [f"x{i}" for i in range(30)]),
                {},
                "set gene_id_column to the var column",
            ),
            (lambda a: None, {"layer": "counts"}, r"adata has no layer 'counts' \(layer\).* There are: X"),
            (lambda a: None, {"gene_id_column": "id"}, r"var has no column 'id' \(gene_id_column\)"),
            (lambda a: None, {"batch_size": 0}, "batch_size is 0; a whole number of at least 1"),
        ],
    )
    def test_of_the_cells(self, adata, model, labelling, change, options, message):
        given = adata.copy()
        change(given)
        before = given.copy()
        for act, of in ((smf.tl.embed, model), (smf.tl.annotate, labelling)):
            with pytest.raises((ConfigError, DataError), match=message) as caught:
                act(given, of, **options)
            assert "data." not in str(caught.value)
            assert "\n" not in str(caught.value)
        assert_same(given, before)

    def test_logged_values_are_refused_where_the_model_takes_the_logarithm(self, adata):
        config = PreprocessingConfig(normalize="library_size", log1p=True)
        logged = ad.AnnData(np.log1p(1e4 * adata.X.toarray() / adata.X.sum(axis=1).A1[:, None]), adata.obs, adata.var)
        for model in (ready_model(), ready_model(tokenizer={"strategy": "continuous_projection", "max_genes": 20})):
            model.preprocessor = Preprocessor(config)
            with pytest.raises(DataError, match=r"look log1p .* holds counts in layer"):
                smf.tl.embed(logged, model)

    @pytest.mark.parametrize("name", [3, "", None, "a/b"])
    def test_of_names_that_a_file_cannot_hold(self, adata, model, labelling, name):
        before = adata.copy()
        for call, own in ((smf.tl.embed, model), (smf.tl.annotate, labelling)):
            with pytest.raises(ConfigError, match=r"key_added is .*; a name is needed"):
                call(before, own, key_added=name)
        assert_same(before, adata)

    def test_few_known_genes_and_cells_without_any_are_warned_of(self, adata, model, caplog):
        other = adata.copy()
        other.var_names = [*adata.var_names[:1], *(f"nothing{number}" for number in range(adata.n_vars - 1))]
        other.X = other.X.multiply(np.arange(adata.n_obs)[:, None] != 2).tocsr()
        smf.tl.embed(other, model)
        assert f"Only 1 of the {adata.n_vars} genes of adata are in the model's vocabulary" in caplog.text
        assert "check gene_id_column." in caplog.text
        assert "cells have no gene that the model knows" in caplog.text or "are empty" in caplog.text

    def test_no_cells_and_no_matrix(self, adata, model):
        with pytest.raises(DataError, match="adata has no cells; at least one is needed"):
            smf.tl.embed(adata[:0].copy(), model)
        with pytest.raises(DataError, match="adata has no expression matrix"):
            smf.tl.embed(ad.AnnData(obs=adata.obs, var=adata.var), model)

    def test_of_the_model_and_the_object(self, adata, model, tmp_path):
        with pytest.raises(ConfigError, match="model is a int; give the address"):
            smf.tl.embed(adata, 3)
        with pytest.raises(DataError, match="neither a model folder nor a run folder"):
            smf.tl.embed(adata, tmp_path)
        with pytest.raises(ConfigError, match="adata is a str; an AnnData object is needed"):
            smf.tl.embed("cells.h5ad", model)

    def test_a_model_that_gives_nan_leaves_the_object_alone(self, adata):
        model, given = ready_model(), adata.copy()
        with torch.no_grad():
            model.model.encoder.final_norm.weight.fill_(float("nan"))
        with pytest.raises(DataError, match="NaN or infinite embeddings"):
            smf.tl.embed(given, model)
        assert_same(given, adata)
        assert threads_of_loaders() == []

    @pytest.mark.parametrize("part", [slice(None), slice(5, 20)])
    def test_nothing_of_a_backed_file_stays_open_but_what_was(self, adata, model, tmp_path, part):
        path = tmp_path / "cells.h5ad"
        adata.write_h5ad(path)
        backed = ad.read_h5ad(path, backed="r")
        before = descriptors_of(path)
        bad = ready_model()
        with torch.no_grad():
            bad.model.encoder.final_norm.weight.fill_(float("nan"))
        for _ in range(2):
            with pytest.raises(DataError, match="NaN or infinite embeddings"):
                smf.tl.embed(backed[part], bad, copy=True)
            smf.tl.embed(backed[part], model, copy=True)
            with pytest.raises(DataError, match="no layer 'none'"):
                smf.tl.embed(backed[part], model, layer="none", copy=True)
        backed.file.open()
        assert len(descriptors_of(path)) == len(before)
        backed.file.close()
        with h5py.File(path, "r+") as file:
            file["X/data"][0] = 2

    def test_a_matrix_of_another_library_is_named(self, adata, model):
        given = adata.copy()
        given.layers["masked"] = adata.X.toarray()
        given.layers._data["masked"] = np.ma.masked_array(adata.X.toarray())
        with pytest.raises(DataError, match=r"adata: layers.masked is a numpy MaskedArray; a NumPy array or a sparse"):
            smf.tl.embed(given, model, layer="masked")


def descriptors_of(path: Path) -> list[str]:
    found = Path("/proc/self/fd")
    if not found.is_dir():
        pytest.skip("this system does not tell which files are open")
    return [link.name for link in found.iterdir() if link.exists() and link.resolve() == path.resolve()]


def threads_of_loaders() -> list[str]:
    import threading

    return [thread.name for thread in threading.enumerate() if "scmodelforge-loader" in thread.name]
