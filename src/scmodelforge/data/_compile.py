"""Loops over numbers compiled by numba when they are first needed, where it is installed."""

from __future__ import annotations

import logging  # noqa: F401 - before a fork it takes its lock: after _before_fork only if it was loaded before this
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import FunctionType
from typing import Any

__all__ = ["Foreign", "Inner", "calls_address", "compiled", "expect_many", "in_background", "inner", "inner_sum"]

#: Numbers from which on a compiled loop is worth importing numba, and compiling the loop the first time.
_WORTH_COMPILING = 1 << 17

_one_at_a_time = threading.RLock()


class _State:
    """Whether so much is to come that loops are worth compiling however few numbers they are given at a time."""

    many_to_come = False

    def __init__(self) -> None:
        self.background: list[threading.Thread] = []


_state = _State()


def expect_many() -> None:
    """Say that loops will be given many numbers in all, perhaps few at a time: they are compiled from now on."""
    _state.many_to_come = True


def in_background(load: Callable[[], None]) -> None:
    """Load or compile loops in a thread of its own. A fork waits for it."""
    thread = threading.Thread(target=load, name="scmodelforge-warm-up", daemon=True)
    _state.background.append(thread)
    thread.start()


def _compiler_lock() -> Any:
    """Return numba's own lock, if numba is loaded."""
    module = sys.modules.get("numba.core.compiler_lock")
    return None if module is None else module.global_compiler_lock


def _before_fork() -> None:
    """Wait until no thread loads or compiles: the child would wait for it for ever."""
    while _state.background:
        _state.background.pop().join()
    _one_at_a_time.acquire()
    lock = _compiler_lock()
    if lock is not None:
        lock.acquire()


def _after_fork() -> None:
    lock = _compiler_lock()
    if lock is not None:
        lock.release()
    _one_at_a_time.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class Inner:
    """A loop that is part of compiled ones; see :func:`inner`."""

    def __init__(self, function: Callable[..., Any], *, reorders_sums: bool) -> None:
        self.function, self.reorders_sums = function, reorders_sums


def inner(function: Callable[..., Any]) -> Inner:
    """Mark a function that compiled ones of the same file call."""
    return Inner(function, reorders_sums=False)


def inner_sum(function: Callable[..., Any]) -> Inner:
    """Mark one that adds up numbers, in an order that is left to the compiler."""
    return Inner(function, reorders_sums=True)


class Foreign:
    """A C function that compiled loops call by its address; see :func:`calls_address`."""

    def __init__(self, bits: int) -> None:
        self.bits = bits


def calls_address(bits: int) -> Any:
    """Return what calls C functions in compiled loops: with their address and six whole numbers or addresses.

    A function that takes fewer arguments takes no notice of the others.

    Parameters
    ----------
    bits
        Of the whole number that the functions return.
    """
    return Foreign(bits)


def compiled(function: Callable[..., Any]) -> Callable[[int], Callable[..., Any] | None]:
    """Return what gives the function compiled for so many numbers, or ``None`` for few or without numba."""

    @cache
    def kernel() -> Callable[..., Any] | None:
        with suppress(ImportError):
            return _compile(function)
        return None

    def get(size: int) -> Callable[..., Any] | None:
        if size < _WORTH_COMPILING and not _state.many_to_come:
            return None
        with _one_at_a_time:
            return kernel()

    return get


def _compile(function: Callable[..., Any], *, reorders_sums: bool = False) -> Callable[..., Any]:
    """Compile a function and what it calls; a division by zero gives what it gives in numpy."""
    import numba

    used = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    parts = {
        name: _compile(part.function, reorders_sums=part.reorders_sums)
        for name, part in used.items()
        if isinstance(part, Inner)
    }
    parts |= {name: _foreign(part.bits) for name, part in used.items() if isinstance(part, Foreign)}
    whole = FunctionType(function.__code__, {**function.__globals__, **parts}, function.__name__)
    whole.__qualname__, whole.__module__ = function.__qualname__, function.__module__
    fast = {"reassoc"} if reorders_sums else False
    kernel: Callable[..., Any] = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=fast)(whole)
    return kernel


def _foreign(bits: int) -> Any:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def call(typing_context, address, a, b, c, d, e, f):
        def build(context, builder, signature, values):
            kind = ir.FunctionType(ir.IntType(bits), [ir.IntType(64)] * 6)
            result = builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
            return result if bits == 64 else builder.sext(result, ir.IntType(64))

        return types.int64(*[types.int64] * 7), build

    return call
