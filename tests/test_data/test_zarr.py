"""AnnData zarr stores and annbatch collections are read as .h5ad files of the same cells are."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import anndata as ad
import numcodecs
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from zarr import codecs

from scmodelforge._errors import DataError
from scmodelforge.data.sources.local import LocalSource
from scmodelforge.data.types import CellBlock, RowRange
from tests.conftest import make_adata

from .h5ad_files import dense, log_normalised, open_files, write
from .zarr_stores import forget_consolidated, pack, put, write_collection, write_store

ORDERS = (np.arange(60), np.random.default_rng(0).permutation(60)[:23], np.array([59]), np.array([17, 3]))


def rich_adata() -> ad.AnnData:
    """Return cells with every matrix and every type of column."""
    adata = make_adata()
    counts = adata.X
    adata.raw = ad.AnnData(counts, adata.obs, adata.var)
    adata.layers["counts"] = counts
    adata.layers["logs"] = log_normalised(counts)
    adata.layers["dense"] = counts.toarray()
    adata.X = log_normalised(counts)
    adata.obs["clusters"] = pd.Categorical(np.arange(60) % 7)
    adata.obs["fraction"] = np.where(np.arange(60) % 4, np.arange(60) / 8, np.nan)
    adata.obs["nullable"] = pd.array([7, None, 9] * 20, dtype="Int64")
    adata.obs["flag"] = np.arange(60) % 3 == 0
    adata.obs["many"] = [f"text {i}" for i in range(60)]
    adata.var["gene_name"] = [f"GENE{i}" for i in range(40)]
    return adata


def same(found: CellBlock, expected: CellBlock) -> None:
    for name in ("data", "indices", "indptr", "positions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert found.panel.gene_ids.tolist() == expected.panel.gene_ids.tolist()


def read_all(source: LocalSource) -> CellBlock:
    return source.read(RowRange(0, 0, source.file_sizes[0]))


def refused(path: Path, **settings) -> str:
    """Return the one line that says why a store is refused, at the latest when its cells are read."""
    with pytest.raises(DataError) as caught:
        read_all(open_files(path, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module", params=[2, 3])
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    adata = rich_adata()
    return write(folder, adata.copy()), write_store(folder, adata.copy(), version=request.param)


class TestSameAsH5ad:
    @pytest.mark.parametrize("layer", [None, "X", "raw", "counts", "logs", "dense"])
    def test_every_matrix(self, both, layer):
        file, store = (open_files(path, layer=layer) for path in both)
        assert store.describe() == [line.replace("cells.h5ad", "cells.zarr") for line in file.describe()]
        for rows in ORDERS:
            same(store.read_rows(0, rows), file.read_rows(0, rows))
        same(store.read(RowRange(0, 11, 47)), file.read(RowRange(0, 11, 47)))

    def test_the_tables(self, both):
        file, store = map(open_files, both)
        assert store.obs_columns == file.obs_columns
        for column in file.obs_columns:
            np.testing.assert_array_equal(store.obs(column)[0], file.obs(column)[0])
            assert store.obs(column)[1] == file.obs(column)[1]
        assert list(store.obs_names()) == list(file.obs_names()) == [f"cell{i}" for i in range(60)]
        assert open_files(both[1], layer="counts", gene_id_column="gene_name").panels[0].gene_ids[3] == "GENE3"

    def test_the_fingerprint_has_the_same_but_bytes(self, both):
        file, store = (open_files(path).fingerprint()[0] for path in both)
        for name in ("cells", "genes", "nnz", "sha256_of"):
            assert store[name] == file[name]
        assert store["sha256"] != file["sha256"]


BLOSC = codecs.BloscCodec(cname="lz4", clevel=3, shuffle="shuffle", typesize=4)
PACKINGS = {
    "shards as annbatch has them": {"shard": 400, "compressors": BLOSC},
    "one shard": {"shard": 10_000, "compressors": BLOSC},
    "index at the start": {
        "serializer": codecs.ShardingCodec(
            chunk_shape=(50,), codecs=[codecs.BytesCodec(), BLOSC], index_location="start"
        ),
        "compressors": None,
    },
    "shards, zstd": {"shard": 300, "compressors": codecs.ZstdCodec()},
    "shards, gzip": {"shard": 300, "compressors": codecs.GzipCodec()},
    "shards, not packed": {"shard": 300, "compressors": None},
    "files, blosc of bits": {"compressors": codecs.BloscCodec(cname="zstd", shuffle="bitshuffle", typesize=4)},
    "files, zstd": {"compressors": codecs.ZstdCodec(checksum=True)},
    "files, not packed": {"compressors": None},
    "files with dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "files named as in version 2": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "one file": {"chunk": 10_000},
    "narrow numbers": {"shard": 400, "compressors": BLOSC, "dtype": "u1"},
    "int64": {"shard": 400, "compressors": BLOSC, "dtype": "i8"},
    "float64": {"shard": 400, "compressors": BLOSC, "dtype": "f8"},
}
UNUSUAL = {
    "checksums of chunks": {"shard": 400, "compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()]},
    "checksums of files": {"compressors": [codecs.Crc32cCodec()]},
    "big-endian": {"serializer": codecs.BytesCodec(endian="big"), "shard": 400},
}
VERSION_2 = {
    "blosc": {"compressors": {"id": "blosc", "cname": "blosclz", "clevel": 5, "shuffle": 1, "blocksize": 0}},
    "zstd": {"compressors": {"id": "zstd", "level": 1}},
    "zlib": {"compressors": {"id": "zlib", "level": 1}},
    "gzip": {"compressors": {"id": "gzip", "level": 1}},
    "nothing": {"compressors": None},
    "unusual: lzma": {"compressors": {"id": "lzma", "format": 1, "check": -1, "preset": 1, "filters": None}},
    "unusual: filters": {"filters": [numcodecs.Delta("<f4")]},
    "unusual: big-endian": {"dtype": ">f4"},
}


class TestPackings:
    def holds(self, path: Path, adata: ad.AnnData, *, is_usual: bool) -> None:
        source = open_files(path)
        assert (source._tables_of(0) is not None) == is_usual
        for rows in ORDERS:
            found = source.read_rows(0, rows)
            np.testing.assert_array_equal(dense(found), adata.X.toarray()[rows])
            assert (found.data.dtype, found.indices.dtype, found.indptr.dtype) == (np.float32, np.int32, np.int64)

    @pytest.mark.parametrize("packing", [*PACKINGS, *UNUSUAL])
    def test_version_3(self, tmp_path, tiny_adata, packing):
        settings = {**PACKINGS, **UNUSUAL}[packing]
        columns = dict(settings)
        if columns.get("dtype") == "f8":
            columns["dtype"] = "u2"
        path = write_store(tmp_path, tiny_adata)
        if "serializer" in settings and packing not in UNUSUAL:
            settings, columns = {**settings, "chunk": 500}, {**columns, "chunk": 500}
        pack(path, "X/data", **settings)
        pack(path, "X/indices", **columns)
        self.holds(path, tiny_adata, is_usual=packing in PACKINGS)

    @pytest.mark.parametrize("packing", VERSION_2)
    def test_version_2(self, tmp_path, tiny_adata, packing):
        path = write_store(tmp_path, tiny_adata, version=2)
        pack(path, "X/data", **VERSION_2[packing])
        self.holds(path, tiny_adata, is_usual=not packing.startswith("unusual"))

    def test_dense_in_shards(self, tmp_path):
        adata = make_adata()
        adata.X = adata.X.toarray()
        path = write_store(tmp_path, adata)
        pack(path, "X", chunk=7, shard=0, compressors=BLOSC)
        np.testing.assert_array_equal(dense(open_files(path).read_rows(0, ORDERS[1])), adata.X[ORDERS[1]])

    def test_consolidated_metadata_is_not_needed(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata)
        expected = open_files(path).describe()
        forget_consolidated(path)
        assert open_files(path).describe() == expected


class TestCollections:
    def test_data_sets_follow_each_other_in_the_order_of_their_numbers(self, tmp_path):
        parts = {number: make_adata(4 + number, 10, seed=number) for number in (0, 10, 2)}
        source = open_files(write_collection(tmp_path, parts, shard=60, chunk=20, compressors=BLOSC))
        assert source.file_sizes == [4, 6, 14]
        assert source.panels[2].name == "all.zarr/dataset_10"
        found = source.read_rows(2, np.array([5, 2]))
        np.testing.assert_array_equal(dense(found), parts[10].X.toarray()[[5, 2]])
        assert found.positions.tolist() == [15, 12]

    def test_files_stores_and_collections_stand_beside_each_other(self, tmp_path, tiny_h5ad, tiny_adata):
        write_store(tmp_path, tiny_adata, "store.zarr")
        write_collection(tmp_path, {0: tiny_adata})
        source = open_files(tmp_path / "*.zarr", tiny_h5ad)
        assert [panel.name for panel in source.panels] == ["all.zarr/dataset_0", "store.zarr", "tiny.h5ad"]
        for file in range(3):
            np.testing.assert_array_equal(dense(source.read_rows(file, ORDERS[1])), tiny_adata.X.toarray()[ORDERS[1]])

    def test_a_store_may_have_any_name(self, tmp_path, tiny_adata):
        assert open_files(write_store(tmp_path, tiny_adata, "lung")).file_sizes == [60]

    def test_a_collection_without_data_sets(self, tmp_path):
        assert "is an annbatch collection without dataset_0 or any other" in refused(write_collection(tmp_path, {}))

    def test_another_store(self, tmp_path):
        zarr.create_group(tmp_path / "a.zarr", attributes={"encoding-type": "MuData"})
        assert "is a zarr store with 'MuData'; AnnData or an annbatch collection is needed." in refused(
            tmp_path / "a.zarr"
        )
        zarr.create_group(tmp_path / "b.zarr").create_group("tables")
        assert "b.zarr is a zarr store but not AnnData: it has no obs, but tables." in refused(tmp_path / "b.zarr")

    def test_metadata_that_is_damaged(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata)
        (path / "zarr.json").write_text("{")
        assert "has metadata that cannot be read (" in refused(path)

    def test_one_store_twice(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata)
        with pytest.raises(DataError, match="are one store; list it once"):
            open_files(path, path)


def chunk_files(path: Path, where: str) -> list[Path]:
    folder = path / where / "c"
    return sorted((file for file in folder.iterdir()), key=lambda file: int(file.name))


class TestLoss:
    @pytest.fixture(params=["files", "files, unusual", "shards", "shards, unusual"])
    def store(self, request, tmp_path, tiny_adata):
        packing = {"shard": 300} if request.param.startswith("shards") else {}
        chain = [codecs.ZstdCodec(), codecs.Crc32cCodec()] if request.param.endswith("unusual") else [BLOSC]
        return write_store(tmp_path, tiny_adata, compressors=chain, **packing)

    @pytest.mark.parametrize("array", ["data", "indices"])
    def test_a_file_that_is_not_there_is_no_zeros(self, store, array):
        chunk_files(store, f"X/{array}")[1].unlink()
        message = refused(store)
        assert f"cells.zarr: X/{array}: the " in message
        assert f"is not there (in X/{array}/c/1); copy the store again from where it came" in message
        assert "It concerns rows " in message

    @pytest.mark.parametrize("version", [2, 3])
    def test_a_row_index_that_is_not_there(self, tmp_path, tiny_adata, version):
        path = write_store(tmp_path, tiny_adata, version=version)
        pack(path, "X/indptr", chunk=16)
        (path / ("X/indptr/c/0" if version == 3 else "X/indptr/0")).unlink()
        assert "X/indptr: the chunk of values 0 to 15 is not there" in refused(path)

    def test_a_matrix_without_values_needs_no_files(self, tmp_path, tiny_adata):
        tiny_adata.layers["none"] = sp.csr_matrix((60, 40), dtype=np.float32)
        source = open_files(write_store(tmp_path, tiny_adata), layer="none")
        assert len(source.read_rows(0, ORDERS[1]).data) == 0

    def test_names_that_are_not_there(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata)
        names = "var/_index" if (path / "var/_index/c").is_dir() else "var/_index/values"  # the latter by pandas 3
        (path / names / "c/0").unlink()
        assert f"{names}: the chunk of values 0 to 39 is not there" in refused(path)

    def test_rows_of_a_dense_matrix_that_are_not_there(self, tmp_path, tiny_adata):
        tiny_adata.X = tiny_adata.X.toarray()
        path = write_store(tmp_path, tiny_adata)
        pack(path, "X", chunk=10)
        (path / "X/c/2/0").unlink()
        assert "X: the chunk of values 20 to 29 is not there (in X/c/2/0)" in refused(path)

    def test_a_dense_matrix_of_zeros_has_no_files(self, tmp_path, tiny_adata):
        tiny_adata.layers["counts"] = tiny_adata.X
        tiny_adata.X = np.zeros((60, 40), dtype=np.float32)
        path = write_store(tmp_path, tiny_adata)
        pack(path, "X", chunk=10)
        assert not (path / "X/c").exists()
        assert "counts found in layer 'counts' (X is empty)" in open_files(path).describe()[0]


class TestDamage:
    @pytest.fixture
    def store(self, tmp_path, tiny_adata):
        return write_store(tmp_path, tiny_adata, shard=300, compressors=BLOSC)

    def flip(self, file: Path, place: int, number: int = 4) -> None:
        content = bytearray(file.read_bytes())
        for byte in range(place % len(content), place % len(content) + number):
            content[byte] ^= 0xFF
        file.write_bytes(content)

    def test_a_shard_that_was_cut_off(self, store):
        file = chunk_files(store, "X/data")[1]
        file.write_bytes(file.read_bytes()[:-30])
        message = refused(store)
        assert (
            "X/data: the shard of values 300 to 599 has a damaged index or is cut off (the checksum differs)" in message
        )
        file.write_bytes(file.read_bytes()[:20])
        assert "X/data: the shard of values 300 to 599 is cut off (20 bytes, less than its index)" in refused(store)

    def test_other_bytes_in_an_index(self, store):
        self.flip(chunk_files(store, "X/indices")[0], -40)
        message = refused(store)
        assert "X/indices: the shard of values 0 to 299 has a damaged index" in message
        assert "It concerns rows 0 to " in message

    def test_other_bytes_in_the_head_of_a_chunk(self, store, tiny_adata):
        source = open_files(store)
        table = source._tables_of(0)[0]
        self.flip(chunk_files(store, "X/data")[1], int(table.offsets[4]) + 4)
        with pytest.raises(
            DataError, match=r"X/data: the chunk of values 400 to 499 cannot be unpacked .* rows \d+ to"
        ):
            source.read_rows(0, np.arange(60))
        np.testing.assert_array_equal(dense(source.read_rows(0, np.arange(3))), tiny_adata.X.toarray()[:3])

    @pytest.mark.parametrize("version", [2, 3])
    def test_a_file_of_one_chunk_that_was_cut_off(self, tmp_path, tiny_adata, version):
        path = write_store(tmp_path, tiny_adata, version=version)
        file = path / ("X/data/c/0" if version == 3 else "X/data/0")
        file.write_bytes(file.read_bytes()[:-7])
        assert "cells.zarr" in refused(path)

    def test_a_chunk_that_is_not_packed_and_short(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata, compressors=None)
        file = chunk_files(path, "X/data")[2]
        file.write_bytes(file.read_bytes()[:-7])
        message = refused(path)
        assert "cells.zarr: X/data: values " in message
        assert "The store is damaged; copy it again from where it came. It concerns rows " in message

    def test_a_chunk_that_was_cut_off_after_the_store_was_checked(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata, compressors=None)
        source = open_files(path)
        file = chunk_files(path, "X/data")[2]
        file.write_bytes(file.read_bytes()[:-7])
        with pytest.raises(DataError, match=r"X/data ends early: 400 bytes are needed .* It concerns rows \d+ to \d+"):
            read_all(source)

    def test_columns_that_do_not_exist(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata)
        columns = np.asarray(tiny_adata.X.indices, dtype=np.int64)
        columns[3] += 2**32  # narrowed to int32 it would be a gene again
        put(path, "X/indices", columns)
        assert "cells.zarr: X has column numbers outside 0 to 39 in rows 0 to 59" in refused(path)

    def test_whole_numbers_that_float32_does_not_hold(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata)
        values = tiny_adata.X.data.astype(np.int64)
        put(path, "X/data", np.where(np.arange(len(values)) == 5, 2**24 + 1, values))
        assert "cells.zarr: X holds 16,777,217; whole numbers beyond 16,777,216 are not exact" in refused(path)

    def test_parts_that_do_not_fit_together(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata)
        put(path, "X/indptr", np.zeros(60, dtype=np.int64))
        assert "X has rows for 59 cells, but the obs table has 60" in refused(path)

    def test_columns_are_to_be_converted(self, tmp_path, tiny_adata):
        tiny_adata.X = sp.csc_matrix(tiny_adata.X)
        assert "cells.zarr: X is stored by columns (CSC)" in refused(write_store(tmp_path, tiny_adata))

    def test_a_store_that_vanished_after_it_was_checked(self, store):
        source = open_files(store)
        source._tables_of(0)
        source.close()
        shutil.rmtree(store)
        with pytest.raises(DataError, match=r"cells.zarr: X/data: .* is not there"):
            source.read_rows(0, np.arange(3))


class TestCopies:
    @pytest.fixture(params=["usual", "unusual"])
    def store(self, request, tmp_path, tiny_adata):
        chain = [BLOSC] if request.param == "usual" else [codecs.ZstdCodec(), codecs.Crc32cCodec()]
        return write_store(tmp_path, tiny_adata, shard=300, compressors=chain)

    def test_a_pickled_source_reads_on(self, store, tiny_adata):
        source = open_files(store)
        source.read_rows(0, ORDERS[0])
        copy = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(dense(copy.read_rows(0, ORDERS[1])), tiny_adata.X.toarray()[ORDERS[1]])
        source.close()
        np.testing.assert_array_equal(dense(source.read_rows(0, ORDERS[1])), tiny_adata.X.toarray()[ORDERS[1]])

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_a_forked_process_reads_on(self, store, tiny_adata):
        source = open_files(store)
        source.read_rows(0, ORDERS[0])
        receiver, sender = get_context("fork").Pipe(duplex=False)
        process = get_context("fork").Process(target=lambda: sender.send(dense(source.read_rows(0, ORDERS[1]))))
        with source._pool.use(0):  # the child inherits a lock that nobody there will release
            process.start()
            assert receiver.poll(20)
            received = receiver.recv()
        process.join()
        np.testing.assert_array_equal(received, tiny_adata.X.toarray()[ORDERS[1]])

    def test_four_threads_read_what_one_reads(self, store, tiny_adata, monkeypatch):
        monkeypatch.setattr("scmodelforge.data.sources._bytes._MOST_DESCRIPTORS", 2)
        source, expected = open_files(store), tiny_adata.X.toarray()

        def read(seed: int) -> bool:
            rows = np.random.default_rng(seed).permutation(60)[:20]
            return np.array_equal(dense(source.read_rows(0, rows)), expected[rows])

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(40)))
