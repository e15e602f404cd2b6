"""Reading rows of .h5ad files."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodelforge._registry import SOURCES
from scmodelforge.data.sources._matrix import CsrMatrix, DenseMatrix
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from scmodelforge.data.types import RowRange
from tests.conftest import make_adata

from .h5ad_files import dense, open_files, write


class TestRead:
    @settings(max_examples=12, deadline=None)
    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from(["csr", "dense"]),
        st.sampled_from(["f4", "f8", "i4", "u2", "?", ">f4"]),
        st.sampled_from([None, "gzip", "lzf"]),
        st.data(),
    )
    def test_any_ranges_equal_slices_of_the_matrix(self, seed, storage, dtype, compression, data):
        rng = np.random.default_rng(seed)
        num_cells, num_genes = rng.integers(1, 40), rng.integers(1, 20)
        matrix = rng.poisson(0.7, (num_cells, num_genes)).astype(dtype)
        adata = ad.AnnData(X=sp.csr_matrix(matrix.astype(matrix.dtype.newbyteorder("="))))
        if storage == "dense":
            adata = ad.AnnData(X=matrix)
        bounds = st.tuples(st.integers(0, int(num_cells)), st.integers(0, int(num_cells))).map(sorted)
        ranges = data.draw(st.lists(bounds, min_size=1, max_size=5))
        with tempfile.TemporaryDirectory() as folder:
            source = open_files(write(Path(folder), adata, compression=compression), layer="X")
            for start, stop in ranges:
                block = source.read(RowRange(0, start, stop))
                np.testing.assert_array_equal(dense(block), matrix[start:stop].astype(np.float32))
                assert block.positions.tolist() == list(range(start, stop))
                assert (block.data.dtype, block.indices.dtype, block.indptr.dtype) == (np.float32, np.int32, np.int64)
            source.close()

    def test_rows_come_as_they_are_stored_with_zeros_and_in_any_order(self, tmp_path, tiny_adata):
        path = write(tmp_path, tiny_adata[:2, :3].copy())
        with h5py.File(path, "r+") as h5:
            for name, values in {"data": [5.0, 0.0, 1.0, 2.0], "indices": [2, 0, 1, 0], "indptr": [0, 2, 4]}.items():
                del h5["X"][name]
                h5["X"][name] = np.array(values)
        block = open_files(path).read(RowRange(0, 0, 2))
        assert (block.data.tolist(), block.indices.tolist(), block.indptr.tolist()) == (
            [5, 0, 1, 2], [2, 0, 1, 0], [0, 2, 4],
        )  # fmt: skip

    def test_files_follow_each_other_and_keep_their_own_genes(self, tmp_path):
        first, second = make_adata(7, 5), make_adata(4, 9, seed=1, prefix="ENSMUSG")
        source = open_files(write(tmp_path, first, "b.h5ad"), write(tmp_path, second, "a.h5ad"))
        assert source.file_sizes == [7, 4]
        assert [panel.name for panel in source.panels] == ["b.h5ad", "a.h5ad"]
        assert [panel.gene_ids.tolist() for panel in source.panels] == [list(first.var_names), list(second.var_names)]
        block = source.read(RowRange(1, 1, 3))
        assert block.positions.tolist() == [8, 9]
        assert block.panel is source.panels[1]
        np.testing.assert_array_equal(dense(block), second.X.toarray()[1:3])
        assert list(source.obs_names()) == [*first.obs_names, *second.obs_names]

    @pytest.mark.parametrize("most_open", [1, 64])
    def test_four_threads_read_what_one_reads(self, tmp_path, monkeypatch, most_open):
        monkeypatch.setattr("scmodelforge.data.sources._pool._MOST_OPEN", most_open)
        files = [make_adata(100, 12, seed=seed) for seed in range(2)]
        source = open_files(*(write(tmp_path, adata, f"{i}.h5ad", compression="gzip") for i, adata in enumerate(files)))
        right = []

        def read_at_random(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for file in rng.integers(0, 2, 30).tolist():
                start, stop = np.sort(rng.integers(0, 101, 2)).tolist()
                expected = files[file].X.toarray()[start:stop]
                right.append(np.array_equal(dense(source.read(RowRange(file, start, stop))), expected))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read_at_random, range(4)))
        assert right == [True] * 120

    def test_a_thread_waits_while_another_has_a_file(self, tiny_h5ad):
        source = open_files(tiny_h5ad)  # a file must not be closed, to open another one, while it is read
        with ThreadPoolExecutor(1) as pool:
            with source._pool.use(0):
                reading = pool.submit(source.read, RowRange(0, 0, 3))
                with pytest.raises(TimeoutError):
                    reading.result(timeout=0.05)
            assert len(reading.result(timeout=20)) == 3

    def test_rows_that_are_not_there_are_a_mistake_of_the_caller(self, tiny_h5ad):
        with pytest.raises(IndexError, match=r"rows 50 to 61 of tiny.h5ad, which has 60 cells"):
            open_files(tiny_h5ad).read(RowRange(0, 50, 61))

    def test_more_files_than_may_be_open_are_read(self, tmp_path, tiny_adata, monkeypatch):
        monkeypatch.setattr("scmodelforge.data.sources._pool._MOST_OPEN", 2)
        paths = [write(tmp_path, tiny_adata[i : i + 3].copy(), f"{i}.h5ad") for i in range(4)]
        source = open_files(*paths)
        for file in (0, 3, 1, 0, 2):
            expected = tiny_adata.X.toarray()[file : file + 3]
            np.testing.assert_array_equal(dense(source.read(RowRange(file, 0, 3))), expected)


class Recorder:
    """An array that notes which slices are read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.slices: list[tuple[int, int]] = []

    def __getitem__(self, part: slice) -> np.ndarray:
        self.slices.append((part.start, part.stop))
        return self.array[part]


class TestWhatIsRead:
    def test_sparse_rows_cost_their_own_values_only(self):
        matrix = sp.random(1000, 50, 0.2, format="csr", random_state=0, dtype=np.float32)
        file = {"X/data": Recorder(matrix.data), "X/indices": Recorder(matrix.indices)}
        CsrMatrix("X", "X", matrix.shape, matrix.indptr.astype(np.int64)).read(file, 300, 310)
        expected = [(int(matrix.indptr[300]), int(matrix.indptr[310]))]
        assert file["X/data"].slices == file["X/indices"].slices == expected

    def test_dense_rows_are_read_in_parts_of_bounded_size(self, monkeypatch):
        monkeypatch.setattr("scmodelforge.data.sources._matrix._DENSE_AT_ONCE", 40)
        values = np.random.default_rng(0).poisson(0.5, (100, 8))
        recorder = Recorder(values)
        data, indices, indptr = DenseMatrix("X", "X", values.shape).read({"X": recorder}, 17, 30)
        assert recorder.slices == [(17, 22), (22, 27), (27, 30)]
        np.testing.assert_array_equal(
            sp.csr_matrix((data, indices, indptr), shape=(13, 8)).toarray(), values[17:30].astype(np.float32)
        )


class TestCopies:
    def test_a_pickled_source_reads_on(self, tiny_h5ad, tiny_adata):
        source = open_files(tiny_h5ad)
        source.read(RowRange(0, 0, 3))
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(dense(copy.read(RowRange(0, 2, 9))), tiny_adata.X.toarray()[2:9])

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_a_forked_process_reads_on_while_the_lock_is_held(self, tiny_h5ad, tiny_adata):
        source = open_files(tiny_h5ad)
        receiver, sender = get_context("fork").Pipe(duplex=False)
        process = get_context("fork").Process(target=lambda: sender.send(dense(source.read(RowRange(0, 2, 9)))))
        with source._pool.use(0):  # the child inherits a lock that nobody there will release
            process.start()
            assert receiver.poll(20)
            received = receiver.recv()
        process.join()
        np.testing.assert_array_equal(received, tiny_adata.X.toarray()[2:9])

    def test_a_closed_source_opens_its_files_again(self, tiny_h5ad, tiny_adata):
        source = open_files(tiny_h5ad)
        source.close()
        source.close()
        np.testing.assert_array_equal(dense(source.read(RowRange(0, 0, 1))), tiny_adata.X.toarray()[:1])


class TestPaths:
    def test_a_pattern_gives_its_files_sorted(self, tmp_path, tiny_adata):
        for name in ("b.h5ad", "a.h5ad", "c.txt"):
            write(tmp_path, tiny_adata, name)
        assert [panel.name for panel in open_files(tmp_path / "*.h5ad").panels] == ["a.h5ad", "b.h5ad"]

    def test_home_and_working_directory_are_understood(self, tiny_h5ad, monkeypatch):
        monkeypatch.setenv("HOME", str(tiny_h5ad.parent))
        monkeypatch.chdir(tiny_h5ad.parent)
        assert open_files(Path("~/tiny.h5ad")).file_sizes == open_files(Path("tiny.h5ad")).file_sizes == [60]

    def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(self, tmp_path, tiny_adata):
        assert open_files(write(tmp_path, tiny_adata, "cells[1].h5ad")).panels[0].name == "cells[1].h5ad"


def test_the_source_is_registered_with_its_settings():
    assert SOURCES.get("local") is LocalSource
    assert LocalSource.config_class is LocalDataConfig


def test_reading_needs_neither_torch_nor_anndata(tiny_h5ad):
    script = (
        "import sys; from scmodelforge.data import LocalDataConfig, LocalSource\n"
        "from scmodelforge.data.types import RowRange\n"
        "LocalSource(LocalDataConfig(paths=[sys.argv[1]])).read(RowRange(0, 0, 5))\n"
        "print(sorted({'torch', 'anndata', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tiny_h5ad)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
