"""AnnData zarr stores and annbatch collections are read as .h5ad files of the same cells are."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import anndata as ad
import numcodecs
import numpy as np
import pandas as pd
import pytest
import zarr
from zarr import codecs

from scmodelforge._errors import DataError
from scmodelforge.data.types import CellBlock, RowRange
from tests.conftest import make_adata

from .h5ad_files import dense, log_normalised, open_files, write
from .zarr_stores import BLOSC, forget_consolidated, pack, refused, write_collection, write_store

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
