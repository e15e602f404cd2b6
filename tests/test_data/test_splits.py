from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import SplitConfig
from scmodelforge.data.splits import CellSplit, split_cells

from .sources import MemorySource

NONE = np.zeros(0, dtype=np.int64)


def split(sizes=(60, 40), *, obs=None, excluded=NONE, **settings) -> CellSplit:
    return split_cells(MemorySource(sizes, obs=obs), SplitConfig(**settings), excluded=excluded)


def donors(*sizes: int, column: str = "donor_id") -> dict[str, list[str | None]]:
    return {column: [f"d{donor}" for donor, size in enumerate(sizes) for _ in range(size)]}


class TestByCells:
    @given(st.integers(2, 200), st.floats(0, 0.95), st.integers(0, 5), st.data())
    def test_every_cell_is_on_one_side_unless_excluded(self, num_cells, fraction, seed, data):
        excluded = np.array(
            sorted(data.draw(st.sets(st.integers(0, num_cells - 1), max_size=num_cells - 2))), dtype=int
        )
        left = num_cells - len(excluded)
        count = round(fraction * left)
        if count in (0, left) and fraction > 0:
            return
        found = split([num_cells], by="cells", validation_fraction=fraction, seed=seed, excluded=excluded)
        assert len(found.validation) == count
        everything = np.concatenate([found.train, found.validation, excluded])
        assert np.array_equal(np.sort(everything), np.arange(num_cells))
        assert found.train.dtype == found.validation.dtype == np.int64
        assert np.array_equal(found.train, np.sort(found.train))
        assert np.array_equal(found.validation, np.sort(found.validation))

    def test_the_seed_decides(self):
        assert np.array_equal(split(by="cells").validation, split(by="cells").validation)
        assert not np.array_equal(split(by="cells").validation, split(by="cells", seed=1).validation)

    def test_cells_keep_their_side_when_a_file_is_added_at_the_end(self):
        small = split([2000], by="cells", validation_fraction=0.2).validation
        large = split([2000, 2000], by="cells", validation_fraction=0.2).validation
        moved = np.setxor1d(small, large[large < 2000])
        assert len(moved) < 0.1 * len(small)  # drawn anew, 80 % would move

    def test_a_fraction_of_zero_holds_out_nothing(self):
        found = split(by="cells", validation_fraction=0)
        assert len(found.validation) == 0
        assert np.array_equal(found.train, np.arange(100))
        assert found.describe() == "held out no cells; all 100 are trained on"

    def test_too_few_cells_are_refused(self):
        with pytest.raises(DataError, match=r"validation_fraction \(0\.1\) of 4 cells is less than one cell; raise it"):
            split([4], by="cells")

    def test_holding_out_all_cells_is_refused(self):
        with pytest.raises(DataError, match=r"validation_fraction \(0\.9\) holds out all 1 cells and leaves none"):
            split([1], by="cells", validation_fraction=0.9)

    def test_no_cells_at_all_are_refused(self):
        with pytest.raises(
            DataError, match="No cells are left to split: all 3 cells of the data are excluded as empty"
        ):
            split([3], by="cells", excluded=np.arange(3))

    def test_group_names_without_a_column_are_refused(self):
        with pytest.raises(ConfigError, match=r"validation_groups names groups, but data\.split\.by is 'cells'"):
            split(by="cells", validation_groups=["d1"])

    def test_describes_itself(self):
        assert split(by="cells").describe() == "held out 10 of 100 cells, drawn cell by cell"


class TestByColumn:
    def test_groups_stay_together_until_the_share_is_reached(self):
        obs = donors(*[10] * 10, column="chip")
        found = split(obs=obs, by="chip", validation_fraction=0.25)
        assert (len(found.groups), found.num_groups, len(found.validation)) == (3, 10, 30)
        chips = np.array(obs["chip"])
        assert set(chips[found.validation]) == set(found.groups)
        assert not set(chips[found.train]) & set(found.groups)

    @pytest.mark.parametrize("seed", range(6))
    def test_one_group_is_always_trained_on(self, seed):
        found = split(obs=donors(2, 98), by="donor_id", validation_fraction=0.9, seed=seed)
        assert len(found.groups) == 1
        assert len(found.train) in (2, 98)

    def test_the_seed_decides(self):
        obs = donors(*[10] * 10)
        drawn = {tuple(split(obs=obs, by="donor_id", seed=seed).groups) for seed in range(8)}
        assert len(drawn) > 1
        assert split(obs=obs, by="donor_id", seed=3).groups == split(obs=obs, by="donor_id", seed=3).groups

    def test_exactly_the_named_groups_are_held_out(self):
        found = split(obs=donors(20, 30, 50), by="donor_id", validation_groups=["d2", "d0", "d2"])
        assert found.groups == ["d2", "d0"]
        assert np.array_equal(found.train, np.arange(20, 50))

    def test_an_unknown_group_is_refused_with_those_there_are(self):
        words = r"names 'd7', which no cell has in 'donor_id'\. .*There are: d0, d1, d2"
        with pytest.raises(DataError, match=words):
            split(obs=donors(20, 30, 50), by="donor_id", validation_groups=["d7"])

    def test_holding_out_all_groups_is_refused(self):
        with pytest.raises(DataError, match=r"validation_groups \(d0, d1\) holds out all 100 cells and leaves none"):
            split(obs=donors(50, 50), by="donor_id", validation_groups=["d0", "d1"])

    def test_a_single_group_is_refused(self):
        with pytest.raises(DataError, match=r"by is 'donor_id', but all cells belong to one group of it \(d0\)"):
            split(obs=donors(100), by="donor_id")

    def test_an_absent_column_is_refused_by_the_source(self):
        with pytest.raises(DataError, match="no obs column 'chip'; there are: donor_id"):
            split(obs=donors(50, 50), by="chip")

    def test_cells_without_a_value_are_a_group_of_their_own(self):
        obs = {"donor_id": [None] * 30 + ["d0"] * 30 + ["d1"] * 40}
        found = split(obs=obs, by="donor_id", validation_groups=["(missing)"])
        assert np.array_equal(found.validation, np.arange(30))
        assert found.num_groups == 3
        assert found.describe().endswith("; 30 cells without donor_id count as one of them")

    def test_groups_of_excluded_cells_do_not_count(self):
        found = split(obs=donors(50, 40, 10), by="donor_id", excluded=np.arange(90, 100))
        assert found.num_groups == 2

    def test_a_fraction_of_zero_holds_out_nothing(self):
        found = split(obs=donors(50, 50), by="donor_id", validation_fraction=0)
        assert len(found.validation) == 0
        assert found.groups == []

    def test_describes_itself(self):
        found = split(obs=donors(*[10] * 9, 10), by="donor_id", validation_groups=["d3", "d7"])
        assert found.describe() == "held out 2 of 10 donors (donor_id: d3, d7), 20 of 100 cells"
        named = split(obs=donors(*[10] * 10, column="chip"), by="chip", validation_groups=[f"d{i}" for i in range(7)])
        assert named.describe() == "held out 7 of 10 groups (chip: d0, d1, d2, d3, d4 and 2 more), 70 of 100 cells"


class TestAuto:
    def test_takes_the_first_donor_column(self):
        obs = {**donors(*[20] * 5, column="sample_id"), **donors(*[25] * 4, column="donor"), "cell_type": ["t"] * 100}
        assert split(obs=obs).by == "donor"

    @pytest.mark.parametrize("obs", [{}, donors(100), donors(95, 5), {"donor": [str(i) for i in range(100)]}])
    def test_takes_single_cells_without_two_groups_of_some_size(self, obs):
        found = split(obs=obs)
        assert (found.by, found.groups, len(found.validation)) == ("cells", [], 10)

    def test_passes_over_a_donor_column_with_one_group(self):
        obs = {**donors(100), **donors(50, 50, column="patient")}
        assert split(obs=obs).by == "patient"

    def test_takes_the_donor_column_of_named_groups(self):
        assert split(obs=donors(95, 5), validation_groups=["d1"]).groups == ["d1"]

    def test_named_groups_without_a_donor_column_are_refused(self):
        with pytest.raises(ConfigError, match=r"the data have no donor column; set data\.split\.by .* There are: chip"):
            split(obs=donors(50, 50, column="chip"), validation_groups=["d1"])


class TestStoring:
    @pytest.mark.parametrize(
        "found",
        [
            split(by="cells"),
            split(by="cells", validation_fraction=0),
            split(obs=donors(*[10] * 10), by="donor_id", excluded=np.array([0, 5, 99])),
        ],
    )
    def test_comes_back_the_same_from_json(self, found):
        stored = json.loads(json.dumps(found.to_dict()))
        back = CellSplit.from_dict(stored)
        assert np.array_equal(back.train, found.train)
        assert np.array_equal(back.validation, found.validation)
        assert back.train.dtype == back.validation.dtype == np.int64
        assert back.describe() == found.describe()
        assert back.to_dict() == stored

    def test_cells_are_stored_as_ranges(self):
        stored = split(obs=donors(20, 30, 50), by="donor_id", validation_groups=["d1"]).to_dict()
        assert stored["train"] == [[0, 20], [50, 100]]
        assert stored["validation"] == [[20, 50]]
        assert (stored["num_train"], stored["num_validation"]) == (70, 30)

    @pytest.mark.parametrize(("name", "value"), [("validation", [[0, 3]]), ("seed", 8), ("hash", "00"), ("extra", 1)])
    def test_a_damaged_split_is_refused(self, name, value):
        stored = {**split(by="cells").to_dict(), name: value}
        with pytest.raises(
            DataError, match=r"\(splits\.json\) is damaged or was edited: its hash is .* Restore the file"
        ):
            CellSplit.from_dict(stored)

    def test_a_part_that_is_missing_is_refused(self):
        stored = split(by="cells").to_dict()
        del stored["train"]
        with pytest.raises(DataError, match="is damaged"):
            CellSplit.from_dict(stored)
