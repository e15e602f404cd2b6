"""Compiled loops and their numpy forms do the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge.data import _compile
from scmodelforge.data._kernels import (
    copy_cells,
    copy_rows,
    fit_in_16_bits,
    pack_cells,
    pad_rows,
    row_sums,
    scaled,
    take_rows,
)

pytest.importorskip("numba")


@pytest.fixture(params=[0, 10**9], ids=["numba", "numpy"])
def form(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compile, "_WORTH_COMPILING", request.param)
        yield


NOT_16_BITS = st.sampled_from([-1.0, 0.5, 65_536.0, -3e38, 3e38, float("nan"), float("inf"), -float("inf"), 1e-40])


@pytest.mark.usefixtures("form")
class TestBothForms:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, 5), max_size=12), st.randoms(use_true_random=False))
    def test_rows_are_taken_in_the_order_asked_for(self, lengths, random):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.arange(offsets[-1], dtype=np.float32)
        rows = np.array([random.randrange(len(lengths)) for _ in range(random.randrange(20))] if lengths else [], int)
        chosen = np.concatenate([[0], np.cumsum(np.array(lengths, int)[rows])]).astype(np.int64)
        expected = [value for row in rows for value in values[offsets[row] : offsets[row + 1]]]
        found = take_rows(values, offsets, rows, chosen)
        assert found.tolist() == expected
        assert found.dtype == np.float32

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=9), st.randoms(use_true_random=False))
    def test_pieces_are_copied_to_their_places(self, pieces, random):
        values = np.arange(15, dtype=np.int32) + 1
        starts, lengths = np.array(pieces, dtype=np.int64).reshape(-1, 2).T
        order = random.sample(range(len(pieces)), len(pieces))
        places = np.zeros(len(pieces), dtype=np.int64)
        places[order] = np.cumsum(lengths[order]) - lengths[order]
        out = np.zeros(int(lengths.sum()) + 2, dtype=np.int64)
        copy_rows(values, starts, lengths, places, out)
        for start, length, place in zip(starts, lengths, places, strict=True):
            assert out[place : place + length].tolist() == values[start : start + length].tolist()
        assert out[-2:].tolist() == [0, 0]

    def test_values_and_columns_are_copied_together(self):
        values, columns = np.array([3, 1, 65_535, 7], np.uint16), np.array([0, 9, 65_535, 2], np.uint16)
        out_values, out_columns = np.zeros(4, np.float32), np.zeros(4, np.int32)
        runs = np.array([2, 0]), np.array([2, 1]), np.array([1, 3])
        copy_cells(values, columns, *runs, out_values, out_columns)
        assert out_values.tolist() == [0, 65_535, 7, 3]
        assert out_columns.tolist() == [0, 65_535, 2, 0]

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.integers(0, 65_535), max_size=40), st.lists(NOT_16_BITS, max_size=1), st.randoms())
    def test_values_are_packed_only_if_none_is_lost(self, whole, other, random):
        data = np.array(random.sample(whole + other, len(whole) + len(other)), dtype=np.float32)
        columns = np.arange(len(data), dtype=np.int32)
        packed, packed_columns = np.zeros(len(data), np.uint16), np.zeros(len(data), np.uint16)
        assert fit_in_16_bits(data) == (not other)
        assert pack_cells(data, columns, packed, packed_columns) == (not other)
        if not other:
            assert packed.tolist() == data.tolist()
        wide = np.zeros(len(data), np.float32)
        assert pack_cells(data, columns, wide, packed_columns)
        np.testing.assert_array_equal(wide, data)
        assert packed_columns.tolist() == columns.tolist()

    def test_what_is_all_but_a_whole_number_is_none(self):
        whole = np.arange(1, 500, dtype=np.float64)
        for values in (np.nextafter(whole, 0), np.nextafter(whole, 1e9), np.expm1(np.log1p(whole))):
            assert not fit_in_16_bits(values)
        assert fit_in_16_bits(whole)

    @pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "f4", "f8"])
    def test_negative_values_do_not_fit(self, dtype):
        assert not fit_in_16_bits(np.array([3, -1, 5], dtype))

    @pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "u8", "f8"])
    def test_values_of_other_types(self, dtype):
        assert fit_in_16_bits(np.array([0, 1, 255], dtype))
        if dtype != "u1":
            assert fit_in_16_bits(np.array([65_535, 0], dtype))
        if dtype in ("i4", "u8", "f8"):
            assert not fit_in_16_bits(np.array([0, 65_536], dtype))
            assert not fit_in_16_bits(np.array([0, 2**31 - 1], dtype))

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, 5), max_size=9), st.integers(0, 3))
    def test_rows_are_filled_up_on_the_right(self, lengths, more):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.arange(offsets[-1], dtype=np.int32) + 1
        width = max(lengths, default=0) + more
        found = pad_rows(values, offsets, width, fill=-7, dtype=np.int64)
        assert found.dtype == np.int64
        assert found.shape == (len(lengths), width)
        for row, length in zip(found.tolist(), lengths, strict=True):
            assert row[length:] == [-7] * (width - length)
        assert found[found != -7].tolist() == values.tolist()


def test_few_numbers_do_not_import_numba():
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from scmodelforge.data._kernels import take_rows; z = np.zeros(3, np.int64); "
        "take_rows(np.arange(2), np.array([0, 1, 2]), np.array([1]), np.array([0, 1])); print('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


ROWS = st.lists(st.lists(st.integers(0, 700) | st.floats(0, 1e6, width=32), max_size=9), max_size=7)


@pytest.mark.usefixtures("form")
class TestScaling:
    @settings(max_examples=60, deadline=None)
    @given(ROWS)
    def test_sums_of_rows_some_of_them_empty(self, rows):
        data, indptr = as_rows(rows)
        expected = [np.array(row, np.float32).astype(np.float64).sum() for row in rows]
        assert row_sums(data, indptr) == pytest.approx(expected, rel=1e-14)

    @settings(max_examples=60, deadline=None)
    @given(ROWS, st.booleans(), st.floats(1e-3, 1e5))
    def test_values_times_the_factor_of_their_row(self, rows, log1p, factor):
        data, indptr = as_rows(rows)
        factors = factor / (1.0 + np.arange(len(rows)))
        exact = data.astype(np.float64) * np.repeat(factors, np.diff(indptr))
        found = scaled(data, indptr, factors, log1p=log1p)
        assert found.dtype == np.float32
        assert found == pytest.approx(np.log1p(exact) if log1p else exact, rel=1.2e-7, abs=1e-44)

    def test_a_logarithm_is_of_the_same_cell(self):
        data, indptr = as_rows([[3, 3, 255, 256, 2.5], [3, 255], [], [3]])
        factors = np.array([1.0, 2.0, 5.0, 4.0])
        expected = np.log1p(np.array([3, 3, 255, 256, 2.5, 6, 510, 12]))
        assert scaled(data, indptr, factors, log1p=True) == pytest.approx(expected, rel=1e-7)

    @pytest.mark.parametrize("log1p", [True, False])
    def test_negative_values_are_scaled_as_they_are(self, log1p):
        data, indptr = as_rows([[-0.5, -0.0, 2]])
        found = scaled(data, indptr, np.ones(1), log1p=log1p)
        assert found == pytest.approx(np.log1p([-0.5, 0, 2]) if log1p else [-0.5, 0, 2])


def as_rows(rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.array([value for row in rows for value in row], dtype=np.float32), indptr
