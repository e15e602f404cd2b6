from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import Panel, RowRange, TokenBlock

from .loading import SIZES, cells_of, content, contents, make_loader, take
from .sources import MemorySource, NoisyEncoder, unchanged


class TestEveryCellOnce:
    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 90),
        st.integers(1, 7),
        st.integers(1, 9),
        st.integers(1, 3),
        st.integers(1, 10),
        st.integers(1, 80),
        st.booleans(),
    )
    def test_a_pass_of_all_ranks_holds_each_cell_once_in_equally_many_steps(
        self, num_cells, world_size, batch_size, num_micro_batches, num_streams, buffer, shuffle
    ):
        source = MemorySource([num_cells // 2, num_cells - num_cells // 2])
        seen, steps = [], []
        for rank in range(world_size):
            loader = make_loader(
                source,
                rank=rank,
                world_size=world_size,
                batch_size=batch_size,
                num_micro_batches=num_micro_batches,
                order_changes={"num_streams": num_streams, "buffer_size": buffer, "shuffle": shuffle},
            )
            batches = list(loader.one_pass())
            steps.append(len(batches))
            assert all(len(batch) == num_micro_batches for batch in batches)
            assert all(len(tokens) == batch_size for batch in batches[:-1] for tokens in batch)
            seen += [cell for batch in batches for cell in cells_of(batch)]
        assert sorted(seen) == list(range(num_cells))
        assert set(steps) == {-(-num_cells // (batch_size * world_size * num_micro_batches))}

    def test_a_rank_without_cells_gets_empty_micro_batches_in_the_same_form(self):
        loader = make_loader(
            sizes=(3,), rank=5, world_size=8, num_micro_batches=2, encoder=NoisyEncoder(with_bins=True)
        )
        (batch,) = loader.one_pass()
        assert [len(tokens) for tokens in batch] == [0, 0]
        assert all(tokens.offsets.tolist() == [0] and tokens.bin_ids.dtype == np.int32 for tokens in batch)

    def test_the_last_batch_is_split_as_evenly_as_can_be(self):
        loader = make_loader(sizes=(29,), batch_size=8, num_micro_batches=3)
        assert loader.steps_per_pass == 2
        first, last = loader.one_pass()
        assert [len(tokens) for tokens in first] == [8, 8, 8]
        assert [len(tokens) for tokens in last] == [2, 2, 1]

    def test_only_selected_cells_are_seen(self):
        positions = np.array([0, 7, 8, 39, 41, 92])
        loader = make_loader(positions=positions, batch_size=4)
        assert sorted(cell for batch in loader.one_pass() for cell in cells_of(batch)) == positions.tolist()
        assert loader.num_cells == 6


class TestGlobalBatches:
    @staticmethod
    def passes(world_size: int, *, num_micro_batches: int = 1) -> list[list]:
        """Cells of each global batch of two passes as (key, values) by rank, B = 16."""
        size = 16 // world_size // num_micro_batches
        by_rank = []
        for rank in range(world_size):
            loader = make_loader(rank=rank, world_size=world_size, batch_size=size, num_micro_batches=num_micro_batches)
            batches = itertools.islice(loader, 2 * loader.steps_per_pass)
            by_rank.append([TokenBlock.concatenate(batch) for batch in batches])
        return [list(batch) for batch in zip(*by_rank, strict=True)]

    @pytest.mark.parametrize("world_size", [2, 4, 8])
    def test_are_the_same_cells_with_the_same_keys_for_every_world_size(self, world_size):
        for alone, shared in zip(self.passes(1), self.passes(world_size), strict=True):
            (whole,), union = alone, TokenBlock.concatenate(shared)
            assert sorted(union.keys.tolist()) == sorted(whole.keys.tolist())
            rows = [whole.keys.tolist().index(key) for key in union.keys.tolist()]
            assert content(whole.select(np.array(rows))) == content(union)
            for part in shared:  # each rank keeps the relative order
                places = [whole.keys.tolist().index(key) for key in part.keys.tolist()]
                assert places == sorted(places)

    def test_are_the_same_accumulated(self):
        whole = [content(batch) for (batch,) in self.passes(1)]
        assert whole == [content(batch) for (batch,) in self.passes(1, num_micro_batches=4)]

    def test_draw_equally_from_all_streams(self):
        loader = make_loader(batch_size=16)
        order = loader.order
        places = {
            position: stream
            for stream in range(8)
            for index in range(order.num_windows(stream))
            for position in order.window(0, stream, index).positions.tolist()
        }
        for batch in list(loader.one_pass())[:-1]:
            assert sorted(places[cell] for cell in cells_of(batch)) == sorted(list(range(8)) * 2)


class TestKeys:
    def test_of_training_come_from_pass_and_global_position(self):
        loader = make_loader(batch_size=93)
        for data_pass, (tokens,) in enumerate(itertools.islice(loader, 2)):
            assert tokens.keys.tolist() == cell_keys(5, np.arange(93), data_pass=data_pass).tolist()

    @pytest.mark.parametrize("world_size", [1, 3])
    def test_without_shuffle_come_from_the_cell(self, world_size):
        for rank in range(world_size):
            loader = make_loader(rank=rank, world_size=world_size, order_changes={"shuffle": False})
            for batch in loader.one_pass():
                for tokens in batch:
                    assert tokens.keys.tolist() == cell_keys(5, tokens.cell_index).tolist()

    def test_reach_the_encoder_with_the_right_cell_and_panel(self):
        source = MemorySource(SIZES)
        encoder = NoisyEncoder()
        starts = np.concatenate([[0], np.cumsum(SIZES)])
        for (tokens,) in make_loader(source).one_pass():
            for cell, (position, key) in enumerate(zip(tokens.cell_index, tokens.keys, strict=True)):
                file = int(np.searchsorted(starts, position, side="right")) - 1
                row = int(position - starts[file])
                block = source.read(RowRange(file, row, row + 1))
                alone = encoder.bind(block.panel).encode(block, np.array([key]))
                assert content(alone) == content(tokens.select(np.array([cell])))

    def test_files_with_the_same_genes_share_an_encoder(self):
        source = MemorySource(SIZES)
        source.panels = [Panel(source.panels[file // 2 * 2].gene_ids, f"file{file}") for file in range(len(SIZES))]
        encoder = NoisyEncoder()

        def cells(encoder, batch_size):
            batches = make_loader(source, encoder=encoder, batch_size=batch_size).one_pass()
            return [content(tokens.select(np.array([cell]))) for (tokens,) in batches for cell in range(len(tokens))]

        assert cells(encoder, 31) == cells(NoisyEncoder(), 1)
        assert encoder.bound == ["file0", "file2"]


class TestPasses:
    def test_follow_each_other_without_end_and_differ(self):
        loader = make_loader()
        steps = loader.steps_per_pass
        batches = list(itertools.islice(loader, 2 * steps))
        first, second = ([cell for b in part for cell in cells_of(b)] for part in (batches[:steps], batches[steps:]))
        assert sorted(first) == sorted(second) == list(range(93))
        assert first != second

    def test_same_seed_same_batches(self):
        assert take(make_loader(), 15) == take(make_loader(), 15)
        assert take(make_loader(), 1) != take(make_loader(seed=6), 1)

    def test_data_pass_follows_what_was_consumed(self):
        loader = make_loader()
        seen = []
        for _ in itertools.islice(loader, 2 * loader.steps_per_pass):
            seen.append(loader.data_pass)
            loader.mark_consumed()
        assert seen == [0] * loader.steps_per_pass + [1] * loader.steps_per_pass
        assert loader.data_pass == 2

    def test_one_pass_without_shuffle_gives_the_source_in_order(self):
        loader = make_loader(order_changes={"shuffle": False})
        assert [cell for batch in loader.one_pass() for cell in cells_of(batch)] == list(range(93))

    def test_one_pass_by_its_number_leaves_the_training_state_alone(self):
        loader = make_loader()
        expected = take(make_loader(), 6)
        batches = iter(loader)
        taken = []
        for _ in range(6):
            taken.append(next(batches))
            loader.mark_consumed()
            before = loader.state_dict()
            assert len(list(loader.one_pass(0))) == loader.steps_per_pass
            assert loader.state_dict() == before
        assert contents(taken) == expected


class TestArguments:
    @pytest.mark.parametrize("name", ["batch_size", "num_micro_batches", "num_workers", "world_size"])
    @pytest.mark.parametrize("value", [-3, 2.5, True, "4"])
    def test_what_is_no_number_of_its_kind_is_refused(self, name, value):
        with pytest.raises(ConfigError, match=f"^{name} is {value!r}; a whole number of at least [01] is needed"):
            make_loader(**{name: value})

    @pytest.mark.parametrize("name", ["block_size", "buffer_size", "num_streams"])
    def test_an_order_of_nothing_is_refused(self, name):
        with pytest.raises(ConfigError, match=f"^{name} is 0; a whole number of at least 1 is needed"):
            make_loader(order_changes={name: 0})

    def test_numbers_of_numpy_are_numbers(self):
        loader = make_loader(batch_size=np.int64(8), order_changes={"block_size": np.int32(4)})
        assert contents(loader.one_pass()) == contents(make_loader().one_pass())


class TestPreprocessing:
    def test_every_block_passes_through_it(self):
        def doubled(block):
            block.data = block.data * 2
            return block

        plain, twice = ([t.values for (t,) in make_loader(preprocess=f).one_pass()] for f in (unchanged, doubled))
        for single, double in zip(plain, twice, strict=True):
            assert np.array_equal(np.floor(double), 2 * np.floor(single))
