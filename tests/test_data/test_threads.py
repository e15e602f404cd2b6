from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future

import pytest

from scmodelforge.data._threads import Threads

WAIT = 20  # seconds; much more than is needed


@pytest.fixture
def one():
    threads = Threads(1, "test")
    yield threads
    threads.close()


class Gate:
    """Work that ends when it is let."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(WAIT)
        return "gate"


class TestOrder:
    def test_work_is_begun_in_the_order_given(self, one):
        done: list[int] = []
        jobs = [one.do(lambda number=number: done.append(number)) for number in range(20)]
        for job in jobs:
            job.result(WAIT)
        assert done == list(range(20))

    def test_work_that_waited_for_other_goes_first(self, one):
        done: list[str] = []
        gate = Gate()
        first = one.do(gate)
        jobs = [one.do(lambda: done.append("other")), one.do_after(lambda: done.append("after"), {first})]
        gate.may_end.set()
        for job in jobs:
            job.result(WAIT)
        assert done == ["after", "other"]

    def test_a_thread_does_not_wait_for_work_of_another(self):
        threads, gate = Threads(2, "test"), Gate()
        first = threads.do(gate)
        after = threads.do_after(lambda: "after", {first})
        assert threads.do(lambda: "other").result(WAIT) == "other"
        assert not after.done()
        gate.may_end.set()
        assert after.result(WAIT) == "after"
        threads.close()

    def test_work_begins_after_the_last_of_many(self, one):
        others = {Future() for _ in range(50)}
        job = one.do_after(lambda: "done", others)
        for other in others:
            assert not job.done()
            other.set_result(None)
        assert job.result(WAIT) == "done"

    def test_work_begins_though_what_it_waited_for_failed(self, one):
        def fail() -> None:
            msg = "on purpose"
            raise OSError(msg)

        failed = one.do(fail)
        assert one.do_after(lambda: "done", {failed}).result(WAIT) == "done"
        with pytest.raises(OSError, match="on purpose"):
            failed.result(WAIT)


class TestClose:
    def test_what_is_not_begun_is_cancelled_and_what_is_begun_ends(self):
        threads, gate = Threads(1, "test"), Gate()
        begun = threads.do(gate)
        assert gate.begun.wait(WAIT)
        waiting = [threads.do(lambda: None), threads.do_after(lambda: None, {begun})]
        threading.Timer(0.05, gate.may_end.set).start()
        threads.close()
        assert begun.result(0) == "gate"
        for job in waiting:
            with pytest.raises(CancelledError):
                job.result(0)

    def test_work_given_later_is_cancelled(self):
        threads = Threads(1, "test")
        threads.close()
        ended: Future[None] = Future()
        ended.set_result(None)
        for job in (threads.do(lambda: None), threads.do_after(lambda: None, {ended})):
            with pytest.raises(CancelledError):
                job.result(0)


class Result:
    pass


def test_what_was_waited_for_does_not_keep_the_result(one):
    gate = Gate()
    first = one.do(gate)
    job = one.do_after(Result, {first})
    gate.may_end.set()
    result = weakref.ref(job.result(WAIT))
    del job
    one.do(lambda: None).result(WAIT)  # the thread is done with the work before
    gc.collect()
    assert result() is None
    assert first.done()
