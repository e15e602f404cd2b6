"""A zarr store in any folder, such as a remote one, is read by few ranges of bytes."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from scmodelforge._errors import DataError
from scmodelforge.data.sources._bytes import Descriptors
from scmodelforge.data.sources._examine import examine
from scmodelforge.data.sources._folder import LocalFolder
from scmodelforge.data.sources._pool import FilePool
from scmodelforge.data.sources._zarr import ZarrFile
from tests.conftest import make_adata

from .zarr_stores import write_collection, write_store


class MemoryFolder:
    """A folder in memory that counts what is asked of it."""

    is_remote = False
    lists_files = True

    def __init__(self, path: Path) -> None:
        self.files = {
            file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
        }
        self.opened: Counter[str] = Counter()
        self.read: list[tuple[str, int, int]] = []

    @contextmanager
    def reader(self, key: str):
        if key not in self.files:
            raise FileNotFoundError(key)
        self.opened[key] += 1
        yield MemoryBytes(self, key)

    def zarr_store(self) -> MemoryStore:
        prototype = default_buffer_prototype()
        return MemoryStore({key: prototype.buffer.from_bytes(content) for key, content in self.files.items()})

    def digest(self) -> dict:
        return {}

    def close(self) -> None:
        pass


class MemoryBytes:
    descriptor = None

    def __init__(self, folder: MemoryFolder, key: str) -> None:
        self.folder, self.key = folder, key
        self.size = len(folder.files[key])

    def ranges(self, starts, sizes, *, label):
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            self.folder.read.append((self.key, start, size))
            yield self.folder.files[self.key][start : start + size]


def opened(folder: MemoryFolder, member: str = ""):
    """Return the matrix of a store and what reads its rows."""
    pool = FilePool([ZarrFile(folder, "memory", member)])
    with pool.use(0) as file:
        matrix = examine(file, "memory", layer=None, gene_id_column=None).matrix
        tables = matrix.tables(file)
    return lambda rows: matrix.gather(pool[0].reader, tables, rows)


class TestAnyFolder:
    @pytest.fixture
    def adata(self):
        return make_adata(600, 40)

    def test_rows_cost_the_chunks_they_are_in_once(self, tmp_path, adata):
        packing = {"chunk": 500, "shard": 5000, "compressors": BloscCodec(cname="lz4", shuffle="shuffle", typesize=4)}
        folder = MemoryFolder(write_store(tmp_path, adata, **packing))
        gather = opened(folder)
        folder.read.clear()
        folder.opened.clear()
        rows = np.array([101, 7, 100, 102, 8])
        data, indices, indptr = gather(rows)
        np.testing.assert_array_equal(data, adata.X[rows].data)
        np.testing.assert_array_equal(indices, adata.X[rows].indices)
        np.testing.assert_array_equal(indptr, adata.X[rows].indptr)
        starts = adata.X.indptr
        chunks = {value // 500 for row in rows for value in range(starts[row], starts[row + 1])}
        assert len(folder.read) == 2 * len(chunks)
        assert len(set(folder.read)) == len(folder.read)
        assert max(folder.opened.values()) == 1

    def test_a_member_of_a_collection(self, tmp_path):
        parts = {number: make_adata(20, 10, seed=number) for number in range(2)}
        gather = opened(MemoryFolder(write_collection(tmp_path, parts)), "dataset_1")
        np.testing.assert_array_equal(gather(np.arange(20))[0], parts[1].X.data)


class TestLocalFolder:
    def test_a_file_that_may_not_be_opened_is_named(self, tmp_path):
        (tmp_path / "x").mkdir()
        folder = LocalFolder(tmp_path / "x", Descriptors())
        with pytest.raises(FileNotFoundError), folder.reader("y"):
            pass
        (tmp_path / "x" / "loop").symlink_to(tmp_path / "x" / "loop")
        with (
            pytest.raises(DataError, match="loop cannot be read: Too many levels of"),
            folder.reader("loop"),
        ):
            pass

    def test_no_more_descriptors_than_allowed_stay_open(self, tmp_path, monkeypatch):
        monkeypatch.setattr("scmodelforge.data.sources._bytes._MOST_DESCRIPTORS", 3)
        for number in range(8):
            (tmp_path / str(number)).write_bytes(bytes([number]))
        descriptors = Descriptors()
        folder = LocalFolder(tmp_path, descriptors)
        for number in [*range(8), 0]:
            with folder.reader(str(number)) as file:
                assert next(file.ranges(np.array([0]), np.array([1]), label="x")) == bytes([number])
        (opened_files,) = descriptors._processes.values()
        assert len(opened_files._descriptors) == 3
        folder.close()
        assert not opened_files._descriptors

    def test_the_digest_is_of_names_and_content(self, tmp_path):
        def digest(**files: bytes) -> str:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            return LocalFolder(folder, Descriptors()).digest()["sha256"]

        assert digest(a=b"12", b=b"3") == digest(b=b"3", a=b"12")
        assert (
            len({digest(a=b"12", b=b"3"), digest(a=b"1", b=b"23"), digest(a=b"12", c=b"3"), digest(a=b"12", b=b"4")})
            == 4
        )


def test_zarr_keeps_blosc_from_starting_threads_of_its_own():
    from numcodecs import blosc

    assert zarr.__version__
    assert blosc.use_threads is False
