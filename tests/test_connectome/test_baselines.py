from __future__ import annotations

import numpy as np
import pytest

from scmodelforge._registry import CONNECTOME_BASELINES
from scmodelforge.connectome import (
    Baseline,
    RegionPairDataset,
    get_baseline,
    list_baselines,
    region_wise_split,
    register_baseline,
    split_regions,
)
from scmodelforge.connectome.baselines.features import bilinear_features
from scmodelforge.connectome.baselines.kronecker import _Solution
from scmodelforge.connectome.baselines.search import best_candidate, inner_folds
from tests.test_connectome.brains import arguments, brain

SLOW = ("mlp", "mlp_coords", "gradient_boosting", "gradient_boosting_coords")
every_baseline = pytest.mark.parametrize("name", list_baselines())
linear_baselines = pytest.mark.parametrize("name", [name for name in list_baselines() if name not in SLOW])


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few epochs and trees: what is tested here does not depend on how well they fit."""
    from scmodelforge.connectome.baselines.learned import GradientBoosting, MultilayerPerceptron

    patch = pytest.MonkeyPatch()
    for part, few in ((MultilayerPerceptron, {"max_iter": 2}), (GradientBoosting, {"max_iter": 3})):
        full = part._regressor
        patch.setattr(part, "_regressor", lambda self, *given, full=full, few=few: full(self, *given).set_params(**few))
    yield
    patch.undo()


def test_those_of_the_reference_are_there():
    wanted = {"mean", "cge", "gaussian_kernel", "exponential_decay", "ridge", "bilinear", "pls", "kronecker_ridge"}
    assert wanted <= set(list_baselines())


def changed(data: RegionPairDataset, split, *, genes: bool) -> RegionPairDataset:
    """Return the data with other connectivity of all pairs that are not of training, and other held-out genes."""
    random = np.random.default_rng(9)
    x, coords, noise = data.X.numpy().copy(), data.coords.numpy().copy(), random.normal(size=data.Y.shape)
    y, kept, out = (noise + noise.T) / 2, np.ix_(split.train_regions, split.train_regions), split.test_regions
    y[kept] = data.Y.numpy()[kept]
    if genes:
        x[out] = random.uniform(size=x[out].shape)
        coords[out] = coords[out[::-1]]
    networks = data.networks.tolist()
    return RegionPairDataset(x, y, coords, data.valid2true_mapping, "toy", "toy", data.valid_genes, networks=networks)


class TestNothingLeaks:
    @every_baseline
    def test_predictions_do_not_depend_on_connectivity_outside_training(self, name):
        data = brain(24, 8)
        split = split_regions(data, 0.25)
        other = changed(data, split, genes=False)
        assert not np.allclose(other.targets(split.inner), data.targets(split.inner))
        found = [get_baseline(name).fit(each, split.train).predict(each, split.inner) for each in (data, other)]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)

    @every_baseline
    def test_what_is_fitted_does_not_depend_on_held_out_genes_and_places(self, name):
        data = brain(24, 8)
        split = split_regions(data, 0.25)
        fits = [get_baseline(name).fit(each, split.train) for each in (data, changed(data, split, genes=True))]
        assert fits[0].chosen == pytest.approx(fits[1].chosen)
        np.testing.assert_allclose(*(fit.predict(data, split.inner) for fit in fits), rtol=1e-9, atol=1e-12)

    def test_the_change_would_show(self):
        data = brain(24, 8)
        split = split_regions(data, 0.25)
        everything = np.arange(len(data))
        found = [
            get_baseline("ridge").fit(each, everything).predict(data, split.inner)
            for each in (data, changed(data, split, genes=False))
        ]
        assert not np.allclose(*found)

    def test_inner_folds_share_no_region(self):
        data = brain(24)
        train, _ = region_wise_split(data, 0.25)
        folds = list(inner_folds(data, train, seed=0))
        assert len(folds) == 5
        for fit_on, held in folds:
            assert set(fit_on) | set(held) <= set(train)
            assert not set(data.pairs(fit_on).ravel()) & set(data.pairs(held).ravel())

    def test_inner_folds_keep_together_what_the_split_does(self):
        data = brain(24)  # regions k and 12 + k mirror each other
        train = split_regions(data, 0.25, "homotopic").train
        for fit_on, held in inner_folds(data, train, seed=0, strategy="homotopic"):
            assert not set((data.pairs(held).ravel() + 12) % 24) & set(data.pairs(fit_on).ravel())

    @pytest.mark.parametrize("strategy", ["spatial", "homotopic", "network"])
    def test_hyperparameters_are_chosen_by_the_strategy_of_the_split(self, strategy):
        data = brain(24, 8)
        split = split_regions(data, 0.25, strategy)
        fits = [
            get_baseline("ridge", strategy=strategy).fit(each, split.train)
            for each in (data, changed(data, split, genes=False))
        ]
        np.testing.assert_allclose(*(fit.predict(data, split.inner) for fit in fits), rtol=1e-9, atol=1e-12)


class TestPredictions:
    @every_baseline
    def test_are_the_same_either_way_round_without_direction(self, name):
        data = brain(16, 8)
        train, test = region_wise_split(data, 0.4)
        fitted = get_baseline(name).fit(data, train)
        np.testing.assert_allclose(fitted.predict(data, test), fitted.predict(data, test ^ 1), atol=1e-9)

    @every_baseline
    def test_are_the_same_for_a_seed(self, name):
        data = brain(16, 8)
        train, test = region_wise_split(data, 0.4)
        found = [get_baseline(name, seed=3).fit(data, train).predict(data, test) for _ in range(2)]
        np.testing.assert_array_equal(*found)

    @every_baseline
    def test_do_not_depend_on_the_other_pairs_that_are_asked_for(self, name):
        data = brain(16, 8)
        train, test = region_wise_split(data, 0.4)
        fitted = get_baseline(name).fit(data, train)
        np.testing.assert_allclose(fitted.predict(data, test)[4:7], fitted.predict(data, test[4:7]))

    @every_baseline
    def test_exist_for_few_regions_and_genes_and_pairs_of_any_choice(self, name):
        data = brain(6, 2)
        fitted = get_baseline(name).fit(data, [data.index_of(1, 0), data.index_of(2, 3), data.index_of(1, 2)])
        assert np.isfinite(fitted.predict(data, range(len(data)))).all()

    @every_baseline
    def test_exist_for_a_gene_that_does_not_vary(self, name):
        x = arguments(14, 6)["X"]
        x[:, 2] = 0.5
        data = brain(14, 6, X=x)
        train, test = region_wise_split(data, 0.3)
        assert np.isfinite(get_baseline(name).fit(data, train).predict(data, test)).all()

    @pytest.mark.parametrize("name", ["bilinear", "ridge", "kronecker_ridge", "pls", "mlp"])
    def test_have_a_direction_where_connectivity_has_one(self, name):
        given = arguments(20, 4, directed=True)
        sends = given["X"][:, 0]
        data = RegionPairDataset(**{**given, "Y": np.tile(sends[:, None], (1, 20))})
        fitted = get_baseline(name).fit(data, range(len(data)))
        forward, back = (fitted.predict(data, indices) for indices in (np.arange(0, 380, 2), np.arange(1, 380, 2)))
        true = data.targets(np.arange(0, 380, 2)) - data.targets(np.arange(1, 380, 2))
        assert np.corrcoef(forward - back, true)[0, 1] > 0.3


def held_out_r(name: str, data: RegionPairDataset) -> float:
    train, test = region_wise_split(data, 0.3)
    found = get_baseline(name).fit(data, train).predict(data, test)
    return float(np.corrcoef(found, data.targets(test))[0, 1])


class TestRules:
    """Each baseline finds the rule that it is made for, on regions it has not seen."""

    def test_the_mean_is_that_of_training(self):
        data = brain()
        train, test = region_wise_split(data)
        found = get_baseline("mean").fit(data, train).predict(data, test)
        np.testing.assert_allclose(found, data.targets(train).mean())

    @pytest.mark.parametrize(
        ("name", "decay"),
        [("exponential_decay", lambda d: np.exp(-d / 25)), ("gaussian_kernel", lambda d: np.exp(-((d / 25) ** 2) / 2))],
    )
    def test_decay_over_folded_distance(self, name, decay):
        given = arguments(20)
        at = np.abs(given["coords"]) * (1, 0, 0) + given["coords"] * (0, 1, 1)
        y = 0.3 + 2 * decay(np.linalg.norm(at[:, None] - at[None], axis=-1))
        data = RegionPairDataset(**{**given, "Y": y})
        train, test = region_wise_split(data, 0.3)
        fitted = get_baseline(name).fit(data, train)
        assert fitted.chosen["scale"] == pytest.approx(25, rel=1e-3)
        np.testing.assert_allclose(fitted.predict(data, test), data.targets(test), atol=1e-4)

    def test_a_line_through_correlated_expression(self):
        given = arguments(20, 8)
        data = RegionPairDataset(**{**given, "Y": 0.2 + 3 * np.corrcoef(given["X"])})
        train, test = region_wise_split(data, 0.3)
        np.testing.assert_allclose(
            get_baseline("cge").fit(data, train).predict(data, test), data.targets(test), atol=1e-5
        )

    def test_a_sum_over_regions(self):
        given = arguments(40, 4)
        strong = given["X"] @ [1.0, -2.0, 0.5, 1.0]
        assert held_out_r("ridge", RegionPairDataset(**{**given, "Y": np.add.outer(strong, strong)})) > 0.99

    @pytest.mark.parametrize("name", ["bilinear", "pls"])
    def test_a_bilinear_form(self, name):
        given = arguments(60, 4)
        form = np.random.default_rng(5).normal(size=(4, 4))
        data = RegionPairDataset(**{**given, "Y": given["X"] @ (form + form.T) @ given["X"].T})
        assert held_out_r(name, data) > 0.99

    def test_a_product_of_smooth_functions_of_genes(self):
        given = arguments(80, 2)
        wave = np.sin(6 * given["X"][:, 0]) + given["X"][:, 1] ** 2
        assert held_out_r("kronecker_ridge", RegionPairDataset(**{**given, "Y": np.outer(wave, wave)})) > 0.9

    def test_a_smooth_function_of_places(self):
        given = arguments(80, 2)
        at = given["coords"]
        wave = np.sin(at[:, 1] / 30) + np.cos(np.abs(at[:, 0]) / 30)
        data = RegionPairDataset(**{**given, "Y": np.outer(wave, wave)})
        assert held_out_r("kronecker_ridge_coords", data) > 0.9
        assert held_out_r("kronecker_ridge", data) < 0.5


def test_bilinear_features_are_the_form():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 7, 3))
    form = random.normal(size=(3, 3))
    for is_directed, matrix in ((True, form), (False, form + form.T)):
        features = bilinear_features(first, second, is_directed)
        wanted = np.einsum("nd,de,ne->n", first, matrix, second)
        weights, *_ = np.linalg.lstsq(features, wanted, rcond=None)
        np.testing.assert_allclose(features @ weights, wanted, atol=1e-9)


class TestKroneckerRidge:
    def test_solves_both_ridge_regressions(self):
        data = brain(10)
        everything = np.arange(0, len(data), 2)
        gaps = np.random.default_rng(0).normal(size=(10, 4))
        kernel = np.exp(-((gaps[:, None] - gaps[None]) ** 2).sum(-1))
        solution = _Solution(data, everything, lambda _: kernel)
        y = data.Y.numpy().astype(np.float64) - data.targets().mean()
        solution.y, solution.is_known = y, np.ones((10, 10), dtype=bool)  # the diagonal too, so that nothing is filled
        inverse = np.linalg.inv(1 + kernel + 0.1 * np.eye(10))
        np.testing.assert_allclose(solution.weights(0.1), inverse @ y @ inverse, atol=1e-9)

    def test_does_not_read_the_diagonal(self):
        given = arguments(16)
        found = []
        for value in (0.0, 50.0, np.nan):
            np.fill_diagonal(given["Y"], value)
            data = RegionPairDataset(**given)
            train, test = region_wise_split(data, 0.3)
            found.append(get_baseline("kronecker_ridge").fit(data, train).predict(data, test))
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])

    def test_of_both_takes_the_mean_of_kernels(self):
        fitted = get_baseline("kronecker_ridge_both").fit(brain(16), range(200))
        assert set(fitted.chosen) == {"ridge", "genes_width", "coords_width", "side"}


class TestSearch:
    def test_takes_the_candidate_with_the_least_error(self):
        data = brain(16)
        indices = np.arange(len(data))

        def predict_all(train, held):
            return {shift: data.targets(held) + shift for shift in (0.5, -0.1, 0.3)}

        assert best_candidate(data, indices, predict_all, 0.5, seed=0) == -0.1

    def test_takes_no_candidate_whose_predictions_are_not_finite(self):
        data = brain(16)

        def predict_all(train, held):
            return {0.0: np.full(len(held), np.nan), 0.3: data.targets(held) + 0.3}

        assert best_candidate(data, np.arange(len(data)), predict_all, 0.5, seed=0) == 0.3

    def test_takes_the_default_where_nothing_can_be_compared(self):
        data = brain(16)
        assert best_candidate(data, np.array([0, 1]), lambda train, held: {1.0: data.targets(held)}, 7.0, seed=0) == 7.0


class TestFaults:
    def test_an_unknown_name_lists_those_there_are(self):
        with pytest.raises(ValueError, match=r"unknown connectome baseline 'bilinaer'. Did you mean 'bilinear'.*ridge"):
            get_baseline("bilinaer")

    def test_a_baseline_that_is_not_fitted_says_so(self):
        with pytest.raises(ValueError, match="RidgePCA is not fitted"):
            get_baseline("ridge").predict(brain(), [0])

    def test_an_unknown_strategy_lists_those_there_are(self):
        with pytest.raises(ValueError, match="strategy is 'twins'; one of random, spatial"):
            get_baseline("ridge", strategy="twins").fit(brain(), range(60))

    def test_no_pair_is_too_few(self):
        with pytest.raises(ValueError, match="no pair to fit on"):
            get_baseline("mean").fit(brain(), [])

    @pytest.mark.parametrize("name", [name for name in list_baselines() if name != "cge_distance"])
    def test_coordinates_are_needed_only_by_those_that_use_them(self, name):
        data = brain(12, coords=None)
        baseline = get_baseline(name)
        if baseline.inputs in ("coords", "both"):
            with pytest.raises(ValueError, match="needs coordinates, and the data set has none"):
                baseline.fit(data, range(20))
        else:
            baseline.fit(data, range(20))


def test_others_can_be_added(monkeypatch):
    monkeypatch.setattr(CONNECTOME_BASELINES, "_parts", dict(CONNECTOME_BASELINES._parts))

    @register_baseline("zero")
    class Zero(Baseline):
        inputs = "nothing"

        def _fit(self, data, indices):
            pass

        def _predict(self, data, indices):
            return np.zeros(len(indices))

    assert get_baseline("zero").fit(brain(), [0]).predict(brain(), [1, 2]).tolist() == [0, 0]
