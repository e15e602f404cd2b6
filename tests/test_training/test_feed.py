"""Batches on their way to the device: by stand-ins for a device on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import time

import pytest
import torch

from scmodelforge._errors import Interrupted
from scmodelforge.training._feed import CudaCopies, Feed, copies_to
from scmodelforge.training.loop import fit
from scmodelforge.training.meter import Work

from .parts import StandInLoader, StopAfter, curve, make_run, settings, weights


class StandInCopies:
    """Keeps the order of events; ``finish`` must come once for everything begun, and in its order."""

    def __init__(self, *, is_idle: bool = False) -> None:
        self.events: list[str] = []
        self.is_idle = is_idle

    def begin(self, batches):
        self.events.append(f"begin {batches[0]['number']}")
        return [{**batch, "is_copied": True} for batch in batches]

    def finish(self, batches):
        self.events.append(f"finish {batches[0]['number']}")

    def is_device_idle(self):
        return self.is_idle


def groups(number: int, *, seconds: float = 0.0, error_at: int | None = None):
    for position in range(number):
        time.sleep(seconds)
        if position == error_at:
            raise OSError("a vanished file")
        yield [{"number": position}]


def feed_of(batches, copies=None, *, most: int = 100) -> Feed:
    return Feed(batches, measure=lambda group: Work(tokens=group[0]["number"]), copies=copies, most=most)


def steps(feed: Feed) -> list[int]:
    """Take all groups as the loop does: what is next is prepared while a step runs."""
    found = []
    while (group := feed.take()) is not None:
        assert group.work.tokens == group.micro_batches[0]["number"]
        found.append(group.micro_batches[0]["number"])
        feed.prepare()
    return found


class TestOrder:
    @pytest.mark.parametrize("copies", [None, StandInCopies()])
    def test_every_group_comes_once_and_in_order(self, copies):
        assert steps(feed_of(groups(5), copies)) == [0, 1, 2, 3, 4]

    def test_the_next_copies_begin_before_the_step_ends_and_are_finished_when_they_are_needed(self):
        copies = StandInCopies()
        feed = feed_of(groups(3), copies)
        feed.take()
        feed.prepare()
        feed.prepare()  # once more changes nothing
        assert copies.events == ["begin 0", "finish 0", "begin 1"]
        assert feed.take().micro_batches == [{"number": 1, "is_copied": True}]
        assert copies.events == ["begin 0", "finish 0", "begin 1", "finish 1"]

    def test_without_a_device_of_its_own_nothing_is_made_ahead(self):
        drawn = []
        feed = feed_of((drawn.append(group) or group for group in groups(3)), None)
        feed.take()
        feed.prepare()
        assert len(drawn) == 1

    def test_nothing_is_made_for_steps_after_the_last(self):
        drawn = []
        feed = feed_of((drawn.append(group) or group for group in groups(9)), StandInCopies(), most=2)
        for _ in range(2):
            feed.take()
            feed.prepare()
        assert len(drawn) == 2


class TestErrors:
    @pytest.mark.parametrize("copies", [None, StandInCopies()])
    def test_come_in_the_step_that_needs_the_batch(self, copies):
        feed = feed_of(groups(5, error_at=2), copies)
        for _ in range(2):
            feed.take()
            feed.prepare()
        with pytest.raises(OSError, match="a vanished file"):
            feed.take()


class TestWaiting:
    def test_counts_as_hidden_only_if_the_device_was_busy(self):
        busy, idle = (feed_of(groups(2, seconds=0.02), StandInCopies(is_idle=is_idle)) for is_idle in (False, True))
        for feed in (busy, idle):
            feed.take()
            assert feed.hidden_seconds == 0  # nothing was computed when the first was made
            feed.prepare()
        assert busy.hidden_seconds >= 0.02
        assert idle.hidden_seconds == 0


class Copying:
    """Copies on the CPU: what the path of a GPU does, without a stream."""

    def begin(self, batches):
        copy = lambda value: value.clone() if isinstance(value, torch.Tensor) else value  # noqa: E731
        return [{name: copy(value) for name, value in batch.items()} for batch in batches]

    def finish(self, batches):
        pass

    def is_device_idle(self):
        return False


class CountedLoader(StandInLoader):
    """Knows how many batches were handed out, and refuses to have more consumed."""

    handed_out = 0

    def __iter__(self):
        for group in super().__iter__():
            self.handed_out += 1
            yield group

    def mark_consumed(self):
        super().mark_consumed()
        assert self.consumed <= self.handed_out


class TestInTheLoop:
    """The same run with batches made ahead."""

    @pytest.fixture
    def ahead(self, monkeypatch):
        monkeypatch.setattr("scmodelforge.training.loop.copies_to", lambda device: Copying())

    def test_is_the_same_run(self, tmp_path, ahead, monkeypatch):
        loader = CountedLoader()
        run = make_run(tmp_path / "ahead", config=settings(max_epochs=2), train_loader=loader)
        fit(run)
        assert loader.handed_out == loader.consumed == run.total_steps
        monkeypatch.undo()
        other = make_run(tmp_path / "plain", config=settings(max_epochs=2))
        fit(other)
        assert curve(tmp_path / "ahead") == curve(tmp_path / "plain")
        assert all(torch.equal(value, weights(other)[name]) for name, value in weights(run).items())

    def test_the_place_in_the_data_is_what_the_optimiser_used(self, tmp_path, ahead):
        loader = CountedLoader()
        run = make_run(tmp_path, config=settings(max_epochs=2), train_loader=loader)
        with pytest.raises(Interrupted):
            fit(run, [StopAfter(4)])
        assert (loader.handed_out, loader.state_dict()["consumed"]) == (5, 4)


def test_only_a_gpu_copies_beside_its_computing():
    assert copies_to(torch.device("cpu")) is None


@pytest.mark.gpu
class TestOnAGpu:
    def test_batches_arrive_whole_and_their_memory_is_not_reused_too_early(self):
        device = torch.device("cuda")
        host = [torch.arange(1 << 20) + number for number in range(20)]
        batches = ([{"x": values, "num_targets": {"a": number}}] for number, values in enumerate(host))
        feed = Feed(batches, measure=lambda group: Work(), copies=CudaCopies(device), most=20)
        sums = []
        weight = torch.rand(2048, 2048, device=device)
        while (group := feed.take()) is not None:
            (batch,) = group.micro_batches
            assert batch["x"].is_cuda
            for _ in range(20):  # the device stays behind the host
                weight = torch.tanh(weight @ weight)
            sums.append(batch["x"].sum() + 0 * weight[0, 0].long())
            del batch, group
            feed.prepare()
        assert torch.stack(sums).cpu().tolist() == [int(values.sum()) for values in host]
