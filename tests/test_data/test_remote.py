"""Cells of remote files are those of local ones, bit for bit, for few requests."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.sources import _block_file
from scmodelforge.data.sources._hdf5 import hdf5_table
from scmodelforge.data.sources._remote import Client
from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources._url import RemoteUrl
from scmodelforge.data.types import RowRange
from tests.conftest import make_adata
from tests.test_data.remote_cells import NUM_CELLS, assert_same, batches, source, write_cells
from tests.test_data.remote_servers import faulty_server


class TestReading:
    def test_rows_are_those_of_the_local_file(self, server, path):
        here, there = source(path), source(f"{server.url}/lung/cells.h5ad")
        assert (here.file_sizes, here.obs_columns, here.describe()) == (
            there.file_sizes,
            there.obs_columns,
            there.describe(),
        )
        np.testing.assert_array_equal(here.panels[0].gene_ids, there.panels[0].gene_ids)
        for rows in (np.random.default_rng(0).permutation(NUM_CELLS)[:300], np.array([7]), np.zeros(0, dtype=np.int64)):
            assert_same(there.read_rows(0, rows), here.read_rows(0, rows))
        assert_same(there.read(RowRange(0, 3, 900)), here.read(RowRange(0, 3, 900)))
        assert list(here.obs_names()) == list(there.obs_names())
        np.testing.assert_array_equal(here.obs("cell_type")[0], there.obs("cell_type")[0])

    @pytest.mark.parametrize("packing", [{"compression": "lzf"}, {"compression": "gzip", "as_dense": "X"}, {}])
    def test_files_that_only_hdf5_reads_and_files_without_packing(self, tmp_path, packing):
        make_adata(200, 50).write_h5ad(tmp_path / "a.h5ad", **packing)
        with faulty_server(**{"a.h5ad": (tmp_path / "a.h5ad").read_bytes()}) as server:
            here, there = source(tmp_path / "a.h5ad"), source(f"{server.url}/a.h5ad")
            rows = np.random.default_rng(0).permutation(200)[:50]
            assert_same(there.read_rows(0, rows), here.read_rows(0, rows))
            assert_same(there.read(RowRange(0, 0, 200)), here.read(RowRange(0, 0, 200)))

    @pytest.mark.parametrize("num_workers", [0, 3])
    def test_batches_of_a_loader_are_those_of_the_local_file(self, server, path, num_workers):
        there = batches(source(f"{server.url}/lung/cells.h5ad"), num_workers)
        assert len(there) > 10
        assert there == batches(source(path), num_workers)

    def test_a_copy_by_pickle_reads_the_same_version(self, server, path):
        copy = pickle.loads(pickle.dumps(source(f"{server.url}/lung/cells.h5ad")))
        assert_same(copy.read_rows(0, np.arange(9)), source(path).read_rows(0, np.arange(9)))
        server.files["/lung/cells.h5ad"] += b"x"
        copy = pickle.loads(pickle.dumps(copy))
        with pytest.raises(DataError, match=r"^cells.h5ad was changed while it was being read: http://"):
            copy.read_rows(0, np.arange(9))

    def test_a_closed_source_reads_again(self, server, path):
        there = source(f"{server.url}/lung/cells.h5ad")
        there.close()
        assert_same(there.read_rows(0, np.arange(9)), source(path).read_rows(0, np.arange(9)))

    def test_a_forked_process_is_told_to_start_anew_and_the_interpreter_ends_well(self, server):
        script = f"""
import os, sys
import numpy as np
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
source = LocalSource(LocalDataConfig(paths=["{server.url}/lung/cells.h5ad"]))
if not os.fork():
    try:
        source.read_rows(0, np.arange(3))
    except ValueError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(len(source.read_rows(0, np.arange(3))))
"""
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
        assert "forked from one that has read some. Let workers begin anew: DataLoader(..., multi" in done.stdout
        assert done.stdout.endswith("\n3\n")

    def test_forgotten_files_do_not_stop_the_threads_that_fetch(self, server, path):
        """h5py frees a file under the lock that it holds while it waits for bytes of another one."""
        script = f"""
import gc, h5py
from scmodelforge.data.sources import _remote
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
pieces = _remote.RemoteFile.pieces
def collecting(self, request):
    junk = [[] for _ in range(20_000)]
    return pieces(self, request)
_remote.RemoteFile.pieces = collecting
forgotten = [h5py.File({str(path)!r})]
forgotten.append(forgotten)
gc.collect()
gc.disable()
del forgotten
config = LocalDataConfig(paths=["{server.url}/lung/cells.h5ad"])
gc.set_threshold(5000, 1, 1)
gc.enable()
print(LocalSource(config).file_sizes)
"""
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=30)
        assert done.stdout == f"[{NUM_CELLS}]\n"

    def test_without_obstore_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "obstore", None)
        words = r"Reading remote files needs the package 'obstore'.*scmodelforge\[cloud\]"
        with pytest.raises(ImportError, match=words):
            source("https://example.org/a.h5ad")


class TestRequests:
    def test_they_are_far_fewer_than_chunks(self, server, path):
        there = source(f"{server.url}/lung/cells.h5ad")
        with h5py.File(path) as file:
            num_chunks = sum(len(hdf5_table(file[f"X/{name}"], "").offsets) for name in ("data", "indices"))
        assert num_chunks > 300
        there.read_rows(0, np.arange(2))
        server.forget()
        there.read_rows(0, np.random.default_rng(0).permutation(NUM_CELLS)[: NUM_CELLS // 2])
        assert 1 <= len(server.requests) <= 4

    def test_the_leaves_of_a_tree_of_chunks_are_fetched_together(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_block_file, "_BLOCK", 4096)
        path = write_cells(tmp_path / "cells.h5ad", chunk=20)
        counts = []
        with faulty_server(**{"cells.h5ad": path.read_bytes()}) as server:
            for kind in (_block_file._CHUNKS, -1):
                monkeypatch.setattr(_block_file, "_CHUNKS", kind)
                server.forget()
                source(f"{server.url}/cells.h5ad")._tables_of(0)
                counts.append(len(server.requests))
        assert counts[0] < counts[1]

    def test_a_row_reads_a_small_part_of_the_file(self, tmp_path):
        adata = make_adata(4000, 1000)
        adata.write_h5ad(tmp_path / "a.h5ad", compression="gzip")
        size = (tmp_path / "a.h5ad").stat().st_size
        with faulty_server(**{"a.h5ad": (tmp_path / "a.h5ad").read_bytes()}) as server:
            there = source(f"{server.url}/a.h5ad")
            there.read_rows(0, np.array([5]))
            server.forget()
            there.read_rows(0, np.array([2000]))
            assert server.bytes_asked < size / 10

    def test_many_are_under_way_at_a_time(self, server):
        server.latency = 0.1
        big = bytes(random.Random(0).randbytes(20 << 20))
        server.files["/big"] = big
        file = Client(RemoteConfig(max_in_flight=8)).open(RemoteUrl(f"{server.url}/big"), "big")
        began = time.perf_counter()
        starts = np.arange(8) * (2 << 20) + 17
        found = list(file.ranges(starts, np.full(8, 1000), label="big"))
        assert time.perf_counter() - began < 0.5  # one after another they take 0.8 s
        assert found == [big[start : start + 1000] for start in starts]
