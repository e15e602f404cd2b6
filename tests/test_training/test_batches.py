"""The batches of training passes and of evaluation as dataloaders, without any Trainer."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest

from scmodelforge._errors import ConfigError
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.minibatches import Minibatches
from scmodelforge.data.sampled_order import SampledOrder
from scmodelforge.data.shares import cell_groups
from scmodelforge.training._batches import EvaluationBatches, TrainingBatches
from tests.conftest import make_adata
from tests.test_data.h5ad_files import open_files, write
from tests.test_data.loading import make_loader
from tests.test_data.remote_cells import Rows

NUM_CELLS = 93


def cell_index(tokens) -> list[int]:
    return tokens.cell_index.tolist()


def training(*, least_cells=1, where=lambda: None, **settings) -> TrainingBatches:
    return TrainingBatches(make_loader(collate=cell_index, **settings), least_cells=least_cells, where=where)


def passes(count: int, **settings) -> list[list[list[int]]]:
    loader = make_loader(collate=cell_index, **settings)
    return [[group[0] for group in loader.one_pass(number)] for number in range(count)]


def all_of(batches) -> list[int]:
    return sorted(itertools.chain.from_iterable(batches))


class TestPasses:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_each_iteration_is_the_next_pass_of_the_loader(self, num_workers):
        batches = training(num_workers=num_workers)
        assert [list(batches) for _ in range(3)] == passes(3)

    def test_the_length_is_that_of_a_pass(self):
        batches = training()
        assert len(batches) == len(list(batches)) == 12

    def test_a_pass_can_be_chosen(self):
        batches = training()
        list(batches)
        batches.set_epoch(5)
        assert list(batches) == passes(6)[5]

    def test_an_iteration_that_was_left_goes_on_where_it_was_left(self):
        batches = training()
        first = list(itertools.islice(batches, 5))
        assert first + list(batches) == passes(1)[0]

    def test_somebody_else_may_say_where_it_begins(self):
        place = 1, 4
        batches = training(where=lambda: place)
        assert list(batches) == passes(2)[1][4:]
        place = 0, 11
        assert list(batches) == passes(1)[0][11:]

    def test_micro_batches_are_refused(self):
        words = r"2 micro-batches .* num_micro_batches=1.* accumulate_grad_batches=2"
        with pytest.raises(ConfigError, match=words):
            next(iter(training(num_micro_batches=2)))


class TestState:
    @pytest.mark.parametrize("done", [0, 1, 7, 11, 12, 13, 24])
    def test_another_one_goes_on_with_the_batch_after_the_last_one_handed_out(self, done):
        stopped = training()
        endless = itertools.chain.from_iterable(stopped for _ in range(9))
        list(itertools.islice(endless, done))
        resumed = training()
        resumed.load_state_dict(stopped.state_dict())
        going_on = itertools.islice(itertools.chain.from_iterable(resumed for _ in range(4)), 15)
        assert list(going_on) == list(itertools.chain(*passes(4)))[done : done + 15]

    def test_it_is_a_state_of_the_loader(self):
        batches = training()
        list(itertools.islice(batches, 3))
        loader = make_loader(collate=cell_index)
        loader.load_state_dict(batches.state_dict())
        assert next(iter(loader)) == [passes(1)[0][3]]

    def test_it_can_go_back_while_batches_are_read_ahead(self):
        batches = training(num_workers=1)
        before = batches.state_dict()
        first = list(batches)
        batches.load_state_dict(before)
        assert list(batches) == first

    def test_that_of_another_order_is_refused(self):
        with pytest.raises(ConfigError, match=r"training.seed is 6 here and 5 in the checkpoint"):
            training(seed=6).load_state_dict(training().state_dict())


class TestFewCellsInABatch:
    """93 cells in batches of 8 for 3 processes: 3 full ones and one of 21; of 8 for 7 processes: 56, and 37."""

    def test_every_process_has_as_many_batches_and_each_cell_is_seen_once(self):
        shares = [list(training(rank=rank, world_size=3)) for rank in range(3)]
        assert {len(share) for share in shares} == {4}
        assert all_of(itertools.chain(*shares)) == list(range(NUM_CELLS))

    def test_a_batch_too_small_for_all_processes_is_left_out_and_told(self, caplog):
        sizes = (50,)  # in batches of 3 x 8 cells: 24, 24, 2
        with caplog.at_level(logging.WARNING):
            shares = [list(training(sizes=sizes, rank=rank, world_size=3)) for rank in range(3)]
        assert [len(share) for share in shares] == [2, 2, 2]
        assert len(all_of(itertools.chain(*shares))) == 48
        assert "1 of 3 batches are left out of each pass: some process would have fewer than 1" in caplog.text

    def test_after_one_left_out_comes_the_next_pass(self):
        expected = [found[:6] for found in passes(3, sizes=(49,))]
        batches = training(sizes=(49,), least_cells=2)
        assert [list(batches) for _ in range(3)] == expected
        assert len(batches) == 6

    @pytest.mark.parametrize("done", [5, 6, 7])
    def test_states_count_the_batches_of_the_loader(self, done):
        stopped = training(sizes=(49,), least_cells=2)
        list(itertools.islice(itertools.chain.from_iterable(stopped for _ in range(3)), done))
        resumed = training(sizes=(49,), least_cells=2)
        resumed.load_state_dict(stopped.state_dict())
        kept = [batch for found in passes(3, sizes=(49,)) for batch in found[:6]]
        assert next(iter(resumed)) == kept[done]

    def test_small_groups_of_batches_of_one_group_are_left_out_wherever_they_are(self, tmp_path):
        adata = make_adata(30, 10)
        adata.obs["batch"] = ["big"] * 17 + ["small"] * 1 + ["other"] * 12
        source = open_files(write(tmp_path, adata))
        groups = cell_groups(source, "batch", np.arange(30), setting="data.batch_column")
        layout = {"block_size": 4, "buffer_size": 32, "num_streams": 2}
        order = SampledOrder(
            [30], np.arange(30), draws=None, batches=Minibatches(groups, "one", 8, 2), sampling="x", seed=5, **layout
        )
        loader = CellLoader(source, Rows(), lambda block: block, order, batch_size=8, seed=5, collate=cell_index)
        batches = TrainingBatches(loader, least_cells=2)
        for _ in range(3):
            found = list(batches)
            assert len(found) == len(batches) == 5
            assert all_of(found) == [cell for cell in range(30) if cell != 17]

    def test_nothing_left_is_refused(self):
        with pytest.raises(ConfigError, match=r"No batch of the 5 training cells has 2 for each of 4 processes; use"):
            training(sizes=(5,), world_size=4, least_cells=2)


class TestEvaluation:
    @pytest.mark.parametrize("world_size", [1, 2, 7])
    def test_every_cell_comes_once_and_no_batch_is_empty(self, world_size):
        settings = {"collate": cell_index, "order_changes": {"shuffle": False}}
        shares = [EvaluationBatches(make_loader(rank=r, world_size=world_size, **settings)) for r in range(world_size)]
        found = [list(share) for share in shares]
        assert [len(share) for share in shares] == [len(batches) for batches in found]
        assert all(itertools.chain(*found))
        assert all_of(itertools.chain(*found)) == list(range(NUM_CELLS))

    def test_it_can_be_repeated(self):
        batches = EvaluationBatches(make_loader(collate=cell_index))
        assert list(batches) == list(batches)
