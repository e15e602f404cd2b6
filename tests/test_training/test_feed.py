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

    def begin(self, batch):
        self.events.append(f"begin {batch['number']}")
        return {**batch, "is_copied": True}

    def finish(self, batch):
        self.events.append(f"finish {batch['number']}")

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
        (batch,) = feed.on_device(group)
        assert group.work.tokens == batch["number"]
        found.append(batch["number"])
        feed.prepare()
    return found


class TestOrder:
    @pytest.mark.parametrize("copies", [None, StandInCopies()])
    def test_every_group_comes_once_and_in_order(self, copies):
        assert steps(feed_of(groups(5), copies)) == [0, 1, 2, 3, 4]

    def test_the_next_copies_begin_before_the_step_ends_and_are_finished_when_they_are_needed(self):
        copies = StandInCopies()
        feed = feed_of(groups(3), copies)
        list(feed.on_device(feed.take()))
        feed.prepare()
        feed.prepare()  # once more changes nothing
        assert copies.events == ["begin 0", "finish 0", "begin 1"]
        assert list(feed.on_device(feed.take())) == [{"number": 1, "is_copied": True}]
        assert copies.events == ["begin 0", "finish 0", "begin 1", "finish 1"]

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_of_a_step_of_many_micro_batches_one_is_ahead_of_the_one_computed(self, size):
        copies, most = StandInCopies(), 0
        steps = iter([[{"number": step * size + place} for place in range(size)] for step in range(3)])
        feed, used = feed_of(steps, copies), []
        while (group := feed.take()) is not None:
            assert [batch["number"] for batch in group.micro_batches] == list(range(len(used), len(used) + size))
            for batch in feed.on_device(group):
                used.append(batch["number"])
                begun = [int(event.split()[1]) for event in copies.events if event.startswith("begin")]
                most = max(most, len(begun) - len(used))
                assert begun == list(range(len(begun)))
            feed.prepare()
            most = max(most, sum(event.startswith("begin") for event in copies.events) - len(used))
        assert used == list(range(3 * size))
        assert most == 1

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

    def begin(self, batch):
        copy = lambda value: value.clone() if isinstance(value, torch.Tensor) else value  # noqa: E731
        return {name: copy(value) for name, value in batch.items()}

    def finish(self, batch):
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
            (batch,) = feed.on_device(group)
            assert batch["x"].is_cuda
            for _ in range(20):  # the device stays behind the host
                weight = torch.tanh(weight @ weight)
            sums.append(batch["x"].sum() + 0 * weight[0, 0].long())
            del batch, group
            feed.prepare()
        assert torch.stack(sums).cpu().tolist() == [int(values.sum()) for values in host]

    def test_a_step_of_many_micro_batches_takes_the_memory_of_a_few(self):
        device, size = torch.device("cuda"), 1 << 22
        group = [{"x": torch.arange(size), "num_targets": {"a": 1}} for _ in range(16)]
        feed = Feed(iter([group]), measure=lambda group: Work(), copies=CudaCopies(device), most=1)
        weight, sums = torch.rand(2048, 2048, device=device), []
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        for batch in feed.on_device(feed.take()):
            for _ in range(20):
                weight = torch.tanh(weight @ weight)
            sums.append(batch["x"].sum() + 0 * weight[0, 0].long())
            del batch
        assert torch.cuda.max_memory_allocated(device) - before < 6 * 8 * size
        assert {int(each) for each in sums} == {int(group[0]["x"].sum())}
