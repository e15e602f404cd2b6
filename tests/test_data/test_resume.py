from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._errors import ConfigError
from scmodelforge.data.loader import CellLoader
from scmodelforge.data.sampling import GlobalOrder

from .loading import contents, make_loader, take
from .sources import MemorySource, NoisyEncoder, unchanged


class TestResume:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_at_every_batch_gives_the_same_following_batches(self, num_workers):
        changes = {"sizes": (12, 0, 9, 10), "batch_size": 7, "num_workers": num_workers}
        changes["order_changes"] = {"buffer_size": 6, "num_streams": 2}
        reference = make_loader(**changes)
        total = reference.steps_per_pass + 2  # beyond the border between two passes
        unbroken = take(reference, total + 3)
        for done in range(total):
            before = make_loader(**changes)
            take(before, done)
            after = make_loader(**changes)
            after.load_state_dict(before.state_dict())
            assert take(after, 3) == unbroken[done : done + 3]

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 60), st.integers(1, 5), st.integers(0, 12))
    def test_holds_for_streams_and_windows_of_any_size(self, num_cells, world_size, buffer, batch_size, done):
        def loader():
            changes = {"num_streams": 4, "buffer_size": buffer}
            return make_loader(
                sizes=(num_cells,), rank=world_size - 1, world_size=world_size, batch_size=batch_size,
                order_changes=changes,
            )  # fmt: skip

        unbroken = take(loader(), done + 4)
        resumed = loader()
        state = {**resumed.state_dict(), "pass": done // resumed.steps_per_pass, "batch": done % resumed.steps_per_pass}
        resumed.load_state_dict(state)
        assert take(resumed, 4) == unbroken[done:]

    def test_iterating_again_continues_after_the_last_consumed_batch(self):
        loader = make_loader()
        expected = take(make_loader(), 6)
        take(loader, 4)
        next(iter(loader))  # handed out, never consumed
        assert take(loader, 2) == expected[4:]

    @pytest.mark.parametrize("num_workers", [0, 3])
    def test_state_counts_consumed_batches_only(self, num_workers):
        loader = make_loader(num_workers=num_workers)
        batches = iter(loader)
        start = loader.state_dict()
        assert (start["pass"], start["batch"]) == (0, 0)
        for _ in range(5):
            next(batches)
        assert loader.state_dict() == start
        for _ in range(3):
            loader.mark_consumed()
        assert loader.state_dict() == {**start, "batch": 3}
        batches.close()

    def test_state_turns_to_the_next_pass(self):
        loader = make_loader()
        take(loader, loader.steps_per_pass)
        assert (loader.state_dict()["pass"], loader.state_dict()["batch"]) == (1, 0)

    def test_a_state_fits_other_numbers_of_processes_with_the_same_global_batch(self):
        one, two = make_loader(batch_size=8), make_loader(batch_size=4, world_size=2)
        take(one, 3)
        two.load_state_dict(one.state_dict())
        assert two.state_dict() == one.state_dict()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"seed": 6}, r"training\.seed is 6 here and 5 in the checkpoint"),
            ({"batch_size": 9}, r"the global batch \(training\.batch_size .*\) is 9 here and 8 in the checkpoint"),
            ({"sizes": (9,)}, r"the number of training cells is 9 here and 93 in the checkpoint"),
            ({"order_changes": {"num_streams": 4}}, r"data\.num_streams.* is 4 here and 8 in the checkpoint"),
            ({"order_changes": {"buffer_size": 64}}, r"data\.buffer_size.* is 8 here and 4 in the checkpoint"),
            (
                {"order_changes": {"block_size": 2, "shuffle": False}},
                r"the block size .* is 2 here and 1 in the checkpoint",
            ),
        ],
    )
    def test_a_state_of_another_order_is_refused(self, changes, words):
        with pytest.raises(ConfigError, match=f"Cannot resume: .*{words}.* Resume with the settings and data"):
            make_loader(**changes).load_state_dict(make_loader().state_dict())

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_one_pass_goes_on_with_the_pass_of_the_state(self, num_workers):
        expected = list(make_loader().one_pass(0)), list(make_loader().one_pass(1))
        before = make_loader(num_workers=num_workers)
        with closing(before.one_pass()) as batches:
            for _ in range(3):
                next(batches)
                before.mark_consumed()
            next(batches)  # handed out, never consumed
        after = make_loader(num_workers=num_workers)
        after.load_state_dict(before.state_dict())
        rest = []
        for batch in after.one_pass():
            rest.append(batch)
            after.mark_consumed()
        assert contents(rest) == contents(expected[0][3:])
        assert (after.state_dict()["pass"], after.state_dict()["batch"]) == (1, 0)
        assert contents(after.one_pass()) == contents(expected[1])

    def test_batches_of_a_pass_by_its_number_cannot_be_marked(self):
        loader = make_loader()
        next(loader.one_pass(0))
        with pytest.raises(RuntimeError, match=r"or by one_pass\(\) without a number"):
            loader.mark_consumed()

    def test_more_marks_than_batches_are_refused(self):
        with pytest.raises(RuntimeError, match="more often than batches were handed out"):
            make_loader().mark_consumed()

    def test_a_state_loaded_before_the_first_batch_counts(self):
        expected = make_loader()
        take(expected, 5)
        loader = make_loader()
        batches = iter(loader)
        loader.load_state_dict(expected.state_dict())
        assert contents([next(batches)]) == take(expected, 1)
        loader.mark_consumed()
        assert loader.state_dict() == expected.state_dict()

    def test_batches_of_an_abandoned_iteration_cannot_be_marked(self):
        loader = make_loader()
        next(iter(loader))
        iter(loader)
        with pytest.raises(RuntimeError, match="more often than batches were handed out"):
            loader.mark_consumed()

    def test_a_state_loaded_while_iterating_is_refused(self):
        loader = make_loader()
        batches = iter(loader)
        next(batches)
        with pytest.raises(RuntimeError, match="while the loader is being iterated"):
            loader.load_state_dict(loader.state_dict())

    def test_an_order_of_another_seed_is_refused(self):
        order = GlobalOrder([5], np.arange(5), seed=1, block_size=4, buffer_size=8, num_streams=2, shuffle=True)
        with pytest.raises(ValueError, match="the order has seed 1, the loader 2"):
            CellLoader(MemorySource([5]), NoisyEncoder(), unchanged, order, batch_size=2, seed=2, collate=list)
