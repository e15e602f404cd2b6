"""Converting files to a collection: what comes out, the shuffle, stopping and going on."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodelforge._errors import ConfigError, DataError, Interrupted
from scmodelforge.data._shard_writer import ShardedArray
from scmodelforge.training._files import MANIFEST
from scmodelforge.workflows import convert as workflow
from scmodelforge.workflows.conversion import plan, steps
from scmodelforge.workflows.conversion.buckets import Buckets
from scmodelforge.workflows.convert import DamageError, convert, verify

MANY = {"memory": 4_000, "dataset_cells": 110, "shard_size": 2_000}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """Let tiny files have many buckets, and save after each block."""
    monkeypatch.setattr(plan, "_BASE_MEMORY", 0)
    monkeypatch.setattr(plan, "LEAST_MEMORY", 0)
    monkeypatch.setattr(steps, "_SECONDS_BETWEEN_SAVES", 0.0)


def adata_of(num_cells: int = 200, genes: list[str] | None = None, *, seed: int = 0, dtype="float32") -> ad.AnnData:
    genes = genes or [f"ENSG{i:011d}" for i in range(40)]
    rng = np.random.default_rng(seed)
    values = rng.poisson(0.7, (num_cells, len(genes))).astype(dtype)
    values[3] = 0
    obs = pd.DataFrame(
        {
            "type": pd.Categorical([f"t{4 * i // num_cells}" for i in range(num_cells)]),
            "depth": rng.integers(0, 1000, num_cells),
        },
        index=[f"cell{i}" for i in range(num_cells)],
    )
    return ad.AnnData(sp.csr_matrix(values), obs, pd.DataFrame({"symbol": [g.lower() for g in genes]}, index=genes))


def write(folder: Path, adata: ad.AnnData, name: str = "cells.h5ad", **options) -> Path:
    adata.write_h5ad(folder / name, **options)
    return folder / name


def read_all(out: Path) -> ad.AnnData:
    parts = sorted(out.glob("dataset_*"), key=lambda path: int(path.name.partition("_")[2]))
    return ad.concat([ad.io.read_zarr(part) for part in parts], merge="same")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_cells(found: ad.AnnData, expected: ad.AnnData) -> None:
    assert sorted(found.obs_names) == sorted(expected.obs_names)
    found = found[list(expected.obs_names), list(expected.var_names)]
    assert np.array_equal(found.X.toarray(), sp.csr_matrix(expected.X).toarray())
    for column in expected.obs:
        assert found.obs[column].tolist() == expected.obs[column].tolist()


class TestOneFile:
    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_values_and_tables_are_those_of_the_file(self, tmp_path, shuffle, compression):
        adata = adata_of()
        convert([write(tmp_path, adata, compression=compression)], tmp_path / "o.zarr", shuffle=shuffle, **MANY)
        found = read_all(tmp_path / "o.zarr")
        assert found.X.dtype == np.float32
        assert_same_cells(found, adata)
        assert set(found.obs["source_file"]) == {"cells.h5ad"}
        assert list(found.var["symbol"]) == list(adata.var["symbol"])
        assert (list(found.obs_names) == list(adata.obs_names)) is not shuffle

    def test_a_dense_file_becomes_sparse(self, tmp_path):
        adata = adata_of(50)
        adata.X = adata.X.toarray()
        for shuffle in (True, False):
            convert([write(tmp_path, adata)], tmp_path / "o.zarr", shuffle=shuffle, force=True, **MANY)
            assert_same_cells(read_all(tmp_path / "o.zarr"), adata)

    def test_the_collection_is_what_annbatch_looks_for(self, tmp_path):
        convert([write(tmp_path, adata_of())], tmp_path / "o.zarr", **MANY)
        attributes = json.loads((tmp_path / "o.zarr" / "zarr.json").read_text())["attributes"]
        assert attributes["encoding-type"] == "annbatch-preshuffled"
        assert attributes["encoding-version"] == "0.1.0"
        folders = [path.name for path in (tmp_path / "o.zarr").iterdir() if path.is_dir()]
        assert sorted(folders) == ["dataset_0", "dataset_1"]
        sizes = [ad.io.read_zarr(tmp_path / "o.zarr" / name).n_obs for name in sorted(folders)]
        assert sum(sizes) == 200
        assert max(sizes) <= 110

    def test_a_layer_can_be_taken(self, tmp_path):
        adata = adata_of(30)
        adata.layers["twice"] = adata.X * 2
        convert([write(tmp_path, adata)], tmp_path / "o.zarr", layer="twice")
        assert_same_cells(read_all(tmp_path / "o.zarr"), ad.AnnData(adata.X * 2, adata.obs, adata.var))

    def test_gene_ids_of_a_column_become_the_index(self, tmp_path):
        adata = adata_of(30)
        adata.var["ids"] = adata.var_names
        adata.var_names = [f"name{i}" for i in range(40)]
        adata.var.loc["name5", "ids"] = ""
        adata.var["ids"] = adata.var["ids"].astype("category")
        convert([write(tmp_path, adata)], tmp_path / "o.zarr", gene_id_column="ids")
        found = read_all(tmp_path / "o.zarr")
        assert found.var_names[4] == "ENSG00000000004"
        assert found.var_names[5] == "name5"
        assert list(found.var["var_names"]) == list(adata.var_names)


class TestTypes:
    @pytest.mark.parametrize(
        ("stored", "asked", "found"),
        [
            ("float32", "auto", "float32"),
            ("float64", "auto", "float64"),
            ("int32", "auto", "int32"),
            ("uint16", "auto", "uint16"),
            ("float32", "uint16", "uint16"),
            ("float64", "float32", "float32"),
            ("int64", "uint8", "uint8"),
        ],
    )
    def test_values_have_the_type_asked_for(self, tmp_path, stored, asked, found):
        adata = adata_of(40, dtype=stored)
        convert([write(tmp_path, adata)], tmp_path / "o.zarr", dtype=asked)
        result = read_all(tmp_path / "o.zarr")
        assert result.X.dtype == found
        assert_same_cells(result, adata)

    @pytest.mark.parametrize("is_dense", [True, False])
    def test_float64_is_carried_over_as_it_is(self, tmp_path, is_dense):
        adata = adata_of(40, dtype="float64")
        adata.X = sp.csr_matrix(adata.X) * 0.1
        adata.X.data[0] = 1e-60
        expected = adata.X.toarray()
        if is_dense:
            adata.X = expected
        convert([write(tmp_path, adata)], tmp_path / "o.zarr", shuffle=False)
        assert np.array_equal(read_all(tmp_path / "o.zarr").X.toarray(), expected)

    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_nothing_is_rounded(self, tmp_path, dtype):
        adata = adata_of(40, dtype="float64")
        adata.X = sp.csr_matrix(adata.X) * 0.1
        path = write(tmp_path, adata)
        with pytest.raises(DataError, match=rf"cells\.h5ad, rows 20 to 39, holds .* {dtype} does not hold exactly"):
            convert([path], tmp_path / "o.zarr", dtype=dtype)
        assert not (tmp_path / "o.zarr").exists()

    def test_a_smaller_type_is_offered_for_whole_numbers(self, tmp_path):
        path = write(tmp_path, adata_of(40))
        assert any("--dtype uint8" in line for line in convert([path], tmp_path / "a.zarr"))
        assert not any("--dtype" in line for line in convert([path], tmp_path / "b.zarr", dtype="uint16"))

    def test_an_unknown_type_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="--dtype complex64 is none of auto, uint8, uint16"):
            convert([write(tmp_path, adata_of(40))], tmp_path / "o.zarr", dtype="complex64")
        with pytest.raises(ConfigError, match=r"--dtype unit16 is none of .* Did you mean 'uint16'\?"):
            convert([tmp_path / "cells.h5ad"], tmp_path / "o.zarr", dtype="unit16")


class TestValuesThatAreNoCounts:
    """They are carried over; one line for each file says what was seen and what refuses it."""

    def convert(self, folder: Path, caplog, change, **options) -> list[str]:
        adata = adata_of(1200)
        values = adata.X.toarray()
        change(values)
        adata.X = sp.csr_matrix(values)
        convert([write(folder, adata)], folder / "o.zarr", **options)
        found = read_all(folder / "o.zarr")[list(adata.obs_names)]
        assert np.array_equal(found.X.toarray(), values, equal_nan=True)
        lines = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        return [line for line in lines if "cells.h5ad" in line]

    @pytest.mark.parametrize(
        ("first", "seen"),
        [
            (
                np.nan,
                r"cells.h5ad holds NaN or infinite values \(.* are NaN or infinite\); 'scmodelforge train' refuses",
            ),
            (
                -1,
                r"cells.h5ad holds negative values, as scaled data do \(.*\); tokenizers of .* that need counts refuse",
            ),
            (
                0.5,
                r"cells.h5ad looks .*normalised \(not whole .*\); tokenizers of 'scmodelforge train' that need counts",
            ),
        ],
    )
    def test_a_file_of_them_is_told_once(self, tmp_path, caplog, first, seen):
        def change(values):
            values[:, 0] = first

        (line,) = self.convert(tmp_path, caplog, change)
        assert re.match(rf"warning: {seen}", line)
        assert line.endswith("as they are. If the file has counts elsewhere, name their place with --layer.")

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize(
        ("value", "seen"),
        [
            (np.nan, "row 70 holds NaN; 'scmodelforge train' refuses such values; the collection has them as they are"),
            (np.inf, "row 70 holds an infinite value; 'scmodelforge train' refuses"),
            (-2, "row 70 holds -2, a negative value; tokenizers of 'scmodelforge train' that need counts refuse"),
            (1.5, "row 70 holds 1.5, not a whole number; tokenizers of 'scmodelforge train' that need counts refuse"),
        ],
    )
    def test_a_single_one_outside_the_sample_is_told_with_its_row(self, tmp_path, caplog, value, seen, shuffle):
        def change(values):
            values[80, 3] = 0.25 if np.isnan(value) else values[80, 3]  # the worst counts
            values[70, 5] = value

        (line,) = self.convert(tmp_path, caplog, change, shuffle=shuffle)
        assert seen in line

    def test_counts_are_not_spoken_of(self, tmp_path, caplog):
        assert not self.convert(tmp_path, caplog, lambda values: None)


class TestSeveralFiles:
    def files(self, folder: Path) -> list[Path]:
        first = adata_of(60, ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"])
        second = adata_of(50, ["ENSG00000000004", "ENSG00000000003", "ENSG00000000001"], seed=1, dtype="int32")
        second.obs = second.obs.rename(columns={"depth": "lane"})
        second.var["length"] = [4, 3, 1]
        second.obs_names = [f"cell{i + 30}" for i in range(50)]
        return [write(folder, first, "a.h5ad"), write(folder, second, "b.h5ad")]

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_genes_are_the_union_and_cells_keep_their_values(self, tmp_path, shuffle):
        paths = self.files(tmp_path)
        convert(paths, tmp_path / "o.zarr", shuffle=shuffle, **MANY)
        found = read_all(tmp_path / "o.zarr")
        assert list(found.var_names) == [f"ENSG{i:011d}" for i in (1, 2, 3, 4)]
        for path in paths:
            own = ad.read_h5ad(path)
            cells = found[found.obs["source_file"] == path.name]
            names = [n if n in cells.obs_names else f"{n}-{path.stem}" for n in own.obs_names]
            assert np.array_equal(cells[names, own.var_names].X.toarray(), own.X.toarray())
            others = [gene for gene in found.var_names if gene not in own.var_names]
            assert cells[:, others].X.nnz == 0
        assert found.X.has_sorted_indices

    def test_tables_are_the_union(self, tmp_path):
        convert(self.files(tmp_path), tmp_path / "o.zarr", shuffle=False)
        found = read_all(tmp_path / "o.zarr")
        assert list(found.obs) == ["type", "depth", "lane", "source_file"]
        assert found.obs["depth"].isna().tolist() == [False] * 60 + [True] * 50
        assert found.obs["lane"].isna().tolist() == [True] * 60 + [False] * 50
        assert list(found.var["symbol"]) == ["ensg00000000001", "ensg00000000002", "ensg00000000003", "ensg00000000004"]
        assert found.var["length"].tolist()[2:] == [3, 4]
        assert found.obs_names.is_unique
        assert list(found.obs_names[[0, 30, 60, 109]]) == ["cell0", "cell30-a", "cell30-b", "cell79"]


class TestGenesUnderSeveralNames:
    def lines(self, folder: Path, caplog, *panels: list[str]) -> list[str]:
        paths = []
        for number, panel in enumerate(panels):
            adata = adata_of(20, [f"column{i}" for i in range(len(panel))], seed=number)
            adata.var["ids"] = list(panel)
            paths.append(write(folder, adata, f"{number}.h5ad"))
        convert(paths, folder / "o.zarr", gene_id_column="ids")
        return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]

    def test_ids_in_one_file_and_symbols_in_another_are_told(self, tmp_path, caplog):
        first = ["ENSG00000121410", "ENSG00000148584", "ENSG00000141510", "ENSG00000175899"]
        (line,) = self.lines(tmp_path, caplog, first, ["A1BG", "A1CF", "TP53", "ACTB"])
        assert line.startswith(
            "warning: 3 genes stand under two or more names in the collection, such as ENSG00000121410 and A1BG, each "
        )
        assert "(0.h5ad has human Ensembl ids (ENSG00000121410, ...); 1.h5ad has gene symbols (A1BG, ...));" in line
        assert line.endswith("name with --gene-id-column a var column that has the same kind of ids in every file.")

    def test_versions_are_told(self, tmp_path, caplog):
        (line,) = self.lines(tmp_path, caplog, ["ENSG00000121410.11", "ENSMUSG00000000001"], ["ENSG00000121410.12"])
        assert "1 gene stands under two or more names" in line

    def test_other_genes_are_not_spoken_of(self, tmp_path, caplog):
        assert not self.lines(tmp_path, caplog, ["A1BG", "TP53"], ["TP53", "ACTB"])

    def test_repeats_within_a_file_are_told(self, tmp_path, caplog):
        (line,) = self.lines(tmp_path, caplog, ["A1BG", "TP53", "TP53", "ACTB", "A1BG", "A1BG"], ["A1BG"])
        assert line.startswith(
            "warning: 0.h5ad: 2 gene ids stand more than once; the further columns become genes of their own, such as "
            "A1BG-1, and nothing is summed. Where they are one gene, sum them in the file"
        )
        assert "A1BG-1" in read_all(tmp_path / "o.zarr").var_names


class TestShuffle:
    def test_it_is_a_permutation_of_the_seed(self, tmp_path):
        path = write(tmp_path, adata_of())
        names = {}
        for seed, memory in ((0, 4_000), (0, 10**9), (1, 4_000)):
            out = tmp_path / f"{seed}_{memory}.zarr"
            convert([path], out, seed=seed, **{**MANY, "memory": memory})
            names[seed, memory] = list(read_all(out).obs_names)
        assert names[0, 4_000] == names[0, 10**9] != names[1, 4_000]
        assert contents(tmp_path / "0_4000.zarr") == contents(tmp_path / "0_1000000000.zarr")

    def test_it_mixes_what_was_stored_type_after_type(self, tmp_path):
        convert([write(tmp_path, adata_of(2000))], tmp_path / "o.zarr", memory=50_000)
        types = read_all(tmp_path / "o.zarr").obs["type"].cat.codes.to_numpy()
        entropies = []
        for start in range(0, 2000, 100):
            shares = np.bincount(types[start : start + 100], minlength=4) / 100
            entropies.append(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())
        assert np.mean(entropies) > 0.97 * 2  # four equal types have 2 bits

    def test_memory_sets_the_number_of_buckets(self):
        sample = plan.Sample(bytes_per_cell=100.0, bytes_on_disk=0)
        for memory in (10_000, 100_000):
            found = plan.make_plan(1000, sample, memory=memory, dataset_cells=400, shuffle=True, seed=0)
            largest = int(np.diff(found.buckets).max())
            assert largest * 100 * plan._COPIES <= memory
            assert found.cells_at_once <= memory
            assert set(found.datasets.tolist()) <= set(found.buckets.tolist())
            assert sorted(found.order.tolist()) == list(range(1000))


class _Stop(Exception):  # noqa: N818
    """Stands for a kill: nothing of ours catches it."""


def _failing(function, after: int, error: BaseException):
    calls = iter(range(after))

    def wrapped(*arguments, **named):
        if next(calls, None) is None:
            raise error
        return function(*arguments, **named)

    return wrapped


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_BASE_MEMORY", 0)
        patch.setattr(plan, "LEAST_MEMORY", 0)
        convert([write(folder, adata_of())], folder / "unbroken.zarr", **MANY)
    return contents(folder / "unbroken.zarr")


class TestGoingOn:
    @pytest.mark.parametrize(
        ("owner", "name", "after"),
        [
            (steps, "write_tables", 0),
            pytest.param(Buckets, "scatter", 0, marks=pytest.mark.slow),
            pytest.param(Buckets, "scatter", 3, marks=pytest.mark.slow),
            (Buckets, "sync", 2),
            pytest.param(Buckets, "read", 0, marks=pytest.mark.slow),
            (Buckets, "read", 4),
            pytest.param(ShardedArray, "_close_shard", 1, marks=pytest.mark.slow),
            (ShardedArray, "_close_shard", 5),
            pytest.param(steps, "write_rest", 0, marks=pytest.mark.slow),
            pytest.param(steps, "consolidate", 1, marks=pytest.mark.slow),
            (steps, "write_manifest", 0),
            (steps, "sync_folder", 0),
        ],
    )
    def test_a_broken_conversion_ends_as_an_unbroken_one(self, tmp_path, monkeypatch, unbroken, owner, name, after):
        path = write(tmp_path, adata_of())
        out = tmp_path / "broken.zarr"
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _failing(getattr(owner, name), after, _Stop()))
            with pytest.raises(_Stop):
                convert([path], out, **MANY)
        assert out.exists() == (name == "sync_folder")
        convert([path], out, force=out.exists(), **MANY)
        assert contents(out) == unbroken
        assert not (tmp_path / "broken.zarr.partial").exists()

    def test_without_shuffle_too(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of())
        options = {**MANY, "shuffle": False}
        convert([path], tmp_path / "unbroken.zarr", **options)
        for after in (0, 2, 7):
            with monkeypatch.context() as patch:
                patch.setattr(ShardedArray, "append", _failing(ShardedArray.append, after, _Stop()))
                with pytest.raises(_Stop):
                    convert([path], tmp_path / "broken.zarr", **options)
        convert([path], tmp_path / "broken.zarr", **options)
        assert contents(tmp_path / "broken.zarr") == contents(tmp_path / "unbroken.zarr")

    def test_what_is_done_is_not_done_again(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of())
        with monkeypatch.context() as patch:
            patch.setattr(steps, "write_manifest", _failing(steps.write_manifest, 0, _Stop()))
            with pytest.raises(_Stop):
                convert([path], tmp_path / "o.zarr", **MANY)
        for owner, name in ((Buckets, "scatter"), (Buckets, "read"), (steps, "write_tables")):
            monkeypatch.setattr(owner, name, _failing(getattr(owner, name), 0, AssertionError("done again")))
        convert([path], tmp_path / "o.zarr", **MANY)
        assert read_all(tmp_path / "o.zarr").n_obs == 200

    def test_other_settings_begin_anew(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of())
        with monkeypatch.context() as patch:
            patch.setattr(Buckets, "read", _failing(Buckets.read, 3, _Stop()))
            with pytest.raises(_Stop):
                convert([path], tmp_path / "o.zarr", **MANY)
        convert([path], tmp_path / "o.zarr", **MANY, seed=5)
        convert([path], tmp_path / "fresh.zarr", **MANY, seed=5)
        assert contents(tmp_path / "o.zarr") == contents(tmp_path / "fresh.zarr")

    def test_ctrl_c_says_how_to_go_on(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of())
        monkeypatch.setattr(Buckets, "scatter", _failing(Buckets.scatter, 2, KeyboardInterrupt()))
        with pytest.raises(Interrupted, match=r"kept in .*o\.zarr\.partial, and the same command goes on from there"):
            convert([path], tmp_path / "o.zarr", **MANY)

    def test_ctrl_c_right_at_the_beginning_promises_nothing(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of())
        monkeypatch.setattr(steps, "write_tables", _failing(steps.write_tables, 0, KeyboardInterrupt()))
        with pytest.raises(Interrupted, match=r"^stopped before anything was done; nothing is kept\.$"):
            convert([path], tmp_path / "o.zarr", **MANY)
        assert [each.name for each in tmp_path.iterdir()] == ["cells.h5ad"]

    def test_ctrl_c_before_a_cell_was_saved_says_so(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of())
        monkeypatch.setattr(Buckets, "scatter", _failing(Buckets.scatter, 0, KeyboardInterrupt()))
        with pytest.raises(
            Interrupted, match=r"stopped; no cell yet, but what was done of obs and var is kept in .*o\."
        ):
            convert([path], tmp_path / "o.zarr", **MANY)

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (
                DataError("cells.h5ad: broken."),
                r"cells\.h5ad: broken\. What was done is kept in .*o\.zarr\.partial, and",
            ),
            (
                OSError(errno.EIO, "Input/output error", "x"),
                r"x: Input/output error; mend that, and .* What was done is",
            ),
        ],
    )
    def test_an_error_says_what_is_kept(self, tmp_path, monkeypatch, error, message):
        path = write(tmp_path, adata_of())
        with monkeypatch.context() as patch:
            patch.setattr(Buckets, "scatter", _failing(Buckets.scatter, 2, error))
            with pytest.raises(DataError, match=message):
                convert([path], tmp_path / "o.zarr", **MANY)
        convert([path], tmp_path / "o.zarr", **MANY)
        assert_same_cells(read_all(tmp_path / "o.zarr"), adata_of())

    def test_what_cannot_be_gone_on_from_is_removed(self, tmp_path):
        adata = adata_of()
        values = adata.X.toarray()
        values[50, 0] = 300  # not among the cells that are read first, in the middle
        adata.X = sp.csr_matrix(values)
        with pytest.raises(
            DataError, match=r"cells\.h5ad, rows .* holds 300\.0, which uint8 does not hold exactly"
        ) as e:
            convert([write(tmp_path, adata)], tmp_path / "o.zarr", dtype="uint8", **MANY)
        assert "kept" not in str(e.value)
        assert [each.name for each in tmp_path.iterdir()] == ["cells.h5ad"]

    def test_a_full_disk_is_said_in_one_line_and_can_be_gone_on_from(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of())
        full = OSError(errno.ENOSPC, "No space left on device")
        with monkeypatch.context() as patch:
            patch.setattr(Buckets, "scatter", _failing(Buckets.scatter, 2, full))
            with pytest.raises(DataError, match=r"o\.zarr\.partial is full; make room\. What was done is kept"):
                convert([path], tmp_path / "o.zarr", **MANY)
        convert([path], tmp_path / "o.zarr", **MANY)
        assert_same_cells(read_all(tmp_path / "o.zarr"), adata_of())

    def test_what_is_not_finished_is_no_collection(self, tmp_path, monkeypatch):
        monkeypatch.setattr(steps, "write_manifest", _failing(steps.write_manifest, 0, _Stop()))
        with pytest.raises(_Stop):
            convert([write(tmp_path, adata_of())], tmp_path / "o.zarr", **MANY)
        assert not (tmp_path / "o.zarr").exists()
        with pytest.raises(DataError, match=r"o\.zarr is not there, only unfinished work, .*o\.zarr\.partial; repeat"):
            verify(tmp_path / "o.zarr")


class TestRefusals:
    def test_what_exists_is_replaced_only_by_force(self, tmp_path):
        path, out = write(tmp_path, adata_of(40)), tmp_path / "o.zarr"
        convert([path], out)
        with pytest.raises(DataError, match=r"o\.zarr exists; choose another name, or replace it with --force"):
            convert([path], out)
        convert([path], out, force=True, dtype="uint8")
        assert read_all(out).X.dtype == np.uint8

    def test_a_folder_that_is_no_store_is_never_replaced(self, tmp_path):
        (tmp_path / "o.zarr").mkdir()
        (tmp_path / "o.zarr" / "thesis.txt").touch()
        with pytest.raises(DataError, match=r"o\.zarr is not a zarr store, so it is not replaced"):
            convert([write(tmp_path, adata_of(40))], tmp_path / "o.zarr", force=True)

    def test_a_foreign_folder_for_unfinished_work_is_not_touched(self, tmp_path):
        (tmp_path / "o.zarr.partial").mkdir()
        (tmp_path / "o.zarr.partial" / "thesis.txt").touch()
        with pytest.raises(DataError, match=r"o\.zarr\.partial is needed for unfinished work but holds something else"):
            convert([write(tmp_path, adata_of(40))], tmp_path / "o.zarr")

    def test_two_processes_do_not_write_one_output(self, tmp_path):
        fcntl = pytest.importorskip("fcntl")
        (tmp_path / "o.zarr.partial").mkdir()
        with (tmp_path / "o.zarr.partial" / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(DataError, match="is being worked at by another process"):
                convert([write(tmp_path, adata_of(40))], tmp_path / "o.zarr")

    def test_the_output_is_a_zarr_folder(self, tmp_path):
        path = write(tmp_path, adata_of(40))
        with pytest.raises(DataError, match=r"b\.h5ad does not end in \.zarr; the last path is the folder to write"):
            convert([path], tmp_path / "b.h5ad")
        with pytest.raises(DataError, match=r"cannot write to .*nowhere \(it is not there\); make the folder"):
            convert([path], tmp_path / "nowhere" / "b.zarr")

    def test_a_place_that_refuses_new_folders_is_found_before(self, tmp_path):
        path = write(tmp_path, adata_of(40))
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match=r"cannot write to .*file \(Not a directory\); make the folder, or choose"):
            convert([path], tmp_path / "file" / "b.zarr")
        if Path("/proc/self").exists():  # here even root, who has all rights, makes no folder
            with pytest.raises(
                DataError, match=r"cannot write to /proc \(.+\); make the folder, or choose one you may"
            ):
                convert([path], Path("/proc/b.zarr"))
        assert sorted(each.name for each in tmp_path.iterdir()) == ["cells.h5ad", "file"]

    def test_an_output_elsewhere_is_refused(self, tmp_path):
        path = write(tmp_path, adata_of(40))
        with pytest.raises(DataError, match=r"OUT is an address \(s3://\.\.\.\), and it must be on this machine"):
            convert([path], Path("s3://bucket/c9.zarr"))

    def test_a_link_to_nothing_is_not_replaced(self, tmp_path):
        (tmp_path / "o.zarr").symlink_to(tmp_path / "nowhere")
        with pytest.raises(DataError, match=r"o\.zarr is a link to something that is not there; remove it"):
            convert([write(tmp_path, adata_of(40))], tmp_path / "o.zarr")

    def test_memory_is_a_number_of_bytes(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of(40))
        with pytest.raises(ConfigError, match="--memory: 'lots' is no size; write a number of bytes, or"):
            convert([path], tmp_path / "b.zarr", memory="lots")
        monkeypatch.setattr(plan, "LEAST_MEMORY", 384 << 20)
        for memory, size in (("400MB", "400.0"), ("383MiB", "401.6")):
            message = f"--memory {memory} is too little: it is {size} MB, and 403 MB are the least"
            with pytest.raises(ConfigError, match=message):
                convert([path], tmp_path / "b.zarr", memory=memory)

    @pytest.mark.parametrize("size", ["0", "0GB", 0])
    def test_shards_need_room_for_values(self, tmp_path, size):
        message = f"--shard-size {size} leaves no room for values; give the size of a file, such as 1GB"
        with pytest.raises(ConfigError, match=message):
            convert([write(tmp_path, adata_of(40))], tmp_path / "b.zarr", shard_size=size)

    def test_a_disk_without_room_is_found_before(self, tmp_path):
        with pytest.raises(DataError, match=r"GB free, and converting needs about 1,000,000,000\.0 GB"):
            plan.check_disk(tmp_path, 10**18)

    def test_a_disk_without_room_is_left_as_it_was(self, tmp_path, monkeypatch):
        monkeypatch.setattr(plan, "needed_on_disk", lambda *_, **__: 10**18)
        with pytest.raises(DataError, match=r"make room, or write to another disk\.$"):
            convert([write(tmp_path, adata_of(40))], tmp_path / "o.zarr")
        assert [each.name for each in tmp_path.iterdir()] == ["cells.h5ad"]

    def test_a_damaged_obs_column_is_found_before_the_long_passes(self, tmp_path, monkeypatch):
        path = write(tmp_path, adata_of(40))
        with h5py.File(path, "r+") as file:
            file["obs/depth"].attrs.clear()
            del file["obs/depth"]
            file["obs/depth"] = np.zeros(7)
        monkeypatch.setattr(Buckets, "scatter", None)
        with pytest.raises(DataError, match=r"cells\.h5ad: obs: column 'depth' has 7 rows, the index has 40"):
            convert([path], tmp_path / "o.zarr")


class TestInputsAreKept:
    """Whatever the output is called, no input is replaced, with --force or without."""

    @pytest.fixture
    def store(self, tmp_path) -> Path:
        convert([write(tmp_path, adata_of(40))], tmp_path / "in.zarr")
        return tmp_path / "in.zarr"

    @pytest.fixture(params=[False, True])
    def refused(self, request, store):
        """Return a call that is refused, with and without force, and leaves everything as it was."""

        def call(inputs: list[object], out: Path, message: str) -> None:
            before = contents(store.parent)
            with pytest.raises(DataError, match=message) as caught:
                convert([str(each) for each in inputs], out, force=request.param)
            assert "--force" not in str(caught.value)
            assert contents(store.parent) == before

        return call

    def test_an_output_that_is_read_is_refused(self, refused, store):
        refused(
            [store], store, r"in\.zarr is read as '.*in\.zarr', and an input is never replaced; choose another name"
        )
        refused([store.parent / "cells.h5ad", store], store, "an input is never replaced")

    def test_other_spellings_make_no_difference(self, refused, store, monkeypatch):
        (store.parent / "linked").symlink_to(store.parent)
        (store.parent / "alias.zarr").symlink_to(store)
        monkeypatch.chdir(store.parent)
        refused([store], Path("in.zarr"), "an input is never replaced")
        refused(["i*.zarr"], store, "an input is never replaced")
        refused([store], store.parent / "linked" / "in.zarr", "an input is never replaced")
        refused([store], store.parent / "alias.zarr", "an input is never replaced")
        refused([store.parent / "alias.zarr"], store, "an input is never replaced")

    def test_a_part_of_a_collection_keeps_the_collection(self, refused, store):
        refused([store / "dataset_0"], store, "an input is never replaced")

    def test_inputs_inside_the_output_are_kept(self, refused, store):
        (store.parent / "cells.h5ad").rename(store / "cells.h5ad")
        (store.parent / "away.h5ad").symlink_to(store / "cells.h5ad")
        message = r"cells\.h5ad is read and lies inside .*in\.zarr, or its unfinished work; choose another name"
        refused([store / "cells.h5ad"], store, message)
        refused([store.parent / "away.h5ad"], store, r"away\.h5ad is read and lies inside .*in\.zarr")

    def test_inputs_in_unfinished_work_are_kept(self, refused, store):
        store.rename(store.parent / "o.zarr.partial")
        refused([store.parent / "o.zarr.partial"], store.parent / "o.zarr", "lies inside .*o.zarr, or its unfinished")

    def test_an_output_inside_an_input_is_refused(self, refused, store):
        message = r"o\.zarr lies inside a store that is read, '.*in\.zarr'; choose another place for OUT"
        refused([store], store / "o.zarr", message)
        refused([store], store / "dataset_0" / "o.zarr", message)
        refused([store / "dataset_0"], store / "o.zarr", "lies inside a store that is read")


class TestVerify:
    @pytest.fixture
    def out(self, tmp_path) -> Path:
        convert([write(tmp_path, adata_of(40))], tmp_path / "o.zarr")
        return tmp_path / "o.zarr"

    def test_a_whole_collection_passes(self, out):
        assert re.search(r"o\.zarr: \d+ files of \d+\.\d kB are as they were written", verify(out)[0])

    def test_a_flipped_byte_is_found(self, out):
        path = out / "dataset_0" / "X" / "data" / "c" / "0"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(DamageError, match="dataset_0/X/data/c/0 does not match its checksum; copy it again"):
            verify(out)

    def test_a_missing_file_is_found(self, out):
        (out / "dataset_0" / "obs" / "type" / "codes" / "zarr.json").unlink()
        with pytest.raises(DataError, match=r"dataset_0/obs/type/codes/zarr\.json is missing"):
            verify(out)

    def test_a_collection_without_checksums_is_refused(self, out):
        (out / MANIFEST).unlink()
        with pytest.raises(DataError, match=rf"o\.zarr is no collection that .* has finished: it has no {MANIFEST}"):
            verify(out)


class TestBuckets:
    def test_a_bucket_that_lost_cells_is_refused(self, tmp_path):
        path = write(tmp_path, adata_of())

        def cut(self, bucket):
            file = self._path(bucket)
            first = np.frombuffer(file.read_bytes()[:48], dtype=np.int64)
            file.write_bytes(file.read_bytes()[48 + int(first[2:].sum()) :])
            return read(self, bucket)

        read = Buckets.read
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Buckets, "read", cut)
            with pytest.raises(DataError, match=r"buckets/000000 does not hold its \d+ cells; .* was removed"):
                convert([path], tmp_path / "o.zarr", **MANY)
        assert not (tmp_path / "o.zarr.partial").exists()


def test_python_and_command_line_have_the_same_defaults():
    import inspect

    from scmodelforge.cli.convert import convert as command

    ours, theirs = inspect.signature(workflow.convert).parameters, inspect.signature(command).parameters
    for name in ("layer", "gene_id_column", "dtype", "shuffle", "seed", "memory", "dataset_cells", "force"):
        assert ours[name].default == theirs[name].default
