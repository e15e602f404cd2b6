"""Waiting for what the first process does alone: as long as it lives, and no longer."""

from __future__ import annotations

import threading
import time

import pytest
from torch.distributed import HashStore, TCPStore

from scmodelforge._errors import LostProcess
from scmodelforge.training._waiting import showing_life, wait_for_first


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_first_process_that_lives_is_waited_for_beyond_the_patience():
    store, events = HashStore(), []

    def first() -> None:
        with showing_life(store, "a", every=0.02):
            time.sleep(0.8)
            events.append("scored")

    thread = in_thread(first)
    wait_for_first(store, "a", patience=0.3, every=0.01)
    assert events == ["scored"]
    thread.join()


def test_one_that_gives_no_sign_is_not():
    with pytest.raises(LostProcess, match="no sign of life for 0 s, so this one ends too; go on from its last checkp"):
        wait_for_first(HashStore(), "a", patience=0.1, every=0.01)


def test_one_that_fails_ends_the_others_at_once():
    store = HashStore()
    with pytest.raises(ZeroDivisionError), showing_life(store, "a", every=1):
        raise ZeroDivisionError
    with pytest.raises(LostProcess, match="the first process of this run has ended, so this one ends too"):
        wait_for_first(store, "a", patience=60)


def test_one_that_is_gone_with_its_store_ends_the_others_at_once():
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    other = TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)
    server.add("a/beat", 1)
    problems = []

    def wait() -> None:
        try:
            wait_for_first(other, "a", patience=60, every=0.01)
        except LostProcess as problem:
            problems.append(str(problem))

    thread = in_thread(wait)
    time.sleep(0.1)
    assert thread.is_alive()
    del server
    thread.join(20)
    assert problems == ["the first process of this run has ended, so this one ends too."]
