"""The compiled ranking gives the tokens of the numpy form, whatever the cells."""

from __future__ import annotations

import numpy as np
import pytest

from scmodelforge.data import _compile
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.tokenizers import _rank_kernel
from scmodelforge.tokenizers._rank_encoder import RankEncoder, Sequence
from scmodelforge.tokenizers._rank_kernel import rank_cells

NUM_GENES = 700
numba = pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def compile_for_few_values_too(monkeypatch):
    monkeypatch.setattr(_compile, "_WORTH_COMPILING", 0)


def cells(kind: str, num_cells: int = 40, seed: int = 0) -> CellBlock:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.3, 2.0, NUM_GENES), (num_cells, NUM_GENES)).astype(np.float32)
    counts[[3, num_cells - 1]] = 0
    if kind == "normalised":
        counts = counts / np.maximum(1, counts.sum(axis=1, keepdims=True)) * np.float32(1e4)
    elif kind == "large":
        counts = counts * np.float32(1000)
    rows, columns = np.nonzero(counts)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_cells))]).astype(np.int64)
    panel = Panel(np.array([f"g{n}" for n in range(NUM_GENES)], dtype=object), "cells")
    values = counts[rows, columns].astype(np.float32)
    return CellBlock(values, columns.astype(np.int32), indptr, panel, np.arange(num_cells))


def encoder(
    *, order: str, medians: str, max_genes: int = 200, add_cls: bool = True, add_eos: bool = False
) -> RankEncoder:
    rng = np.random.default_rng(1)
    tokens = np.arange(4, NUM_GENES + 4, dtype=np.int32)
    if order == "permuted":
        tokens = rng.permutation(tokens)
    tokens[rng.random(NUM_GENES) < 0.1] = -1
    divisors = {
        "none": np.ones(NUM_GENES + 4),
        "fitted": rng.integers(1, 9, NUM_GENES + 4) / 7,
        # Neighbours of a float: the scores of equal counts are one number in single precision and several in double.
        "close": 1 + rng.integers(0, 5, NUM_GENES + 4) * 2.0**-40,
    }[medians]
    return RankEncoder(tokens, divisors, Sequence(max_genes, [3] if add_cls else [], [2] if add_eos else []), "token")


@pytest.mark.parametrize("kind", ["counts", "normalised", "large"])
@pytest.mark.parametrize("medians", ["none", "fitted", "close"])
@pytest.mark.parametrize("order", ["as in the file", "permuted"])
def test_tokens_are_those_of_the_numpy_form(kind, medians, order):
    block, keys = cells(kind), np.arange(40, dtype=np.uint64)
    for max_genes, add_cls, add_eos in ((200, True, False), (50, False, True), (2000, True, True)):
        ranks = encoder(order=order, medians=medians, max_genes=max_genes, add_cls=add_cls, add_eos=add_eos)
        found, expected = ranks.encode(block, keys), ranks._in_numpy(block, keys)
        assert ranks._compiled(block) is not None
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.values, expected.values, rtol=2e-7)
        np.testing.assert_array_equal(found.measured.cut_offsets, expected.measured.cut_offsets)
        for cell in range(40):
            part = slice(*found.measured.cut_offsets[cell : cell + 2])
            assert set(found.measured.cut_ids[part]) == set(expected.measured.cut_ids[part])
        assert found.ids.dtype == np.int32
        assert found.values.dtype == np.float32


@pytest.mark.parametrize("medians", ["none", "fitted"])
@pytest.mark.parametrize("spread", [1, 40, 2000])
def test_tokens_of_any_size_break_ties(medians, spread):
    ranks = encoder(order="permuted", medians=medians)
    known = ranks.tokens_of_columns >= 0
    wide = np.where(known, ranks.tokens_of_columns * spread, -1).astype(np.int32)
    divisors = np.ones(wide.max() + 1)
    divisors[wide[known]] = ranks.medians[ranks.tokens_of_columns[known]]
    ranks = RankEncoder(wide, divisors, Sequence(500, [3], []), "token")
    block, keys = cells("counts"), np.arange(40, dtype=np.uint64)
    np.testing.assert_array_equal(ranks.encode(block, keys).ids, ranks._in_numpy(block, keys).ids)


def test_no_cells_give_no_tokens():
    none = cells("counts").select(np.zeros(0, dtype=np.int64))
    assert len(encoder(order="permuted", medians="none").encode(none, np.zeros(0, dtype=np.uint64))) == 0


@pytest.mark.parametrize("columns", [[0, 0, 1], [2, 1, 3]])
def test_columns_that_do_not_ascend_are_left_to_numpy(columns):
    block = cells("counts", num_cells=5)
    block.indices[block.indptr[1] : block.indptr[1] + 3] = columns
    ranks = encoder(order="permuted", medians="fitted")
    assert ranks._compiled(block) is None
    keys = np.zeros(5, dtype=np.uint64)
    np.testing.assert_array_equal(ranks.encode(block, keys).ids, ranks._in_numpy(block, keys).ids)


def test_few_values_are_not_worth_it(monkeypatch):
    monkeypatch.setattr(_compile, "_WORTH_COMPILING", 10**9)
    assert encoder(order="permuted", medians="fitted")._compiled(cells("counts")) is None


def test_without_numba_numpy_is_used(monkeypatch):
    monkeypatch.setattr(_rank_kernel, "_fill", lambda size: None)
    block, ranks = cells("counts"), encoder(order="permuted", medians="fitted")
    assert rank_cells(block, ranks.columns, room=9, first=[3], scale=1e4) is None
    assert len(ranks.encode(block, np.arange(40, dtype=np.uint64))) == 40
