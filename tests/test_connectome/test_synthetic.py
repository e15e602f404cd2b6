from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from scmodelforge.connectome import get_baseline, list_baselines, planted_regions, split_regions
from scmodelforge.connectome.synthetic import WINDOW


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def open_genes(planted) -> np.ndarray:
    """Return which genes are in the window, shape (R, G)."""
    low, high = WINDOW
    x = planted.regions.X
    return ((x >= low) & (x < high)).astype(float)


class TestPlantedRegions:
    def test_depend_on_the_seed_alone(self):
        one, same, other = (planted_regions(40, 12, seed=seed) for seed in (1, 1, 2))
        for name in ("X", "Y", "coords", "networks"):
            np.testing.assert_array_equal(getattr(one.regions, name), getattr(same.regions, name))
            assert not np.array_equal(getattr(one.regions, name), getattr(other.regions, name))
        assert one.rules == same.rules

    def test_make_a_data_set_without_complaint(self, caplog):
        data = planted_regions(40, 12).regions.pairs()
        assert (data.num_regions, data.num_genes, data.is_directed) == (40, 12, False)
        assert data.X.min() >= 0
        assert data.X.max() <= 1
        assert not caplog.text

    def test_lie_opposite_to_each_other(self):
        planted = planted_regions(40, 12)
        coords = planted.regions.coords
        assert (coords[:20, 0] < 0).all()
        assert (coords[20:, 0] > 0).all()
        assert np.linalg.norm(coords[:20] * (-1, 1, 1) - coords[20:], axis=1).max() < 15
        assert planted.regions.hemispheres.tolist() == ["L"] * 20 + ["R"] * 20

    @pytest.mark.parametrize("seed", range(3))
    def test_are_connected_by_the_rule(self, seed):
        planted = planted_regions(seed=seed)
        is_open = open_genes(planted)
        column = {gene: number for number, gene in enumerate(planted.regions.genes)}
        strength = np.zeros(planted.signal.shape)
        for ligand, receptor in planted.rules:
            sent = np.outer(is_open[:, column[ligand]], is_open[:, column[receptor]])
            strength += sent + sent.T
        assert np.corrcoef(off_diagonal(strength), off_diagonal(planted.signal))[0, 1] == pytest.approx(1)
        share = off_diagonal(planted.signal).var() / off_diagonal(planted.regions.Y).var()
        assert share == pytest.approx(0.7, abs=0.1)

    def test_have_no_gene_in_two_rules(self):
        genes = [gene for rule in planted_regions(40, 12, num_rules=6).rules for gene in rule]
        assert len(set(genes)) == 12

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"num_regions": 41}, "num_regions is 41; an even number"),
            ({"num_genes": 5}, "num_genes is 5"),
            ({"num_rules": 0}, "num_rules is 0"),
            ({"signal_share": 0.95}, "sum to 1 at most"),
        ],
    )
    def test_refuse_what_cannot_be_planted(self, options, words):
        with pytest.raises(ValueError, match=words):
            planted_regions(**options)


@pytest.mark.parametrize("seed", range(3))
class TestSignal:
    """That the rule can be learned, by who looks at the right genes in the right way, and by no other."""

    def test_is_found_by_products_of_windows(self, seed):
        planted = planted_regions(seed=seed)
        data = planted.regions.pairs()
        split = split_regions(data, 0.25, seed=seed)
        is_open, column = open_genes(planted), {gene: number for number, gene in enumerate(data.valid_genes)}

        def products(indices: np.ndarray) -> np.ndarray:
            i, j = data.pairs(indices).T
            rules = [(column[ligand], column[receptor]) for ligand, receptor in planted.rules]
            return np.column_stack([is_open[i, a] * is_open[j, b] + is_open[j, a] * is_open[i, b] for a, b in rules])

        fitted = LinearRegression().fit(products(split.train), data.targets(split.train))
        assert np.corrcoef(fitted.predict(products(split.inner)), data.targets(split.inner))[0, 1] > 0.75

    @pytest.mark.parametrize("name", ["cge_distance", "exponential_decay", "kronecker_ridge"])
    def test_is_not_found_by_correlation_distance_or_a_kernel_of_all_genes(self, seed, name):
        assert held_out_r(name, seed) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", list_baselines())
def test_no_baseline_finds_the_rule(name):
    if name != "mean":
        assert held_out_r(name, 0) < 0.6


def held_out_r(name: str, seed: int) -> float:
    data = planted_regions(seed=seed).regions.pairs()
    split = split_regions(data, 0.25, seed=seed)
    found = get_baseline(name).fit(data, split.train).predict(data, split.inner)
    return float(np.corrcoef(found, data.targets(split.inner))[0, 1])
