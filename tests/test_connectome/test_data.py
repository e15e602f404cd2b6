from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

from scmodelforge.connectome import RegionPairDataset, minmax_scaled, region_pair_collate
from tests.test_connectome.brains import arguments, brain


class TestOrderOfPairs:
    @given(num_regions=st.integers(2, 30))
    def test_is_lexicographic_with_the_mirrored_pair_beside_each(self, num_regions):
        data = brain(num_regions)
        expected = [pair for i in range(num_regions) for j in range(i + 1, num_regions) for pair in [(i, j), (j, i)]]
        assert [data.pair_of(k) for k in range(len(data))] == expected
        assert len(data) == num_regions * (num_regions - 1)

    @given(num_regions=st.integers(2, 40), draw=st.data())
    def test_is_found_again_and_mirrored_by_the_last_bit(self, num_regions, draw):
        data = brain(num_regions)
        k = draw.draw(st.integers(0, len(data) - 1))
        i, j = data.pair_of(k)
        assert data.index_of(i, j) == k
        assert data.index_of(j, i) == k ^ 1

    def test_has_no_pair_of_a_region_with_itself(self):
        data = brain()
        with pytest.raises(KeyError, match=r"no pair \(3, 3\)"):
            data.index_of(3, 3)

    @pytest.mark.parametrize("pair", [(0, 12), (-1, 3)])
    def test_has_no_pair_of_regions_that_are_not_there(self, pair):
        with pytest.raises(KeyError):
            brain().index_of(*pair)

    @pytest.mark.parametrize("index", [-1, 132])
    def test_ends(self, index):
        with pytest.raises(IndexError, match="numbered 0 to 131"):
            brain()[index]


class TestItem:
    def test_is_both_profiles_the_target_both_places_and_its_number(self):
        given = arguments()
        data = RegionPairDataset(**given)
        x, y, coords, index = data[data.index_of(7, 2)]
        np.testing.assert_array_equal(x, np.concatenate([given["X"][7], given["X"][2]]).astype(np.float32))
        assert y.item() == np.float32(given["Y"][7, 2])
        np.testing.assert_array_equal(coords, given["coords"][[7, 2]].ravel().astype(np.float32))
        assert index == data.index_of(7, 2)
        assert (x.shape, y.shape, coords.shape) == ((10,), (), (6,))
        assert x.dtype == y.dtype == coords.dtype == torch.float32

    def test_of_a_directed_matrix_is_from_i_to_j_and_it_is_said(self, caplog):
        given = arguments(directed=True)
        with caplog.at_level(logging.WARNING):
            data = RegionPairDataset(**given)
        assert data.is_directed
        assert "not symmetric" in caplog.text
        assert data[data.index_of(4, 9)][1].item() == np.float32(given["Y"][4, 9])
        assert data[data.index_of(9, 4)][1].item() == np.float32(given["Y"][9, 4])

    def test_is_numbered_as_the_atlas_has_it(self):
        data = brain()
        assert data.true_pair_of(data.index_of(7, 2)) == (17, 12)

    def test_has_zeros_for_places_where_there_are_none(self):
        data = brain(coords=None)
        assert data.coords is None
        assert data[5][2].tolist() == [0.0] * 6

    def test_may_lie_on_either_side_of_a_diagonal_that_is_not_given(self):
        given = arguments()
        np.fill_diagonal(given["Y"], np.nan)
        data = RegionPairDataset(**given)
        assert not data.is_directed
        assert torch.isfinite(data.batch(range(len(data)))["y"]).all()


class TestBatches:
    def test_of_a_loader_are_the_items(self):
        data = brain()
        chosen = [5, 0, 131, 77]
        for loader in (
            DataLoader(Subset(data, chosen), batch_size=4),
            DataLoader(data, batch_sampler=[chosen]),
        ):
            x, y, coords, index = next(iter(loader))
            for row, k in enumerate(chosen):
                for got, expected in zip((x, y, coords), data[k][:3], strict=True):
                    assert torch.equal(got[row], expected)
            assert index.tolist() == chosen

    def test_have_names_after_the_collator(self):
        data = brain()
        chosen = np.array([3, 8, 9])
        collated = next(iter(DataLoader(Subset(data, chosen), batch_size=3, collate_fn=region_pair_collate)))
        gathered = data.batch(chosen)
        assert collated.keys() == gathered.keys() == {"x", "y", "coords", "idx"}
        assert all(torch.equal(collated[name], gathered[name]) for name in gathered)

    def test_are_gathered_from_one_copy_of_the_expression(self):
        data = brain(60, 40)
        held = sum(value.nbytes for value in vars(data).values() if isinstance(value, torch.Tensor | np.ndarray))
        assert held < len(data) * data.num_genes  # a copy for each pair would be 8 times that

    def test_do_not_follow_changes_of_the_callers_arrays(self):
        given = arguments()
        data = RegionPairDataset(**given)
        before = data[0][0].clone()
        given["X"][:] = 0
        assert torch.equal(data[0][0], before)


def with_nan(name: str, *place: int) -> dict:
    table = arguments()[name].copy()
    table[place] = np.nan
    if name == "Y":
        table[place[::-1]] = np.nan
    return {name: table}


FAULTS = {
    "one row of X": ({"X": np.zeros(5)}, r"X has the shape \(5,\); it needs regions x genes"),
    "Y of another size": ({"Y": np.zeros((11, 11))}, r"Y has the shape \(11, 11\); it needs .*12 x 12"),
    "two coordinates": ({"coords": np.zeros((12, 2))}, r"coords has the shape \(12, 2\); .*12 x 3"),
    "words": ({"X": np.array([["high"]])}, "X holds something that is not a number"),
    "genes": ({"valid_genes": ["G1"]}, "valid_genes has 1 names; a column of X needs one each, 5"),
    "genes twice": ({"valid_genes": list("ABBCD")}, r"valid_genes has the same name twice \(B\)"),
    "networks": ({"networks": ["Vis"]}, "networks has 1 labels; each of the 12 regions"),
    "mapping lacks a row": ({"valid2true_mapping": {row: row for row in range(11)}}, "11 of the 12 rows of X"),
    "mapping of other rows": ({"valid2true_mapping": {row + 1: row for row in range(12)}}, "keys 1 to 12"),
    "mapping of no kind": ({"valid2true_mapping": list(range(12))}, "valid2true_mapping is list; a mapping of rows"),
    "mapping twice": ({"valid2true_mapping": dict.fromkeys(range(12), 7)}, "two rows the same region"),
    "NaN in X": (with_nan("X", 4, 1), r"X has NaN or infinite values in 1 regions: 4 \('4'\)"),
    "NaN in Y": (with_nan("Y", 4, 1), "Y has NaN or infinite values in 1 regions"),
    "NaN in coords": (with_nan("coords", 6, 0), "coords has NaN or infinite values in 1 regions: 6"),
    "one region": (
        {"X": np.ones((1, 5)), "Y": np.ones((1, 1)), "coords": None, "valid2true_mapping": None, "networks": None},
        "at least two regions",
    ),
}


@pytest.mark.parametrize(("changes", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line(changes, words):
    with pytest.raises(ValueError, match=words) as fault:
        brain(**changes)
    assert "\n" not in str(fault.value)


class TestMapping:
    def test_drops_the_missing_regions_of_a_full_atlas(self):
        given = arguments()
        given["X"][[3, 8]] = np.nan
        kept = [row for row in range(12) if row not in (3, 8)]
        data = RegionPairDataset(**{**given, "valid2true_mapping": dict(enumerate(kept))})
        assert data.num_regions == 10
        np.testing.assert_array_equal(data.X, given["X"][kept].astype(np.float32))
        np.testing.assert_array_equal(data.Y, given["Y"][np.ix_(kept, kept)].astype(np.float32))
        assert data.true_pair_of(data.index_of(3, 9)) == (4, 11)
        assert data.networks.tolist() == [given["networks"][row] for row in kept]
        assert data.region_names == [str(row) for row in kept]

    def test_drops_no_region_that_has_all_values(self):
        given = arguments()
        given["X"][3] = np.nan
        kept = [row for row in range(12) if row not in (3, 8)]
        with pytest.raises(ValueError, match=r"leaves out have all values \(8\)"):
            RegionPairDataset(**{**given, "valid2true_mapping": dict(enumerate(kept))})


class TestScale:
    def test_outside_zero_and_one_is_said_once(self, caplog):
        with caplog.at_level(logging.WARNING):
            brain(X=arguments()["X"] * 3)
        assert caplog.text.count("bins of expression need [0, 1]") == 1

    def test_inside_is_not_mentioned(self, caplog):
        with caplog.at_level(logging.WARNING):
            brain()
        assert not caplog.text

    def test_is_fitted_on_the_regions_of_training_alone(self):
        given = arguments()
        given["X"] = given["X"] * 10 - 4
        scaled = minmax_scaled(RegionPairDataset(**given), range(8)).X
        assert scaled[:8].min(dim=0).values.tolist() == [0.0] * 5
        assert scaled[:8].max(dim=0).values.tolist() == [1.0] * 5
        given["X"][8:] *= 7
        again = minmax_scaled(RegionPairDataset(**given), range(8)).X
        assert torch.equal(again[:8], scaled[:8])
        assert (again >= 0).all()
        assert (again <= 1).all()

    def test_of_a_constant_gene_is_zero(self):
        x = arguments()["X"]
        x[:, 2] = 0.5
        assert not minmax_scaled(brain(X=x), range(12)).X[:, 2].any()
