"""The random number generators of this process: seeded, saved as bytes, put back.

Data, masks and evaluation have draws of their own (:mod:`scmodelforge.data.draws`); what is left is dropout and
whatever a model or a callback draws.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from scmodelforge.data.draws import mix

__all__ = ["preserved", "restore", "seed", "seed_stream", "snapshot"]

_PYTHON_VERSION = 3  # of the tuple that random.getstate gives


def seed(value: int) -> None:
    """Seed Python's, numpy's and torch's generators (of all devices)."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


def seed_stream(value: int, *, rank: int, step: int = 0) -> None:
    """Start the draws of training: independent between processes, a function of (seed, rank, step)."""
    seed(int(mix(value, "training", rank, step)))


def snapshot(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of each generator by name, each of a fixed length, uint8, on the host."""
    states = {"python": _python_state(), "numpy": _numpy_state(), "torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put back the generators there is a state of."""
    if "python" in states:
        raw = states["python"].numpy().tobytes()
        gauss = float(np.frombuffer(raw[-8:], np.float64)[0])
        state = tuple(np.frombuffer(raw[:-8], np.uint32).tolist())
        random.setstate((_PYTHON_VERSION, state, None if np.isnan(gauss) else gauss))
    if "numpy" in states:
        raw = states["numpy"].numpy().tobytes()
        words = np.frombuffer(raw[:-8], np.uint32)
        cached = float(np.frombuffer(raw[-8:], np.float64)[0])
        np.random.set_state(("MT19937", words[:-2], int(words[-2]), int(words[-1]), cached))
    if "torch" in states:
        torch.set_rng_state(states["torch"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Run the body without a trace in any generator."""
    states = snapshot(device)
    try:
        yield
    finally:
        restore(states, device)


def _python_state() -> torch.Tensor:
    _, words, gauss = random.getstate()
    return _as_bytes(np.array(words, np.uint32), np.nan if gauss is None else gauss)


def _numpy_state() -> torch.Tensor:
    state: Any = np.random.get_state(legacy=False)
    inner = state["state"]
    words = np.append(inner["key"], [inner["pos"], state["has_gauss"]]).astype(np.uint32)
    return _as_bytes(words, state["gauss"])


def _as_bytes(words: np.ndarray, value: float) -> torch.Tensor:
    return torch.frombuffer(bytearray(words.tobytes() + np.float64(value).tobytes()), dtype=torch.uint8)
