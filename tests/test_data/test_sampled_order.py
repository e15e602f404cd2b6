from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import DataConfig, SamplingConfig
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.sampled_order import SampledOrder
from scmodelforge.data.sampling import GlobalOrder
from scmodelforge.data.shares import cell_groups, group_draws
from scmodelforge.data.training_order import training_order

from .loading import cells_of, contents, take
from .sources import MemorySource, NoisyEncoder, unchanged
from .test_sampling import source_positions, windows_of

SIZES = (90, 0, 47, 63)  # 200 cells
KINDS = ["a"] * 120 + ["b"] * 50 + ["c"] * 25 + ["d"] * 5
CHIPS = [f"chip{cell * 7 // 200}" for cell in range(200)]
OBS = {"kind": KINDS, "chip": CHIPS}


def order_of(
    sizes=SIZES, obs=None, positions=None, *, batch=16, seed=5, block=4, buffer=64, streams=8, **sampling
) -> GlobalOrder:
    source = MemorySource(sizes, obs=obs or OBS)
    positions = np.arange(sum(sizes)) if positions is None else positions
    config = DataConfig(block_size=block, buffer_size=buffer, num_streams=streams, sampling=SamplingConfig(**sampling))
    return training_order(source, positions, config, seed=seed, global_batch_size=batch)


def loader_of(*, batch=16, world_size=1, rank=0, num_workers=0, micro=1, seed=5, source=None, **sampling) -> CellLoader:
    source = source or MemorySource(SIZES, obs=OBS)
    return CellLoader(
        source,
        NoisyEncoder(),
        unchanged,
        order_of(batch=batch * world_size * micro, seed=seed, **sampling),
        batch_size=batch,
        rank=rank,
        world_size=world_size,
        num_micro_batches=micro,
        num_workers=num_workers,
        seed=seed,
        collate=lambda tokens: tokens,
    )


def seen(order: GlobalOrder, data_pass: int = 0) -> np.ndarray:
    """How often a pass holds each cell of the source."""
    return np.bincount(source_positions(order, data_pass), minlength=200)


def groups_of_batches(loader: CellLoader, values: list[str]) -> list[Counter]:
    return [Counter(values[cell] for cell in cells_of(batch)) for batch in loader.one_pass()]


WAYS = [
    {"mode": "balanced", "by": "kind"},
    {"mode": "weighted", "by": "kind", "temperature": 2.0},
    {"mode": "weighted", "by": "kind", "weights": {"a": 1, "b": 0, "c": 1, "d": 2}},
    {"minibatch": "one", "minibatch_by": "chip"},
    {"minibatch": "several", "minibatch_by": "chip", "minibatch_groups": 3},
    {"mode": "balanced", "by": "kind", "minibatch": "one", "minibatch_by": "kind"},
    {"mode": "balanced", "by": "kind", "minibatch": "several", "minibatch_by": "chip", "minibatch_groups": 3},
]


class TestShares:
    def draws(self, sizes, **sampling) -> list[int]:
        names = [name for name, size in zip("abcdefgh", sizes, strict=False) for _ in range(size)]
        source = MemorySource([sum(sizes)], obs={"kind": names})
        groups = cell_groups(source, "kind", np.arange(sum(sizes)), setting="data.sampling.by")
        return group_draws(groups, SamplingConfig(mode="weighted", by="kind", **sampling)).tolist()

    def test_a_temperature_of_one_leaves_groups_as_they_are(self):
        assert self.draws([120, 50, 25, 5]) == [120, 50, 25, 5]

    def test_a_temperature_raises_small_groups_by_the_formula(self):
        # 64 ** 0.5 : 36 ** 0.5 = 8 : 6 of 100 draws
        assert self.draws([64, 36], temperature=2.0) == [57, 43]
        # ever higher temperatures end in equal shares, ever lower ones in the largest group alone
        assert self.draws([64, 36], temperature=1e9) == [50, 50]
        assert self.draws([64, 36], temperature=1e-3) == [100, 0]

    def test_weights_are_relative(self):
        assert self.draws([80, 20], weights={"a": 1, "b": 3}) == [25, 75]
        assert self.draws([80, 20], weights={"a": 0, "b": 0.1}) == [0, 100]

    @given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.floats(0.2, 50))
    def test_draws_are_as_many_as_cells_and_less_than_one_from_the_exact_share(self, sizes, temperature):
        found = np.array(self.draws(sizes, temperature=temperature))
        exact = np.array(sizes) ** (1 / temperature)
        exact *= sum(sizes) / exact.sum()
        assert found.sum() == sum(sizes)
        assert (np.abs(found - exact) < 1 + 1e-6).all()

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            (
                {"a": 1, "bb": 1},
                r"weights names 'bb', which no training cell belongs to\. Did you mean 'b'\? There are: 'a', 'b'",
            ),
            ({"a": 1}, r"weights does not name every group; add 'b' \(0 leaves a group out\)"),
            ({"a": -1, "b": 1}, "weights must be 0 or more, and at least one above 0; correct them"),
            ({"a": 0, "b": 0}, "weights must be 0 or more, and at least one above 0; correct them"),
        ],
    )
    def test_wrong_weights_are_refused(self, weights, words):
        with pytest.raises(ConfigError, match=rf"data\.sampling\.{words}"):
            self.draws([3, 3], weights=weights)

    def test_cells_without_a_value_are_a_group_of_their_own(self):
        source = MemorySource([4], obs={"kind": ["b", None, None, "a"]})
        groups = cell_groups(source, "kind", np.array([0, 1, 2]), setting="data.sampling.by")
        assert (groups.names, groups.sizes.tolist()) == (["b", "(missing)"], [1, 2])

    def test_files_are_groups_under_their_names(self):
        groups = cell_groups(MemorySource(SIZES), "file", np.arange(60, 200), setting="data.sampling.by")
        assert (groups.names, groups.sizes.tolist()) == (["file0", "file2", "file3"], [30, 47, 63])

    def test_an_unknown_column_is_refused_with_the_nearest(self):
        words = r"data\.sampling\.by names the obs column 'kinds', which the data do not have\. Did you mean 'kind'\?"
        with pytest.raises(ConfigError, match=words + " There are: kind, chip"):
            order_of(mode="balanced", by="kinds")

    def test_sources_that_are_no_mixture_have_no_entries(self):
        with pytest.raises(ConfigError, match=r"by is 'source', but data\.source is no mixture of several; use 'file'"):
            order_of(mode="balanced", by="source")


class TestCounts:
    def test_uniform_sampling_in_mixed_batches_is_the_plain_order(self):
        order = order_of()
        assert (type(order), order.sampling) == (GlobalOrder, "uniform")

    def test_shares_that_change_nothing_give_the_plain_order_bit_for_bit(self):
        drawn, plain = order_of(mode="weighted", by="kind"), order_of()
        assert isinstance(drawn, SampledOrder)
        for data_pass in (0, 3):
            for ours, theirs in zip(windows_of(drawn, data_pass), windows_of(plain, data_pass), strict=True):
                assert ours.positions.dtype == theirs.positions.dtype
                assert np.array_equal(ours.positions, theirs.positions)
                assert np.array_equal(ours.global_positions, theirs.global_positions)

    @pytest.mark.parametrize("data_pass", range(4))
    def test_balanced_groups_have_equal_shares_of_every_pass(self, data_pass):
        counts = seen(order_of(mode="balanced", by="kind"), data_pass)
        assert Counter(np.repeat(KINDS, counts).tolist()) == {"a": 50, "b": 50, "c": 50, "d": 50}

    def test_in_a_pass_the_cells_of_a_group_are_seen_equally_often(self):
        counts = seen(order_of(mode="balanced", by="kind"), 2)
        assert set(counts[:120]) == {0, 1}
        assert set(counts[120:170]) == {1}
        assert set(counts[170:195]) == {2}
        assert set(counts[195:]) == {10}

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(0.3, 9), st.integers(0, 50))
    def test_over_any_passes_the_cells_of_a_group_are_seen_equally_often(self, sizes, temperature, first):
        kinds = [f"k{group}" for group, size in enumerate(sizes) for _ in range(size)]
        order = order_of((len(kinds),), {"kind": kinds}, mode="weighted", by="kind", temperature=temperature)
        total = np.zeros(len(kinds), dtype=int)
        for data_pass in range(first, first + 5):
            total += np.bincount(source_positions(order, data_pass), minlength=len(kinds))
            for group in range(len(sizes)):
                assert np.ptp(total[np.array(kinds) == f"k{group}"]) <= 1
        assert total.sum() == 5 * len(kinds)

    def test_other_cells_get_the_extra_draw_with_another_seed_and_in_the_next_pass(self):
        one, other = (seen(order_of(mode="balanced", by="kind", seed=seed)) for seed in (5, 6))
        following = seen(order_of(mode="balanced", by="kind"), 1)
        assert not np.array_equal(one, other)
        assert not (one & following)[:120].any()  # 50 of 120 in each

    def test_copies_of_a_cell_are_spread_over_the_pass(self):
        positions = source_positions(order_of(mode="balanced", by="kind", buffer=16))
        places = np.flatnonzero(positions == 199)
        assert len(places) == 10
        assert np.ptp(places) > 100
        assert np.diff(places).max() > 5

    def test_copies_of_the_only_cell_of_a_group_are_spread_too(self):
        order = order_of((200,), {"kind": ["a"] * 199 + ["b"]}, buffer=16, streams=1, mode="balanced", by="kind")
        places = np.flatnonzero(source_positions(order) == 199)
        assert len(places) == 100
        assert (np.histogram(places, bins=5, range=(0, 200))[0] > 5).all()

    def test_each_copy_has_draws_of_its_own(self):
        with loader_of(mode="balanced", by="kind") as loader:
            tokens = [tokens for batch in loader.one_pass() for tokens in batch]
        keys = [key for block in tokens for key in block.keys[block.cell_index == 199].tolist()]
        assert len(keys) == len(set(keys)) == 10

    def test_a_row_is_read_once_for_all_its_copies_in_a_window(self):
        source = MemorySource([8], obs={"kind": ["a"] * 7 + ["b"]})
        order = order_of((8,), {"kind": source._obs["kind"]}, buffer=64, streams=1, mode="balanced", by="kind")
        loader = CellLoader(source, NoisyEncoder(), unchanged, order, batch_size=16, seed=5, collate=lambda t: t)
        ((tokens,),) = loader.one_pass()
        assert Counter(tokens.cell_index.tolist())[7] == 4
        assert len(source.reads) == 1

    def test_reading_stays_blockwise(self):
        kinds = ["a"] * 30_000 + ["b"] * 10_000
        order = order_of((40_000,), {"kind": kinds}, block=64, buffer=8 * 512, mode="weighted", by="kind",
                         weights={"a": 1, "b": 1})  # fmt: skip
        gaps = [np.count_nonzero(np.diff(np.unique(part.rows)) > 64) for part in order.window(0, 0, 1).parts]
        assert sum(gaps) <= 2 * 512 // 40  # two thirds of the cells of a block of a, all of a block of b


class TestMinibatches:
    @pytest.mark.parametrize("way", [{}, {"mode": "balanced", "by": "chip"}])
    def test_one_group_in_every_batch(self, way):
        batches = groups_of_batches(loader_of(minibatch="one", minibatch_by="chip", **way), CHIPS)
        assert all(len(groups) == 1 for groups in batches)
        assert len({next(iter(groups)) for groups in batches[:6]}) > 2  # groups take turns in no order
        sizes = Counter(CHIPS) if not way else dict.fromkeys(Counter(CHIPS), 200 // 7)
        assert len(batches) == sum(-(-size // 16) for size in Counter(CHIPS).values()) >= 200 / 16
        assert all(total >= min(sizes.values()) // 2 for total in (sum(groups.values()) for groups in batches))

    def test_batches_of_one_group_are_few_and_equally_large(self):
        loader = loader_of(minibatch="one", minibatch_by="kind", batch=64)
        assert sorted(sum(groups.values()) for groups in groups_of_batches(loader, KINDS)) == [5, 25, 50, 60, 60]

    def test_several_groups_in_every_batch_in_equal_shares(self):
        loader = loader_of(minibatch="several", minibatch_by="chip", minibatch_groups=4)
        batches = groups_of_batches(loader, CHIPS)
        assert [sum(groups.values()) for groups in batches] == [16] * 12 + [8]
        assert all(len(groups) >= 4 for groups in batches[:-1])
        assert all(max(groups.values()) <= 5 for groups in batches)

    @given(st.lists(st.integers(1, 50), min_size=2, max_size=9), st.integers(4, 30), st.integers(2, 4))
    def test_several_is_kept_as_long_as_so_many_groups_have_cells_left(self, sizes, batch, num_groups):
        num_groups = min(num_groups, len(sizes))
        chips = [f"chip{group}" for group, size in enumerate(sizes) for _ in range(size)]
        order = order_of((len(chips),), {"chip": chips}, batch=batch, minibatch="several", minibatch_by="chip",
                         minibatch_groups=num_groups)  # fmt: skip
        cells = source_positions(order)
        ranges = [order.batch_range(0, number, batch) for number in range(order.num_batches(batch))]
        batches = [Counter(chips[cell] for cell in cells[start:stop]) for start, stop in ranges]
        assert sum(batches, Counter()) == Counter(chips)
        assert all(sum(groups.values()) == batch for groups in batches[:-1])
        # fewer groups only once all others have run out: each of those that did is in every full batch before
        short = [groups for groups in batches[:-1] if len(groups) < num_groups]
        alone = set().union(*short) if short else set()
        assert len(alone) < num_groups or not short

    def test_one_group_that_is_most_of_the_data_fills_up(self):
        chips = ["big"] * 170 + ["x"] * 15 + ["y"] * 15
        order = order_of((200,), {"chip": chips}, minibatch="several", minibatch_by="chip", minibatch_groups=2)
        cells = source_positions(order)
        batches = [Counter(chips[cell] for cell in cells[start : start + 16]) for start in range(0, 192, 16)]
        mixed = [place for place, groups in enumerate(batches) if len(groups) > 1]
        assert 2 <= len(mixed) <= 5
        assert mixed != list(range(len(mixed)))  # not all at the beginning of the pass

    def test_devices_and_micro_batches_get_several_groups_too(self):
        for rank in range(2):
            loader = loader_of(batch=8, micro=2, world_size=2, rank=rank, minibatch="several", minibatch_by="chip",
                               minibatch_groups=2)  # fmt: skip
            for batch in list(loader.one_pass())[:-1]:
                assert all(len({CHIPS[cell] for cell in tokens.cell_index}) > 1 for tokens in batch)

    def test_the_batch_column_is_the_default(self):
        config = DataConfig(batch_column="chip", sampling=SamplingConfig(minibatch="one"))
        order = training_order(MemorySource(SIZES, obs=OBS), np.arange(200), config, seed=0, global_batch_size=16)
        assert order.sampling == "uniform in batches of one chip"

    def test_an_order_for_batches_of_another_size_is_refused(self):
        order = order_of(batch=16, minibatch="one", minibatch_by="chip")
        with pytest.raises(ValueError, match="the order makes batches of 16 cells, the loader of 8"):
            CellLoader(MemorySource(SIZES), NoisyEncoder(), unchanged, order, batch_size=8, seed=5, collate=list)

    @pytest.mark.parametrize(
        ("sampling", "words"),
        [
            ({"mode": "balanced"}, r"mode 'balanced' needs groups of cells; set data\.sampling\.by"),
            ({"minibatch": "one"}, r"minibatch 'one' needs groups of cells; set data\.sampling\.minibatch_by or"),
            (
                {"minibatch": "several", "minibatch_by": "kind", "minibatch_groups": 5},
                "minibatch_groups is 5, but the training cells have 4 groups of 'kind'; lower it",
            ),
            (
                {"minibatch": "several", "minibatch_by": "chip", "batch": 3},
                "minibatch_groups is 4, but a global batch .* has 3 cells; lower the former or raise the latter",
            ),
            (
                {"mode": "balanced", "by": "kind", "minibatch": "one", "minibatch_by": "chip"},
                "minibatch is 'one', and cells are drawn by another column than minibatch_by",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, sampling, words):
        with pytest.raises(ConfigError, match=rf"data\.sampling\.{words}"):
            order_of(**sampling)


@pytest.mark.parametrize("way", WAYS)
class TestEveryWay:
    @pytest.mark.parametrize(
        "world_size", [1, 3, 5, 7, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 4, 6))]
    )
    def test_the_ranks_of_a_pass_hold_together_what_the_counts_say(self, way, world_size):
        expected = seen(order_of(batch=4 * world_size, **way))
        together, steps = [], set()
        for rank in range(world_size):
            with loader_of(batch=4, world_size=world_size, rank=rank, **way) as loader:
                batches = list(loader.one_pass())
            steps.add(len(batches))
            together += [cell for batch in batches for cell in cells_of(batch)]
        assert np.array_equal(np.bincount(together, minlength=200), expected)
        assert len(together) == 200
        assert len(steps) == 1

    @pytest.mark.parametrize("world_size", [2, 8])
    def test_numbers_of_processes_that_divide_the_streams_share_the_same_batches(self, way, world_size):
        whole = [sorted(cells_of(batch)) for batch in loader_of(batch=16, **way).one_pass()]
        parts = [
            list(loader_of(batch=16 // world_size, world_size=world_size, rank=rank, **way).one_pass())
            for rank in range(world_size)
        ]
        assert whole == [
            sorted(cell for part in batch for cell in cells_of(part)) for batch in zip(*parts, strict=True)
        ]

    def test_threads_change_nothing(self, way):
        alone = take(loader_of(**way), 31)
        with loader_of(num_workers=2, **way) as threaded:
            assert take(threaded, 31) == alone

    def test_resume_at_50_points_equals_the_unbroken_run(self, way):
        reference = loader_of(batch=8, streams=4, **way)
        steps = reference.steps_per_pass
        unbroken = take(reference, 3 * steps + 3)
        for done in np.random.default_rng(0).integers(0, 3 * steps, 50).tolist():
            resumed = loader_of(batch=8, streams=4, **way)
            state = {**resumed.state_dict(), "pass": done // steps, "batch": done % steps}
            resumed.load_state_dict(state)
            assert take(resumed, 2) == unbroken[done : done + 2]

    def test_a_state_of_another_sampling_is_refused(self, way):
        words = r"the sampling \(data\.sampling\) is '?uniform'? here and .* in the checkpoint"
        with pytest.raises(ConfigError, match=f"Cannot resume: .*{words}"):
            loader_of().load_state_dict(loader_of(**way).state_dict())

    def test_windows_may_be_asked_for_in_any_sequence(self, way):
        order = order_of(**way)
        forward = [order.window(p, 3, 1).positions for p in (0, 1, 2, 3)]
        backward = [order.window(p, 3, 1).positions for p in (3, 2, 1, 0)]
        assert all(np.array_equal(a, b) for a, b in zip(forward, backward[::-1], strict=True))

    def test_the_seed_decides(self, way):
        assert contents(loader_of(**way).one_pass()) == contents(loader_of(**way).one_pass())
        assert source_positions(order_of(**way)).tolist() != source_positions(order_of(seed=6, **way)).tolist()

    def test_only_selected_cells_are_seen(self, way):
        positions = np.flatnonzero(np.arange(200) % 3 > 0)
        found = seen(order_of(positions=positions, **way))
        assert not found[::3].any()
        assert found.sum() == len(positions)
