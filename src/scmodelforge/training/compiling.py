"""``training.compile``: steps of training through ``torch.compile``.

The transformer blocks of a model are compiled before and after attention, one code for all of them; see
:mod:`scmodelforge.models.components.compiled`. Modules, names and checkpoints are as without it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import ConfigError, RunError
from scmodelforge.models.components.transformer import TransformerBlock

__all__ = [
    "check_can_compile",
    "check_compiles",
    "compile_blocks",
    "compile_failures",
    "compile_seconds",
]

#: What compiles, a backend of ``torch.compile``.
BACKEND = "inductor"
_WITHOUT = "--set training.compile=false"
#: Oldest compute capability that Triton makes code for.
_OLDEST_GPU = (7, 0)


def check_can_compile(accelerator: str) -> None:
    """Refuse to compile where what that takes is missing.

    Parameters
    ----------
    accelerator
        Where to train: ``cpu``, ``cuda`` or ``mps``.

    Raises
    ------
    ConfigError
        If so. It names what is missing.
    """
    lacks = _missing(accelerator)
    if lacks is not None:
        msg = f"training.compile is true, but {lacks}, or use {_WITHOUT}."
        raise ConfigError(msg)


def check_compiles(model: nn.Module) -> None:
    """Refuse to compile a model in which there is nothing that is compiled.

    Raises
    ------
    ConfigError
        If so.
    """
    if not _blocks(model):
        msg = (
            f"training.compile is true, but {type(model).__name__} has no transformer blocks of this package "
            f"(scmodelforge.models.components), which are what is compiled; use {_WITHOUT}."
        )
        raise ConfigError(msg)


def compile_blocks(model: nn.Module) -> nn.Module:
    """Let the transformer blocks of a model compile themselves in their first step of training; return the model.

    Evaluation, generation and what else is without gradients computes as before.
    """
    check_compiles(model)
    for block in _blocks(model):
        block.compiler = BACKEND
    _Clock.start()
    return model


def compile_seconds() -> float:
    """Return the time that this process has spent compiling so far."""
    return _Clock.seconds


@contextmanager
def compile_failures() -> Iterator[None]:
    """Turn an error of the compiler into one line.

    Raises
    ------
    RunError
        If there is one.
    """
    try:
        yield
    except Exception as problem:
        if not type(problem).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        first = next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
        msg = f"torch.compile failed ({first}); mend that, or start the run with {_WITHOUT}."
        raise RunError(msg) from problem


class _Clock:
    """Counts the seconds of this process in which torch compiles."""

    seconds = 0.0
    _began: float | None = None
    _is_running = False

    @classmethod
    def start(cls) -> None:
        if cls._is_running:
            return
        from torch._dynamo.callback import on_compile_end, on_compile_start

        on_compile_start(cls._on_start)
        on_compile_end(cls._on_end)
        cls._is_running = True

    @classmethod
    def _on_start(cls, *_: Any) -> None:
        cls._began = time.perf_counter()

    @classmethod
    def _on_end(cls, *_: Any) -> None:
        if cls._began is not None:
            cls.seconds += time.perf_counter() - cls._began
        cls._began = None


def _blocks(model: nn.Module) -> list[TransformerBlock]:
    return [module for module in model.modules() if isinstance(module, TransformerBlock)]


def _missing(accelerator: str) -> str | None:
    """Return what is missing and what mends it."""
    from torch._dynamo import is_dynamo_supported

    if not is_dynamo_supported():
        return f"torch {torch.__version__} cannot compile with Python {sys.version.split()[0]}; pip install -U torch"
    if accelerator not in ("cpu", "cuda"):
        return "that is done on GPUs with CUDA or ROCm and on the CPU only; use --set training.accelerator=cpu"
    if accelerator == "cpu":
        return _no_compiler("C++", "CXX", ["clang++" if sys.platform == "darwin" else "g++"], "g++")
    if find_spec("triton") is None:
        return "the package 'triton', which compiles for GPUs, is not installed; pip install triton"
    if torch.version.hip is None and torch.cuda.get_device_capability() < _OLDEST_GPU:
        return f"{torch.cuda.get_device_name()} is too old for the code that Triton makes; use another device"
    return _no_compiler("C", "CC", ["clang", "gcc", "cc"], "gcc")


def _no_compiler(language: str, variable: str, usual: list[str], package: str) -> str | None:
    asked = os.environ.get(variable)
    if any(shutil.which(name) for name in ([asked] if asked else usual)):
        return None
    where = f"{asked!r}, which {variable} names, is not there" if asked else "there is none on this machine"
    return f"torch needs a {language} compiler for that and {where}; install {package} or set {variable}"
