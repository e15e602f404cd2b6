"""Rows of .h5ad files read past HDF5 are those that HDF5 reads; what is unusual is left to it; damage is named."""

from __future__ import annotations

import threading

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data import _compile
from scmodelforge.data.gather import gather_by_ranges
from scmodelforge.data.sources._hdf5 import hdf5_table
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource

NUM_CELLS, NUM_GENES = 300, 40


def write(path, *, chunk=100, values=np.float32, columns=np.int32, seed=0, empty=(), **packing):
    """Write a file whose chunks have a given size and packing, and return its counts."""
    counts = np.random.default_rng(seed).poisson(0.7, (NUM_CELLS, NUM_GENES))
    counts[list(empty)] = 0
    ad.AnnData(sp.csr_matrix(counts.astype(np.float32))).write_h5ad(path)
    matrix = sp.csr_matrix(counts)
    with h5py.File(path, "r+") as file:
        for name, array, dtype in (("data", matrix.data, values), ("indices", matrix.indices, columns)):
            del file[f"X/{name}"]
            chunks = (chunk,) if chunk else None
            file["X"].create_dataset(name, data=array.astype(dtype), chunks=chunks, **packing)
    return counts


def source(path) -> LocalSource:
    return LocalSource(LocalDataConfig(source="local", paths=[str(path)]))


def dense(block) -> np.ndarray:
    found = np.zeros((len(block), NUM_GENES))
    found[np.repeat(np.arange(len(block)), np.diff(block.indptr)), block.indices] = block.data
    return found


PACKINGS = {
    "not at all": {"chunk": 0},
    "chunks alone": {},
    "gzip": {"compression": "gzip", "compression_opts": 4},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True},
    "one chunk": {"chunk": 100_000, "compression": "gzip", "maxshape": (None,)},
    "gzip, int64": {"compression": "gzip", "values": np.int64, "columns": np.int64},
    "gzip and shuffle, float64": {"compression": "gzip", "shuffle": True, "values": np.float64},
    "shuffle, uint16": {"compression": "gzip", "shuffle": True, "values": np.uint8, "columns": np.uint16},
}
UNUSUAL = {
    "lzf": {"compression": "lzf"},
    "checksums": {"compression": "gzip", "fletcher32": True},
    "big-endian": {"values": ">f4"},
}


class TestReading:
    @pytest.mark.parametrize("compiles", [True, False], ids=["numba", "numpy"])
    @pytest.mark.parametrize("packing", [*PACKINGS, *UNUSUAL])
    def test_any_rows_in_any_order(self, tmp_path, monkeypatch, packing, compiles):
        monkeypatch.setattr(_compile, "_WORTH_COMPILING", 0 if compiles else 10**9)
        counts = write(tmp_path / "cells.h5ad", empty=[0, 5, 6, 299], **{**PACKINGS, **UNUSUAL}[packing])
        cells = source(tmp_path / "cells.h5ad")
        assert (cells._tables_of(0) is None) == (packing in UNUSUAL)
        rng = np.random.default_rng(1)
        for rows in (np.arange(300), rng.permutation(300)[:57], np.array([299]), np.array([0, 5]), np.array([17, 3])):
            found = cells.read_rows(0, rows)
            np.testing.assert_array_equal(dense(found), counts[rows])
            np.testing.assert_array_equal(found.positions, rows)
            assert (found.data.dtype, found.indices.dtype, found.indptr.dtype) == (np.float32, np.int32, np.int64)
            expected = gather_by_ranges(cells, 0, rows)
            for name in ("data", "indices", "indptr", "positions"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))

    def test_of_several_files_positions_count_through(self, tmp_path):
        counts = [write(tmp_path / f"{name}.h5ad", seed=seed, compression="gzip") for seed, name in enumerate("ab")]
        cells = LocalSource(LocalDataConfig(source="local", paths=[str(tmp_path / f"{name}.h5ad") for name in "ab"]))
        found = cells.read_rows(1, np.array([7, 2]))
        np.testing.assert_array_equal(found.positions, [307, 302])
        np.testing.assert_array_equal(dense(found), counts[1][[7, 2]])

    def test_threads_read_beside_each_other(self, tmp_path):
        counts = write(tmp_path / "cells.h5ad", compression="gzip", chunk=50)
        cells, wrong = source(tmp_path / "cells.h5ad"), []

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(30):
                rows = rng.permutation(NUM_CELLS)[:40]
                if not np.array_equal(dense(cells.read_rows(0, rows)), counts[rows]):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_after_closing_files_are_opened_again(self, tmp_path):
        counts = write(tmp_path / "cells.h5ad", compression="gzip")
        cells = source(tmp_path / "cells.h5ad")
        cells.read_rows(0, np.arange(3))
        cells.close()
        np.testing.assert_array_equal(dense(cells.read_rows(0, np.arange(3))), counts[:3])


class TestTables:
    def table(self, path, **options):
        with h5py.File(path, "w") as file:
            return hdf5_table(file.create_dataset("x", **options), "x")

    def test_values_that_were_never_written_are_left_to_hdf5(self, tmp_path):
        options = {"shape": (100,), "dtype": "f4", "chunks": (10,), "fillvalue": 3}
        assert self.table(tmp_path / "x.h5", **options) is None

    def test_two_dimensions_are_left_to_hdf5(self, tmp_path):
        assert self.table(tmp_path / "x.h5", data=np.ones((4, 4)), chunks=(2, 2)) is None

    def test_values_kept_in_another_file_are_left_to_hdf5(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("x", shape=(4,), dtype="f4", external=[(tmp_path / "other.bin", 0, 16)])
            file["x"][:] = 1
            assert hdf5_table(file["x"], "x") is None

    def test_chunks_that_skipped_a_filter_are_read_as_they_are(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        counts = write(path, compression="gzip", chunk=100)
        with h5py.File(path, "r+") as file:
            for name in ("data", "indices"):
                item = file[f"X/{name}"]
                item.id.write_direct_chunk((100,), item[100:200].tobytes(), filter_mask=1)
        cells = source(path)
        table = cells._tables_of(0)[0]
        assert [table.codecs[code] for code in table.codec].count(()) == 1
        np.testing.assert_array_equal(dense(cells.read_rows(0, np.arange(300))), counts)


class TestDamage:
    @pytest.mark.parametrize("packing", ["not at all", "gzip", "gzip and shuffle"])
    def test_a_file_that_was_cut_off(self, tmp_path, packing):
        path = tmp_path / "cells.h5ad"
        write(path, **PACKINGS[packing])
        cells = source(path)
        end = cells._tables_of(0)[0].offsets[-1] + 4
        with path.open("r+b") as file:
            file.truncate(end)
        with pytest.raises(DataError, match=r"cells.h5ad: X/data ends early: .* It is cut off or was changed"):
            cells.read_rows(0, np.arange(300))

    def test_a_chunk_with_other_bytes(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        write(path, compression="gzip", chunk=100)
        cells = source(path)
        table = cells._tables_of(0)[0]
        with path.open("r+b") as file:
            file.seek(int(table.offsets[2]) + 8)
            file.write(bytes(20))
        with pytest.raises(
            DataError,
            match=r"X/data: the chunk of values 200 to 299 cannot be unpacked .* concerns rows \d+ to ",
        ):
            cells.read_rows(0, np.arange(300))
        assert len(cells.read_rows(0, np.arange(2))) == 2  # other chunks are whole

    def test_a_file_that_is_gone(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        write(path, compression="gzip")
        cells = source(path)
        cells._tables_of(0)
        cells.close()
        path.unlink()
        with pytest.raises(DataError, match=r"cells.h5ad cannot be read: No such file"):
            cells.read_rows(0, np.arange(3))

    def test_columns_that_do_not_exist(self, tmp_path):
        path = tmp_path / "cells.h5ad"
        write(path)
        cells = source(path)
        cells.close()
        with h5py.File(path, "r+") as file:
            file["X/indices"][250] = NUM_GENES
        with pytest.raises(DataError, match=r"column numbers outside 0 to 39 in rows 0 to 299"):
            cells.read_rows(0, np.arange(300))
