"""Guides and responding cells through pertpy; .ci/full installs pertpy for these tests."""

from __future__ import annotations

import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.data.obs_filter import ObsFilter
from scmodelforge.data.perturbation import assign_guides, find_perturbation_columns, mixscape
from tests.conftest import make_adata
from tests.test_data.h5ad_files import open_files, write

pytestmark = pytest.mark.filterwarnings("default")  # those of pertpy and of what it imports are not ours

COUNTS = np.array([[9, 0, 0], [6, 7, 0], [0, 0, 12], [1, 2, 0], [8, 0, 5], [0, 5, 0]])
TARGETS = {"STAT1g1": "STAT1", "IRF1g1": "IRF1", "NTg1": "NT"}
NAMES = tuple(TARGETS)


def guide_counts(counts=COUNTS, *, names=NAMES, targets=("STAT1", "IRF1", "NT"), sparse=True) -> ad.AnnData:
    cells = pd.DataFrame(index=[f"cell{n}" for n in range(len(counts))])
    var = pd.DataFrame(index=list(names)) if targets is None else pd.DataFrame({"target_gene": targets}, index=names)
    values = counts.astype(np.float32)
    return ad.AnnData(sp.csr_matrix(values) if sparse else values, obs=cells, var=var)


def column(adata: ad.AnnData, name: str) -> list:
    return [None if pd.isna(value) else value for value in adata.obs[name]]


class TestGuidesByThreshold:
    @pytest.mark.parametrize("sparse", [True, False])
    def test_every_guide_with_enough_counts_is_assigned(self, sparse):
        found = assign_guides(make_adata(6, 5), guide_counts(sparse=sparse))
        assert column(found, "guide") == ["STAT1g1", "STAT1g1+IRF1g1", "NTg1", None, "STAT1g1+NTg1", "IRF1g1"]
        assert column(found, "num_guides") == [1, 2, 1, 0, 2, 1]
        assert column(found, "perturbation") == ["STAT1", "IRF1+STAT1", "control", None, "STAT1", "IRF1"]
        assert column(found, "is_control") == [False, False, True, False, False, False]

    def test_the_threshold_is_the_least_number_of_counts(self):
        found = assign_guides(make_adata(6, 5), guide_counts(), threshold=7)
        assert column(found, "guide") == ["STAT1g1", "IRF1g1", "NTg1", None, "STAT1g1", None]

    def test_the_cells_given_are_not_changed(self):
        cells = make_adata(6, 5)
        before = list(cells.obs)
        assign_guides(cells, guide_counts())
        assert list(cells.obs) == before

    def test_cells_are_matched_by_name(self):
        guides = guide_counts()[[5, 3, 1, 0, 2, 4]]
        assert column(assign_guides(make_adata(6, 5), guides), "num_guides") == [1, 2, 1, 0, 2, 1]

    def test_features_of_the_data_themselves_may_be_guides(self):
        cells = make_adata(6, 5)
        both = ad.concat([cells, guide_counts()], axis=1, merge="first")
        both.var["feature_types"] = ["Gene Expression"] * 5 + ["CRISPR Guide Capture"] * 3
        assert column(assign_guides(both, targets=TARGETS), "num_guides") == [1, 2, 1, 0, 2, 1]

    def test_so_may_a_data_frame_in_obsm(self):
        cells = make_adata(6, 5)
        cells.obsm["guides"] = pd.DataFrame(COUNTS, index=cells.obs_names, columns=list(TARGETS))
        assert column(assign_guides(cells, "guides", targets=TARGETS), "num_guides") == [1, 2, 1, 0, 2, 1]

    def test_a_function_may_tell_targets(self):
        found = assign_guides(make_adata(6, 5), guide_counts(targets=None), targets=lambda guide: guide[:-2])
        assert column(found, "perturbation")[:3] == ["STAT1", "IRF1+STAT1", "control"]

    def test_two_guides_of_one_gene_are_one_perturbation(self):
        found = assign_guides(make_adata(6, 5), guide_counts(targets=["A", "A", "NT"]))
        assert column(found, "perturbation")[1] == "A"

    def test_filters_and_conventions_understand_what_comes_out(self, tmp_path):
        found = assign_guides(make_adata(6, 5), guide_counts())
        source = open_files(write(tmp_path, found))
        kept = ObsFilter("num_guides == 1 and not is_control and perturbation != 'IRF1'").keeps(source)
        assert np.flatnonzero(kept).tolist() == [0]
        columns = find_perturbation_columns(found.obs)
        assert (columns.perturbation, columns.control, columns.separator) == ("perturbation", "control", "+")
        assert (columns.guide, columns.num_guides) == ("guide", "num_guides")


class TestOtherMethods:
    def test_max_assigns_the_guide_with_most_counts(self):
        found = assign_guides(make_adata(6, 5), guide_counts(), method="max")
        assert column(found, "guide") == ["STAT1g1", "IRF1g1", "NTg1", None, "STAT1g1", "IRF1g1"]

    @pytest.mark.slow
    def test_the_mixture_tells_cells_with_many_counts_from_noise(self):
        rng = np.random.default_rng(0)
        counts = rng.poisson(0.6, (200, 2)).clip(max=1)
        counts[:60, 0] = rng.integers(30, 200, 60)
        counts[60:120, 1] = rng.integers(30, 200, 60)
        guides = guide_counts(counts, names=("Ag1", "Bg1"), targets=("A", "B"))
        found = assign_guides(make_adata(200, 5), guides, method="mixture")
        expected = np.array(["A"] * 60 + ["B"] * 60 + [None] * 80, dtype=object)
        agree = np.array(column(found, "perturbation"), dtype=object) == expected
        assert agree.mean() > 0.95


class TestGuidesRefused:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                {"guides": None},
                r"no feature has 'CRISPR Guide Capture' in var\['feature_types'\]; give the counts",
            ),
            ({"guides": "gides"}, r"obsm has no 'gides'. There are: none"),
            (
                {"guides": guide_counts(COUNTS[:4])},
                r"2 of 6 cells are not among the cells of the guides, .* 'cell4'",
            ),
            ({"guides": guide_counts(COUNTS / 2)}, r"values of the guides are no counts; give raw counts, or name the"),
            ({"guides": guide_counts(targets=None)}, r"no column in var that says what they act on, .* give targets="),
            ({"targets": "target_gen"}, r"no column 'target_gen' \(targets=\). Did you mean 'target_gene'\?"),
            ({"targets": {"IRF1g1": "IRF1"}}, r"targets= lacks 1 of 3 guides, such as 'STAT1g1'; name their targets"),
        ],
    )
    def test_what_cannot_be_used(self, change, words):
        with pytest.raises(DataError, match=words):
            assign_guides(make_adata(6, 5), **{"guides": guide_counts(), **change})

    def test_an_array_in_obsm(self):
        cells = make_adata(6, 5)
        cells.obsm["guides"] = COUNTS
        with pytest.raises(DataError, match=r"obsm\['guides'\] is no data frame, so its guides have no names; give"):
            assign_guides(cells, "guides")

    def test_two_guides_of_one_name(self):
        guides = guide_counts()
        guides.var_names = ["a", "a", "b"]
        with pytest.raises(DataError, match=r"Two guides have the name 'a'; name each differently"):
            assign_guides(make_adata(6, 5), guides)

    def test_an_unknown_method(self):
        with pytest.raises(ConfigError, match=r"method is 'most'; it must be threshold, max or mixture"):
            assign_guides(make_adata(6, 5), guide_counts(), method="most")

    def test_without_pertpy_its_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pertpy", None)
        with pytest.raises(ImportError, match=r"needs the package 'pertpy'.*pip install 'scmodelforge\[pert\]'"):
            assign_guides(make_adata(6, 5), guide_counts())


def screen(*, escaped: int = 20) -> ad.AnnData:
    """Return 80 controls, 60 cells with gene A down of which some escape, and 60 with a guide that does nothing."""
    rng = np.random.default_rng(1)
    means = rng.gamma(4.0, 2.0, 60)
    counts = rng.poisson(means, (200, 60)).astype(np.float32)
    responds = np.zeros(200, dtype=bool)
    responds[80 : 140 - escaped] = True
    counts[np.ix_(responds, np.arange(20))] = rng.poisson(means[:20] * 4, (responds.sum(), 20))
    target = np.array(["non-targeting"] * 80 + ["A"] * 60 + ["idle"] * 60)
    obs = pd.DataFrame(
        {"gene_target": target, "responds": responds, "replicate": np.where(np.arange(200) % 2, "r1", "r2")},
        index=[f"c{n}" for n in range(200)],
    )
    return ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{n}" for n in range(60)]))


class TestMixscape:
    def test_it_tells_responding_cells_from_those_that_escaped(self):
        found = mixscape(screen(), n_neighbors=None)
        of_a = found.obs[found.obs["gene_target"] == "A"]
        assert ((of_a["mixscape_class"] == "A KO") == of_a["responds"]).mean() > 0.95
        assert set(of_a["mixscape_class"]) == {"A KO", "A NP"}
        assert set(found.obs.loc[found.obs["gene_target"] == "idle", "mixscape_class"]) == {"idle NP"}
        is_control = found.obs["gene_target"] == "non-targeting"
        assert (found.obs["is_control"] == is_control).all()
        assert set(found.obs.loc[is_control, "mixscape_class_global"]) == {"non-targeting"}
        assert set(found.obs["mixscape_class_global"]) == {"KO", "NP", "non-targeting"}
        assert ((found.obs["mixscape_p_ko"] > 0.5) == (found.obs["mixscape_class_global"] == "KO")).all()

    def test_the_signature_is_the_mean_of_the_controls_less_the_cell(self):
        cells = screen()
        found = mixscape(cells, n_neighbors=None)
        counts = cells.X.toarray()
        logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
        np.testing.assert_allclose(found.layers["X_pert"], logged[:80].mean(axis=0) - logged, atol=1e-4)

    def test_logged_values_give_the_same_as_their_counts(self):
        cells = screen()
        logged = cells.copy()
        scale = sp.diags(1e4 / np.asarray(cells.X.sum(axis=1)).ravel())
        logged.X = sp.csr_matrix(scale @ cells.X).log1p()
        first, second = (mixscape(adata, n_neighbors=None).obs["mixscape_class"] for adata in (cells, logged))
        assert (first == second).all()

    def test_replicates_are_compared_with_their_own_controls(self):
        cells = screen()
        logged = np.log1p(cells.X.toarray() / cells.X.toarray().sum(axis=1, keepdims=True) * 1e4)
        found = mixscape(cells, n_neighbors=None, split_by="replicate")
        part = (cells.obs["replicate"] == "r1").to_numpy()
        expected = logged[:80][part[:80]].mean(axis=0) - logged[part]
        np.testing.assert_allclose(found.layers["X_pert"][part], expected, atol=1e-4)

    def test_cells_without_a_perturbation_are_left_out(self):
        cells = screen()
        cells.obs["gene_target"] = cells.obs["gene_target"].astype(object)
        cells.obs.iloc[[3, 90], 0] = np.nan
        found = mixscape(cells, n_neighbors=None)
        assert found.obs["mixscape_class"].isna().sum() == found.obs["mixscape_p_ko"].isna().sum() == 2
        assert not found.layers["X_pert"][[3, 90]].any()

    def test_the_kind_of_perturbation_names_the_class(self):
        found = mixscape(screen(), n_neighbors=None, perturbation_type="OE")
        assert {"A OE", "A NP"} <= set(found.obs["mixscape_class"])
        assert "mixscape_p_oe" in found.obs

    @pytest.mark.slow
    def test_with_nearest_controls_too(self):
        found = mixscape(screen(), n_neighbors=10)
        of_a = found.obs[found.obs["gene_target"] == "A"]
        assert ((of_a["mixscape_class"] == "A KO") == of_a["responds"]).mean() > 0.9
        again = mixscape(screen(), n_neighbors=10)
        assert (again.obs["mixscape_class"] == found.obs["mixscape_class"]).all()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"perturbation": "gene_targe"}, r"obs has no column 'gene_targe'. Did you mean 'gene_target'\?"),
            (
                {"control": "nothing"},
                r"column 'gene_target' is 'nothing'; set control= to one that is there: A, idle, non",
            ),
            (
                {"perturbation": "responds"},
                r"column 'responds' is recognised as a control; set control=",
            ),
            ({"split_by": "replica"}, r"no column 'replica' \(split_by=\). Did you mean 'replicate'\?"),
            (
                {"n_neighbors": 81},
                r"obs has 80 control cells \('non-targeting'\), .* compared with 81; lower",
            ),
            ({"n_neighbors": 41, "split_by": "replicate"}, r"'r1' has 40 control cells .* or leave out split_by"),
        ],
    )
    def test_what_cannot_be_used_is_refused(self, change, words):
        with pytest.raises(DataError, match=words):
            mixscape(screen(), **{"n_neighbors": 5, **change})

    def test_data_without_perturbations_are_refused(self):
        with pytest.raises(
            DataError, match=r"No obs column names perturbations; set perturbation= to one of: cell_type"
        ):
            mixscape(make_adata())

    def test_scaled_values_are_refused(self):
        cells = screen()
        cells.X = cells.X.toarray() - 5
        with pytest.raises(DataError, match=r"needs counts or logged values, but these look scaled .* in layer="):
            mixscape(cells)
