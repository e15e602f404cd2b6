"""Damaged, vanished, empty and huge files in every form: an error that names file and rows, never fewer cells."""

from __future__ import annotations

import re
import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from zarr import codecs

from scmodelforge._errors import DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data._zarr3 import consolidate
from scmodelforge.data.cached import cached_cells
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.sources._chunks import MISSING, ChunkTable
from scmodelforge.data.sources._open_matrix import open_matrix
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from tests.conftest import make_adata

from .h5ad_files import dense, open_files, write
from .remote_cells import SECRET
from .remote_servers import FaultyServer, faulty_server
from .zarr_stores import BLOSC, write_store

NUM_CELLS = 300
SUMMED = [codecs.ZstdCodec(), codecs.Crc32cCodec()]


def write_h5ad(folder: Path, **packing) -> Path:
    """Write a file of many small chunks."""
    path = write(folder, make_adata(NUM_CELLS, 40))
    with h5py.File(path, "r+") as file:
        for name in ("data", "indices"):
            values = file[f"X/{name}"][:]
            del file[f"X/{name}"]
            file["X"].create_dataset(name, data=values, chunks=(200,), **packing)
    return path


#: Forms of a file: how it is written, and whether checksums tell all, most or no changes of its values. The sum in an
#: .h5ad's gzip chunks (Adler-32) is weak where a chunk is small: zlib takes some changes too.
FORMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "gzip": (lambda folder: write_h5ad(folder, compression="gzip"), "most"),
    "gzip and shuffle": (lambda folder: write_h5ad(folder, compression="gzip", shuffle=True), "most"),
    "checksums of HDF5": (lambda folder: write_h5ad(folder, compression="lzf", fletcher32=True), "all"),
    "lzf": (lambda folder: write_h5ad(folder, compression="lzf"), "none"),
    "as it is": (lambda folder: write_h5ad(folder), "none"),
    "zarr, blosc": (lambda f: write_store(f, make_adata(NUM_CELLS, 40), shard=2000, compressors=BLOSC), "none"),
    "zarr, checksums": (lambda f: write_store(f, make_adata(NUM_CELLS, 40), shard=2000, compressors=SUMMED), "all"),
    "zarr, files": (lambda f: write_store(f, make_adata(NUM_CELLS, 40), compressors=codecs.GzipCodec()), "all"),
}
_LIKE_OTHERS = ("gzip and shuffle", "lzf", "zarr, files")
form = pytest.mark.parametrize(
    "form", [pytest.param(name, marks=pytest.mark.slow) if name in _LIKE_OTHERS else name for name in FORMS]
)


def places_of(path: Path, where: str) -> list[tuple[Path, int, int]]:
    """Return file, first byte and number of bytes of all parts that hold an array."""
    if path.is_dir():
        return [(file, 0, file.stat().st_size) for file in sorted((path / where / "c").iterdir())]
    with h5py.File(path) as file:
        chunks: list[tuple[Path, int, int]] = []
        file[where].id.chunk_iter(lambda chunk: chunks.append((path, chunk.byte_offset, chunk.size)))
    return chunks


def change(file: Path, place: int, flip: int) -> None:
    with file.open("r+b") as bytes_:
        bytes_.seek(place)
        before = bytes_.read(1)[0]
        bytes_.seek(place)
        bytes_.write(bytes([before ^ flip]))


def read(source: LocalSource) -> np.ndarray:
    found = source.read_rows(0, np.arange(NUM_CELLS))
    assert len(found) == NUM_CELLS
    return dense(found)


def read_or_message(source: LocalSource) -> tuple[np.ndarray | None, str]:
    try:
        return read(source), ""
    except DataError as error:
        return None, str(error)


class TestFlippedBits:
    """A bit of the values or columns of a file is another one than was written."""

    @form
    @pytest.mark.parametrize("array", ["data", "indices"])
    @pytest.mark.parametrize("number", [5, pytest.param(60, marks=pytest.mark.slow)])
    def test_are_an_error_with_file_and_rows_or_every_cell_is_read(self, tmp_path, form, array, number):
        write_form, told = FORMS[form]
        path = write_form(tmp_path)
        expected = read(open_files(path))
        places, rng = places_of(path, f"X/{array}"), np.random.default_rng(0)
        num_refused, source = 0, open_files(path)  # whole, as it was when a run began
        source._tables_of(0)
        for _ in range(number):
            file, start, size = places[rng.integers(len(places))]
            place, flip = start + int(rng.integers(size)), 1 << int(rng.integers(8))
            if path.is_file():
                source.close()  # h5py keeps chunks that it has unpacked
            change(file, place, flip)
            found, message = read_or_message(source)
            change(file, place, flip)
            if message:
                assert re.search(rf"^{path.name}.* rows \d+ to \d+", message), message
                num_refused += 1
            elif told == "all":
                np.testing.assert_array_equal(found, expected)
        assert num_refused >= (0 if told == "none" else 0.8 * number)
        source.close()
        np.testing.assert_array_equal(read(source), expected)


class TestCutOff:
    """A file is shorter than when it was opened."""

    @form
    def test_anywhere_is_an_error_with_file_and_rows(self, tmp_path, form):
        path = FORMS[form][0](tmp_path)
        places = places_of(path, "X/data")
        for share in (0.0, 0.3, 0.9):
            source = open_files(path)
            if source._tables_of(0) is None and path.suffix == ".h5ad":
                source.close()  # HDF5 looks at the size of a file when it is opened
            file, start, size = places[int(share * (len(places) - 1))]
            whole = file.read_bytes()
            file.write_bytes(whole[: start + size // 2])
            with pytest.raises(DataError, match=rf"^{path.name}.*(rows \d+ to \d+|is cut off)"):
                read(source)
            source.close()
            with pytest.raises(DataError, match=rf"^{path.name}"):  # nor can it be opened and read anew
                read(open_files(path))
            file.write_bytes(whole)


class TestGone:
    """A file is there when a run begins and not when its rows are needed."""

    @pytest.mark.parametrize("scheme", ["http", "s3"])
    def test_from_a_server(self, tmp_path, scheme):
        with served(write_h5ad(tmp_path, compression="gzip")) as server:
            source = there(server, "cells.h5ad", scheme)
            source._tables_of(0)
            server.files.clear()
            with pytest.raises(DataError, match=r"^cells\.h5ad cannot be read: .*is not there"):
                read(source)

    def test_a_store_from_a_server(self, tmp_path):
        with served(write_store(tmp_path, make_adata(NUM_CELLS, 40))) as server:
            source = there(server, "cells.zarr")
            source._tables_of(0)
            server.files.clear()
            with pytest.raises(DataError, match=r"^cells\.zarr: X/data/.* is not there .* rows 0 to 299"):
                read(source)

    @pytest.mark.parametrize("name", ["gzip", "lzf", "zarr, blosc", "zarr, checksums"])
    def test_from_this_machine(self, tmp_path, name):
        path = FORMS[name][0](tmp_path)
        source = open_files(path)
        source._tables_of(0)
        source.close()
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(DataError, match=rf"^{path.name}.*(is not there|No such file|does not exist)"):
            read(source)


class TestServers:
    """Faults that pass, of a store and of a bucket; those of an .h5ad file on a web server have a file of their own."""

    @pytest.mark.parametrize(
        "fault", [500, "short", *(pytest.param(fault, marks=pytest.mark.slow) for fault in (503, "lying", "slow"))]
    )
    def test_requests_for_a_store_are_sent_again(self, tmp_path, fault):
        path = write_store(tmp_path, make_adata(NUM_CELLS, 40), shard=2000, compressors=BLOSC)
        consolidate(path)
        with served(path) as server:
            source = there(server, "cells.zarr", **({"timeout": 0.3} if fault == "slow" else {}))
            before = len(server.requests)
            server.fault = at_first(server, fault)
            np.testing.assert_array_equal(read(source), read(open_files(path)))
            assert len(server.requests) > before + 4

    @pytest.mark.parametrize("fault", [500, 503, "short", "lying", "slow"])
    def test_requests_to_a_bucket_are_sent_again(self, tmp_path, fault):
        path = write_h5ad(tmp_path, compression="gzip")
        with served(path) as server:
            server.fault = at_first(server, fault)
            source = there(server, "cells.h5ad", "s3", **({"timeout": 0.3} if fault == "slow" else {}))
            np.testing.assert_array_equal(read(source), read(open_files(path)))

    @pytest.mark.parametrize("first", [2, 3, 4, 16, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 8, 12, 20))])
    @pytest.mark.parametrize(
        "fault", [500, "short", *(pytest.param(f, marks=pytest.mark.slow) for f in (403, "reset"))]
    )
    def test_a_store_that_zarr_python_cannot_open_is_named_without_the_signature(self, tmp_path, fault, first):
        with served(write_store(tmp_path, make_adata(NUM_CELLS, 40))) as server:
            server.fault = lambda number: fault if number >= first else None
            with pytest.raises(DataError, match=r"^cells\.zarr[:\w/. ]* cannot be read: http://") as caught:
                there(server, f"cells.zarr?{SECRET}", retries=0)
        assert SECRET.partition("=")[2] not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize("fault", [500, 503, "short", "lying"])
    @pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
    def test_what_does_not_pass_names_the_file(self, tmp_path, fault, name):
        path = write_h5ad(tmp_path, compression="gzip")
        with served(path, write_store(tmp_path, make_adata(NUM_CELLS, 40))) as server:
            source = there(server, name, "s3" if name == "cells.h5ad" else "http")
            source._tables_of(0)
            server.fault = lambda number: fault
            with pytest.raises(DataError, match=rf"^{name}.* 3 times"):
                read(source)


class TestFewCells:
    @pytest.mark.parametrize("store", [write, write_store])
    @pytest.mark.parametrize("is_dense", [False, True])
    def test_no_cell_is_an_error_that_names_the_file(self, tmp_path, store, is_dense):
        path = store(tmp_path, few(0, is_dense=is_dense))
        with pytest.raises(DataError, match=rf"^{path.name} has no cells; leave it out of data\.paths"):
            open_files(path)

    @pytest.mark.parametrize("store", [write, write_store])
    @pytest.mark.parametrize("is_dense", [False, True])
    def test_one_cell_is_read(self, tmp_path, store, is_dense):
        adata = few(1, is_dense=is_dense)
        source = open_files(store(tmp_path, adata))
        assert source.file_sizes == [1]
        expected = adata.X if is_dense else adata.X.toarray()
        np.testing.assert_array_equal(dense(source.read_rows(0, np.array([0]))), expected)
        assert list(source.obs_names()) == ["cell0"]

    @pytest.mark.parametrize("num_cells", [0, 1])
    def test_from_a_server(self, tmp_path, num_cells):
        with served(write(tmp_path, few(num_cells)), write_store(tmp_path, few(num_cells))) as server:
            for name in ("cells.h5ad", "cells.zarr"):
                if num_cells:
                    assert len(there(server, name).read_rows(0, np.array([0]))) == 1
                    continue
                with pytest.raises(DataError, match=rf"^{name} has no cells"):
                    there(server, name)


class TestFullDisk:
    """The limit on the size of files stands for a disk that takes no more."""

    def test_a_cache_of_preprocessed_cells_says_so_and_keeps_nothing(self, tmp_path):
        path, folder = write(tmp_path, make_adata(NUM_CELLS, 40)), tmp_path / "cache"
        config = LocalDataConfig(paths=[str(path)], preprocessing=PreprocessingConfig(log1p=True))
        source = LocalSource(config)

        def cells():
            return cached_cells(source, config, folder, fitted=lambda: Preprocessor(config.preprocessing))

        with (
            files_up_to(3000),
            pytest.raises(DataError, match=r"cache cannot be written \(File too large\); make room"),
        ):
            cells()
        assert not [entry for entry in folder.iterdir() if entry.is_dir()]
        assert cells().file_sizes == [NUM_CELLS]

    def test_a_cache_of_remote_files_loses_nothing(self, tmp_path, caplog):
        path = write_h5ad(tmp_path, compression="gzip")
        with served(path) as server, files_up_to(3000):
            source = there(server, "cells.h5ad", cache=str(tmp_path / "cache"))
            np.testing.assert_array_equal(read(source), read(open_files(path)))
        assert [record.message.partition(";")[0] for record in caplog.records] == [
            f"data.remote.cache: '{tmp_path / 'cache'}' takes no more (File too large)"
        ]


class Positions:
    """An array, and a file of four bytes a value, that has at each position a number that follows from it."""

    descriptor = None

    def __init__(self, size: int, wraps_at: int) -> None:
        self.shape, self.dtype, self._wraps_at = (size,), np.dtype(np.uint32), wraps_at
        self.size = 4 * size

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, span: slice) -> np.ndarray:
        return (np.arange(span.start, span.stop, dtype=np.int64) % self._wraps_at).astype(np.uint32)

    def ranges(self, starts, sizes, *, label: str) -> Iterator[bytes]:
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            assert start % 4 == 0
            yield self[start // 4 : (start + size) // 4].tobytes()


#: Starts of rows, three of five thousand values: near the beginning, across the 2^31st and across the 2^32nd value.
STARTS = np.array([0, 1000, 6000, 2**31 - 2500, 2**31 + 2500, 2**32 - 2500, 2**32 + 2500, 5 * 10**9 - 5000, 5 * 10**9])
SHORT = np.array([7, 3, 1, 5])
NUM_GENES = 9973


class HugeFile:
    """Eight cells of five billion values, none of which is anywhere."""

    def __init__(self) -> None:
        size = int(STARTS[-1])
        self.arrays = {"data": Positions(size, 251), "indices": Positions(size, NUM_GENES), "indptr": STARTS}
        self.root = {"X": self}
        self.attrs = {"encoding-type": "csr_matrix", "shape": (8, NUM_GENES)}
        self.lost_chunk: int | None = None

    def __getitem__(self, where: str):
        return self.arrays[where.removeprefix("X/")]

    def table(self, where: str, label: str) -> ChunkTable:
        chunk, size = 1 << 16, len(self[where])
        offsets = np.arange(-(-size // chunk), dtype=np.int64) * chunk * 4
        if self.lost_chunk is not None:
            offsets[self.lost_chunk] = MISSING
        codec = np.zeros(len(offsets), dtype=np.uint8)
        return ChunkTable(label, np.dtype("<u4"), size, chunk, offsets, offsets * 0, ((),), codec, where)

    @contextmanager
    def reader(self, key: str) -> Iterator[Positions]:
        yield self[key]


class TestMoreValuesThanInt32Counts:
    """The index logic on a file that is not there."""

    @pytest.fixture
    def file(self) -> HugeFile:
        return HugeFile()

    @pytest.fixture
    def matrix(self, file):
        return open_matrix(file, "X", "huge.h5ad: X", shape=(8, NUM_GENES))

    def test_rows_are_where_their_starts_say(self, file, matrix):
        assert matrix.nnz == 5_000_000_000
        data, columns, indptr = matrix.gather(file.reader, matrix.tables(file), SHORT)
        assert indptr.tolist() == [0, 5000, 10_000, 15_000, 20_000]
        for row, start, stop in zip(SHORT, indptr[:-1], indptr[1:], strict=True):
            wanted = np.arange(STARTS[row], STARTS[row + 1])
            np.testing.assert_array_equal(data[start:stop], wanted % 251)
            np.testing.assert_array_equal(columns[start:stop], wanted % NUM_GENES)
            by_range = matrix.read(file, int(row), int(row) + 1)
            np.testing.assert_array_equal(by_range[0], data[start:stop])
            np.testing.assert_array_equal(by_range[1], columns[start:stop])

    @pytest.mark.parametrize(("chunk", "rows"), [(2**15, "3 to 4"), (2**16, "5 to 6")])
    def test_a_lost_chunk_is_named_with_its_rows(self, file, matrix, chunk, rows):
        file.lost_chunk = chunk
        first = chunk * 2**16
        words = (
            rf"huge\.h5ad: X/data: the chunk of values {first:,} to {first + 2**16 - 1:,} is not there .* rows {rows}\."
        )
        with pytest.raises(DataError, match=words):
            matrix.tables(file)

    def test_columns_that_do_not_exist_are_named_with_their_rows(self, file, matrix):
        file.arrays["indices"] = Positions(int(STARTS[-1]), NUM_GENES + 1)
        with pytest.raises(DataError, match=r"^huge\.h5ad: X has column numbers outside 0 to 9,972 in rows 5 to 7"):
            matrix.gather(file.reader, matrix.tables(file), SHORT[[0, 3]])


def few(num_cells: int, *, is_dense: bool = False):
    adata = make_adata(3, 40)[:num_cells].copy()
    if is_dense:
        adata.X = adata.X.toarray()
    return adata


@contextmanager
def served(*paths: Path) -> Iterator[FaultyServer]:
    """Serve files and stores under their names."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    content = {f"lung/{file.relative_to(paths[0].parent)}": file.read_bytes() for file in files}
    with faulty_server(**content) as server:
        yield server


def there(server: FaultyServer, name: str, scheme: str = "http", **remote) -> LocalSource:
    remote = {"retries": 2, "timeout": 5.0, **remote}
    if scheme == "s3":
        return open_files(f"s3://lung/{name}", remote={"endpoint": server.url, "anonymous": True, **remote})
    return open_files(f"{server.url}/lung/{name}", remote=remote)


def at_first(server: FaultyServer, fault: str | int) -> Callable[[int], str | int | None]:
    """Return a fault that each request meets once; one for the rest of a body is the same request."""

    def answer(number: int) -> str | int | None:
        asked = [(path, stop) for path, _, stop in server.requests[:number]]
        return None if asked[-1] in asked[:-1] else fault

    return answer


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Refuse to let this process write files of more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
