"""Random draws without a state: each is a hash of what it is for.

A draw depends on the seed, its purpose and the cell's key (and a counter such as the gene), never on batching,
threads, devices or the draws before it. Keys are made from (seed, pass, position in the global order) in training,
from (seed, position in the source) in validation and evaluation, and from what a cell expresses where a trained model
is applied (``workflows._content_keys``).

The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195).
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["cell_keys", "generator", "integers", "mix", "uniforms"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(*parts: int | str | np.ndarray) -> np.ndarray:
    """Hash integers, words and integer arrays (broadcast against each other) into uint64 values."""
    state: np.ndarray = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            if isinstance(part, str):
                part = int.from_bytes(blake2b(part.encode(), digest_size=8).digest(), "little")
            word = np.uint64(part) if isinstance(part, int) else np.asarray(part).astype(np.uint64)
            state = _finalise((state ^ word) + _GOLDEN)
    return state


def cell_keys(seed: int, positions: np.ndarray, *, data_pass: int | None = None) -> np.ndarray:
    """Return the key of each cell, shape (n,), uint64.

    Parameters
    ----------
    seed
        The run's seed.
    positions
        Positions in the global order when ``data_pass`` is given, else positions in the source; shape (n,).
    data_pass
        Number of the pass over the data, in training; ``None`` elsewhere.
    """
    if data_pass is None:
        return mix(seed, "cell", positions)
    return mix(seed, "order", data_pass, positions)


def uniforms(keys: np.ndarray, purpose: str, counters: np.ndarray | int = 0) -> np.ndarray:
    """Return draws from U[0, 1), float64, one for each pair of key and counter (broadcast)."""
    return (mix(purpose, keys, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(keys: np.ndarray, purpose: str, counters: np.ndarray | int, high: int) -> np.ndarray:
    """Return draws from {0, ..., high - 1}, int64, one for each pair of key and counter (broadcast)."""
    return np.floor(uniforms(keys, purpose, counters) * high).astype(np.int64)


def generator(seed: int, *parts: int | str) -> np.random.Generator:
    """Return a numpy generator that depends on the seed and the parts only, for permutations and the like."""
    return np.random.Generator(np.random.Philox(key=int(mix(seed, *parts))))


def _finalise(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
