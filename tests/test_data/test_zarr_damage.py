"""Zarr stores that lost something or were damaged: an error that names the store and the rows, never zeros."""

from __future__ import annotations

import shutil
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import scipy.sparse as sp
from zarr import codecs

from scmodelforge._errors import DataError

from .h5ad_files import dense, open_files
from .zarr_stores import BLOSC, pack, put, read_all, refused, write_store


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

    def test_a_chunk_that_a_shard_lacks_is_found_before_others_are_read(self, tmp_path, tiny_adata):
        path = write_store(tmp_path, tiny_adata, shard=10_000, compressors=BLOSC)
        source = open_files(path)
        source.close()
        shard = path / "X/data/c/0"
        content = bytearray(shard.read_bytes())
        index = slice(len(content) - 16 * 100 - 4, len(content) - 4)
        content[index.start + 16 * 7 : index.start + 16 * 8] = b"\xff" * 16
        content[index.stop :] = google_crc32c.value(bytes(content[index])).to_bytes(4, "little")
        shard.write_bytes(content)
        with pytest.raises(DataError, match=r"the chunk of values 700 to 799 is not there .* concerns rows \d+ to"):
            source.read_rows(0, np.arange(2))

    @pytest.mark.parametrize("version", [2, 3])
    def test_a_row_index_that_is_not_there(self, tmp_path, tiny_adata, version):
        path = write_store(tmp_path, tiny_adata, version=version)
        pack(path, "X/indptr", chunk=16)
        (path / ("X/indptr/c/0" if version == 3 else "X/indptr/0")).unlink()
        assert "X/indptr: the chunk of values 0 to 15 is not there" in refused(path)

    def test_a_matrix_without_values_needs_no_files(self, tmp_path, tiny_adata):
        tiny_adata.layers["none"] = sp.csr_matrix((60, 40), dtype=np.float32)
        source = open_files(write_store(tmp_path, tiny_adata), layer="none")
        assert len(source.read_rows(0, np.arange(60)[::-1]).data) == 0

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
        source = open_files(path)
        source.close()
        put(path, "X/indices", columns)
        with pytest.raises(DataError, match=r"cells.zarr: X has column numbers outside 0 to 39 in rows 0 to 59"):
            read_all(source)
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
