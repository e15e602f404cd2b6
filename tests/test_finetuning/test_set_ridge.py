"""The regression on sets of genes: what it says of conditions is made of others, and has known special cases."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.finetuning.perturbation import prior
from scmodelforge.finetuning.perturbation.prior import fit_set_ridge, set_features

SETS = [[0], [1], [2], [3], [4], [0, 1], [0, 2], [1, 3], [2, 4], [3, 4]]
KNOWN = np.arange(5)
NONE = np.zeros((8, 0))


def changes(*, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """Return changes that add up over genes."""
    rng = np.random.default_rng(seed)
    single = rng.normal(size=(5, 30))
    truth = np.array([single[own].sum(axis=0) for own in SETS])
    return truth + noise * rng.normal(size=truth.shape)


def fit(values: np.ndarray, noise: float, **options):
    noises = np.full(len(values), 30 * noise**2)
    options = {"known": KNOWN, "vectors": NONE, **options}
    return fit_set_ridge(options.pop("sets", SETS), np.zeros(len(values), dtype=int), values, noises, **options)


def test_additive_changes_without_noise_are_found():
    values = changes()
    found = fit(values, 1e-4)
    new = set_features([[1, 2], [0, 4]], KNOWN, NONE) @ found.weights[0]
    assert np.allclose(new, [values[1] + values[2], values[0] + values[4]], atol=0.05)


def test_pure_noise_is_shrunk():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(10, 30))
    found = fit(values, 1.0)
    new = set_features(SETS, KNOWN, NONE) @ found.weights[0]
    assert np.square(new).mean() < 0.3 * np.square(values).mean()


@pytest.mark.parametrize("way", ["without_condition", "without_genes"])
def test_what_is_said_without_conditions_is_a_fit_without_them(way, monkeypatch):
    values = changes(noise=0.3)
    for name in ("_CONSTANT", "_SHARED", "_COMBINED"):
        monkeypatch.setattr(prior, name, (0.1,))
    monkeypatch.setattr(prior, "_ROUNDS", 1)  # else the others choose other variances
    monkeypatch.setattr(prior, "_scale", lambda changes, noises, size: 1.0)
    whole = fit(values, 0.3)
    for row, own in enumerate(SETS):
        shares = [bool(set(own) & set(other)) for other in SETS]
        out = np.arange(len(SETS)) == row if way == "without_condition" else np.array(shares)
        rest = fit(values[~out], 0.3, sets=[other for other, gone in zip(SETS, out, strict=True) if not gone])
        assert np.allclose(set_features([own], KNOWN, NONE) @ rest.weights[0], getattr(whole, way)[row], atol=1e-5)


def test_a_gene_that_was_never_perturbed_is_told_by_its_vector():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(40, 3)) / 3**0.5
    effects = vectors @ rng.normal(size=(3, 30))
    sets = [[gene] for gene in range(30)]
    found = fit(effects[:30], 0.1, sets=sets, known=np.arange(30), vectors=vectors)
    new = set_features([[gene] for gene in range(30, 40)], np.arange(30), vectors) @ found.weights[0]
    assert np.square(new - effects[30:]).mean() < 0.3 * np.square(effects[30:]).mean()


def test_a_covariate_learns_from_the_other():
    rng = np.random.default_rng(3)
    effects = rng.normal(size=(12, 30))
    sets = [[gene] for gene in range(12)] + [[gene] for gene in range(6)]
    covariates = np.array([0] * 12 + [1] * 6)
    values = np.concatenate([effects, 0.9 * effects[:6]])
    found = fit_set_ridge(
        sets, covariates, values, np.full(18, 0.3), known=np.arange(12), vectors=np.zeros((12, 0)), num_covariates=2
    )
    new = set_features([[gene] for gene in range(6, 12)], np.arange(12), np.zeros((12, 0))) @ found.weights[1]
    assert np.square(new - 0.9 * effects[6:]).mean() < 0.1 * np.square(effects[6:]).mean()


def test_the_order_of_genes_has_no_effect():
    assert np.array_equal(set_features([[3, 1]], KNOWN, NONE), set_features([[1, 3]], KNOWN, NONE))


def test_a_condition_is_left_out_at_all_its_doses(monkeypatch):
    values = np.concatenate([changes(noise=0.3), changes(noise=0.3, seed=1)])
    for name in ("_CONSTANT", "_SHARED", "_COMBINED"):
        monkeypatch.setattr(prior, name, (0.1,))
    monkeypatch.setattr(prior, "_ROUNDS", 1)
    monkeypatch.setattr(prior, "_scale", lambda changes, noises, size: 1.0)
    whole = fit(values, 0.3, sets=SETS * 2)
    for row, own in enumerate(SETS):
        is_kept = np.array([other != own for other in SETS * 2])
        rest = fit(values[is_kept], 0.3, sets=[other for other in SETS * 2 if other != own])
        expected = set_features([own], KNOWN, NONE) @ rest.weights[0]
        for place in (row, row + len(SETS)):
            assert np.allclose(expected, whole.without_condition[place], atol=1e-5)
