"""Writing AnnData in zarr v3, row after row."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodelforge._errors import DataError
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.writing import AnnDataWriter, CsrWriter, column_dtype, exactly


def counts(num_cells: int = 90, num_genes: int = 30, *, seed: int = 0) -> sp.csr_matrix:
    matrix = sp.random(num_cells, num_genes, 0.3, format="csr", dtype=np.float32, random_state=seed)
    matrix.data = np.ceil(matrix.data * 100)
    kept = np.ones(num_cells)
    kept[7] = 0  # a cell without any value
    matrix = sp.csr_matrix(sp.diags(kept) @ matrix, dtype=np.float32)
    matrix.eliminate_zeros()
    return matrix


def panel_of(matrix: sp.csr_matrix) -> Panel:
    return Panel(np.array([f"g{i}" for i in range(matrix.shape[1])], dtype=object), "cells")


def blocks(matrix: sp.csr_matrix, size: int):
    panel = panel_of(matrix)
    for start in range(0, matrix.shape[0], size):
        part = matrix[start : start + size]
        positions = np.arange(start, start + part.shape[0])
        yield CellBlock(part.data, part.indices, part.indptr.astype(np.int64), panel, positions)


def write(path: Path, matrix: sp.csr_matrix, *, size: int = 13, obs: pd.DataFrame | None = None, var=None, **options):
    with AnnDataWriter(path, panel_of(matrix), **options) as writer:
        for block in blocks(matrix, size):
            writer.append(block, None if obs is None else obs.iloc[block.positions])
        writer.finish(var=var)
    return path


class TestAnnDataWriter:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16", "int32"])
    @pytest.mark.parametrize("shard_bytes", [300, 10**9])
    def test_anndata_reads_the_values(self, tmp_path, dtype, shard_bytes):
        matrix = counts()
        found = ad.io.read_zarr(write(tmp_path / "c.zarr", matrix, dtype=dtype, shard_bytes=shard_bytes))
        assert found.X.dtype == dtype
        assert np.array_equal(found.X.toarray(), matrix.toarray())
        assert list(found.var_names) == [f"g{i}" for i in range(30)]
        assert list(found.obs_names) == [str(i) for i in range(90)]

    def test_anndata_reads_the_tables(self, tmp_path):
        matrix = counts(20)
        obs = pd.DataFrame(
            {
                "type": pd.Categorical(["b", None] * 10, categories=["b", "a"], ordered=True),
                "score": np.linspace(0, 1, 20),
                "flag": [True, False] * 10,
                "number": pd.array([1, None] * 10, dtype="Int32"),
                "yes": pd.array([True, None] * 10, dtype="boolean"),
                "text": [f"t{i}" for i in range(20)],
            },
            index=[f"cell{i}" for i in range(20)],
        )
        var = pd.DataFrame({"symbol": [f"s{i}" for i in range(30)]})
        found = ad.io.read_zarr(write(tmp_path / "c.zarr", matrix, obs=obs, var=var))
        obs["text"] = obs["text"].astype(found.obs["text"].dtype)  # which of its own kinds of text pandas takes
        pd.testing.assert_frame_equal(found.obs, obs)
        assert list(found.var["symbol"]) == list(var["symbol"])

    def test_nothing_has_the_name_before_the_end(self, tmp_path):
        path = tmp_path / "c.zarr"
        with AnnDataWriter(path, panel_of(counts())) as writer:
            writer.append(next(blocks(counts(), 13)))
            assert not path.exists()
        assert list(tmp_path.iterdir()) == []

    def test_an_error_on_the_way_leaves_nothing(self, tmp_path):
        writer = AnnDataWriter(tmp_path / "c.zarr", panel_of(counts()), dtype="u1")
        with pytest.raises(DataError, match="which uint8 does not hold exactly"), writer:
            writer.append(next(blocks(counts() * 0.5, 13)))
        assert list(tmp_path.iterdir()) == []

    def test_no_cells_are_an_anndata_too(self, tmp_path):
        with AnnDataWriter(tmp_path / "c.zarr", panel_of(counts())) as writer:
            writer.finish()
        assert ad.io.read_zarr(tmp_path / "c.zarr").shape == (0, 30)

    def test_what_exists_is_not_replaced(self, tmp_path):
        (tmp_path / "c.zarr").mkdir()
        with pytest.raises(DataError, match=r"c\.zarr exists; choose another name"):
            AnnDataWriter(tmp_path / "c.zarr", panel_of(counts()))

    def test_blocks_of_any_size_give_the_same_values_on_disk(self, tmp_path):
        matrix = counts()
        for size in (1, 90):
            with_length = CsrWriter(tmp_path / str(size), 30, dtype="f4", row_length=9.0, shard_bytes=2000)
            for block in blocks(matrix, size):
                with_length.append(block.data, block.indices, np.diff(block.indptr))
            with_length.finish()
        files = [
            {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
            for n in ("1", "90")
        ]
        assert files[0] == files[1]


class TestLayout:
    """What annbatch 0.3 looks at: attributes of the groups, sharding, the types of columns and row starts."""

    def test_the_matrix_is_sharded_as_annbatch_shards_it(self, tmp_path):
        path = write(tmp_path / "c.zarr", counts(), size=90, shard_bytes=5000)

        def metadata(name):
            return json.loads((path / name / "zarr.json").read_text())

        assert metadata("")["attributes"] == {"encoding-type": "anndata", "encoding-version": "0.1.0"}
        assert metadata("X")["attributes"] == {
            "encoding-type": "csr_matrix",
            "encoding-version": "0.1.0",
            "shape": [90, 30],
        }
        chunk = int(64 * counts().nnz / 90)
        for name, dtype, width in (("data", "float32", 4), ("indices", "uint8", 1)):
            found = metadata(f"X/{name}")
            (codec,) = found["codecs"]
            assert found["data_type"] == dtype
            assert codec["name"] == "sharding_indexed"
            assert codec["configuration"]["index_location"] == "end"
            assert codec["configuration"]["chunk_shape"] == [chunk]
            assert found["chunk_grid"]["configuration"]["chunk_shape"][0] % chunk == 0
            assert codec["configuration"]["codecs"][-1] == {
                "name": "blosc",
                "configuration": {
                    "typesize": width,
                    "cname": "lz4",
                    "clevel": 3,
                    "shuffle": "shuffle",
                    "blocksize": 1 << 20,
                },
            }
            assert [each["name"] for each in codec["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
        assert metadata("X/indptr")["data_type"] == "int64"

    @pytest.mark.parametrize(("num_genes", "dtype"), [(255, "u1"), (256, "u2"), (65_535, "u2"), (65_536, "u4")])
    def test_columns_have_the_smallest_type_that_anndata_would_take(self, num_genes, dtype):
        assert column_dtype(num_genes) == np.dtype(dtype)


class TestExactly:
    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            (np.array([1.5], np.float32), "uint16"),
            (np.array([-1.0], np.float32), "uint8"),
            (np.array([256.0], np.float32), "uint8"),
            (np.array([np.nan], np.float32), "int32"),
            (np.array([2.0**31], np.float32), "int32"),
            (np.array([2.0**63], np.float64), "int64"),
            (np.array([-1], np.int64), "uint64"),
            (np.array([70_000], np.int32), "uint16"),
            (np.array([2**24 + 1], np.int64), "float32"),
            (np.array([0.1], np.float64), "float32"),
        ],
    )
    def test_a_value_the_type_does_not_hold_is_refused(self, values, dtype):
        with pytest.raises(DataError, match=rf"cells holds .* which {dtype} does not hold exactly; nothing is rounded"):
            exactly(values, np.dtype(dtype), "cells")

    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            (np.array([0, 1, 255], np.float32), "uint8"),
            (np.array([np.nan, np.inf, 0.5]), "float32"),
            (np.array([2**24], np.int64), "float32"),
            (np.array([True, False]), "uint8"),
            (np.zeros(0, np.float64), "uint8"),
        ],
    )
    def test_values_the_type_holds_stay_the_same(self, values, dtype):
        found = exactly(values, np.dtype(dtype), "cells")
        assert found.dtype == dtype
        assert np.array_equal(found.astype(np.float64), values.astype(np.float64), equal_nan=True)
