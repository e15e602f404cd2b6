"""The compiled binning gives the tokens of the numpy form, whatever the cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scmodelforge.data import _compile
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.types import CellBlock
from scmodelforge.tokenizers import _bin_kernel
from scmodelforge.tokenizers._bin_encoder import BinEncoder
from scmodelforge.tokenizers._bin_kernel import bin_cells

from .sparse_cells import NUM_GENES, block_of, cells

TIES = ("mid", "lower", "upper", "random")
SELECTIONS = ("random", "weighted", "top", "hvg_first")
METHODS = ("quantile", "fixed", "uniform")
numba = pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def compile_for_few_values_too(monkeypatch):
    monkeypatch.setattr(_compile, "_WORTH_COMPILING", 0)


def encoder(**changes: Any) -> BinEncoder:
    rng = np.random.default_rng(1)
    tokens = np.arange(4, NUM_GENES + 4, dtype=np.int32)
    if changes.pop("permuted", False):
        tokens = rng.permutation(tokens)
    tokens[rng.random(NUM_GENES) < 0.1] = -1
    n_bins = changes.get("n_bins", 51)
    method = changes.get("method", "quantile")
    classes = np.full(NUM_GENES + 4, 2, dtype=np.uint8)
    classes[rng.integers(4, NUM_GENES + 4, 60)] = 1
    classes[rng.integers(4, NUM_GENES + 4, 9)] = 0
    given: dict[str, Any] = {
        "method": method,
        "edges": np.sort(rng.integers(0, 9, n_bins - 1) / 2) if method == "fixed" else None,
        "n_bins": n_bins,
        "ties": "mid",
        "selection": "random",
        "classes": classes,
        "shown": np.arange(n_bins, dtype=np.float32),
        "max_genes": 200,
        "first": [3],
        "cls_value": -2.0,
        "pad_value": -2.0,
        "mask_value": -1.0,
    }
    return BinEncoder(tokens_of_columns=tokens, **{**given, **changes})


def assert_equal_forms(bins: BinEncoder, block: CellBlock) -> None:
    keys = cell_keys(5, block.positions)
    assert bins.rules is not None
    assert bin_cells(block, bins.rules, keys) is not None
    found, expected = bins.encode(block, keys), bins.in_numpy(block, keys)
    for name in ("offsets", "ids", "bin_ids", "values"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    np.testing.assert_array_equal(found.measured.cut_offsets, expected.measured.cut_offsets)
    np.testing.assert_array_equal(found.measured.cut_ids, expected.measured.cut_ids)


@pytest.mark.parametrize("kind", ["counts", "log1p", "continuous", "large"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", TIES)
def test_bins_are_those_of_the_numpy_form(kind, method, ties):
    for n_bins, permuted in ((51, False), (7, True), (2, False)):
        assert_equal_forms(encoder(method=method, ties=ties, n_bins=n_bins, permuted=permuted), cells(kind))


@pytest.mark.parametrize("kind", ["counts", "continuous"])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("permuted", [True, False])
def test_genes_that_are_kept_are_those_of_the_numpy_form(kind, selection, permuted):
    for max_genes, first in ((20, [3]), (120, []), (2000, [3])):
        assert_equal_forms(
            encoder(selection=selection, permuted=permuted, max_genes=max_genes, first=first), cells(kind)
        )


VALUES = st.sampled_from([1.0, 2.0, 3.0, 0.5, 1e6, 0.0]) | st.floats(2**-20, 1e9, width=32)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(st.integers(0, NUM_GENES - 1), VALUES, max_size=70), min_size=1, max_size=6),
    st.sampled_from(METHODS),
    st.sampled_from(TIES),
    st.sampled_from(SELECTIONS),
    st.integers(2, 40),
    st.sampled_from([2, 3, 10, 51]),
    st.booleans(),
)
def test_any_cells_give_the_tokens_of_the_numpy_form(rows, method, ties, selection, max_genes, n_bins, permuted):
    block = block_of([(np.array(sorted(row)), np.array([row[c] for c in sorted(row)])) for row in rows])
    assert_equal_forms(
        encoder(method=method, ties=ties, selection=selection, max_genes=max_genes, n_bins=n_bins, permuted=permuted),
        block,
    )


def test_no_cells_give_no_tokens():
    none = cells("counts").select(np.zeros(0, dtype=np.int64))
    assert len(encoder().encode(none, np.zeros(0, dtype=np.uint64))) == 0


@pytest.mark.parametrize("columns", [[0, 0, 1], [2, 1, 3]])
def test_columns_that_do_not_ascend_are_left_to_numpy(columns):
    block, keys = cells("counts", num_cells=5), np.zeros(5, dtype=np.uint64)
    block.indices[block.indptr[1] : block.indptr[1] + 3] = columns
    assert bin_cells(block, encoder().rules, keys) is None
    np.testing.assert_array_equal(encoder().encode(block, keys).bin_ids, encoder().in_numpy(block, keys).bin_ids)


def test_values_in_double_precision_are_left_to_numpy():
    block, keys = cells("continuous", num_cells=5), np.zeros(5, dtype=np.uint64)
    block.data = block.data.astype(np.float64) + 1e-12
    assert bin_cells(block, encoder().rules, keys) is None


def test_few_values_are_not_worth_it(monkeypatch):
    monkeypatch.setattr(_compile, "_WORTH_COMPILING", 10**9)
    assert bin_cells(cells("counts"), encoder().rules, np.zeros(30, dtype=np.uint64)) is None


def test_without_numba_numpy_is_used(monkeypatch):
    monkeypatch.setattr(_bin_kernel, "_fill", lambda size: None)
    block = cells("counts")
    assert bin_cells(block, encoder().rules, np.zeros(30, dtype=np.uint64)) is None
    assert len(encoder().encode(block, np.arange(30, dtype=np.uint64))) == 30
