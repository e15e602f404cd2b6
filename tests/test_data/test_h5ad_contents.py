"""What is found in .h5ad files beside rows: the matrix with counts, gene ids, obs columns, what identifies a file."""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from scmodelforge.data.sources._digest import content_digest
from scmodelforge.data.types import RowRange
from tests.conftest import make_adata

from .h5ad_files import dense, log_normalised, open_files, write


class TestWhereCountsAre:
    def test_counts_in_x_are_taken_from_there(self, tiny_h5ad):
        source = open_files(tiny_h5ad)
        assert source.kind(0).kind == "counts"
        assert source.describe() == ["tiny.h5ad: 60 cells, 40 genes; counts found in X"]

    def test_raw_is_taken_with_its_own_genes_when_x_is_logged(self, tmp_path, tiny_adata):
        adata = tiny_adata[:, :10].copy()
        adata.raw, adata.X = tiny_adata, log_normalised(adata.X)
        source = open_files(write(tmp_path, adata))
        np.testing.assert_array_equal(dense(source.read(RowRange(0, 0, 60))), tiny_adata.X.toarray())
        assert source.describe() == ["cells.h5ad: 60 cells, 40 genes; counts found in raw.X (X is log1p)"]

    def test_a_layer_named_like_counts_is_tried_before_other_layers(self, tmp_path, tiny_adata):
        counts = tiny_adata.X
        tiny_adata.X = log_normalised(counts)
        tiny_adata.layers["a"] = counts * 2
        tiny_adata.layers["umi_counts"] = counts
        source = open_files(write(tmp_path, tiny_adata))
        np.testing.assert_array_equal(dense(source.read(RowRange(0, 0, 60))), counts.toarray())
        assert "counts found in layer 'umi_counts' (X is log1p)" in source.describe()[0]

    def test_without_counts_x_is_read_and_said_to_be_no_counts(self, tmp_path, tiny_adata):
        tiny_adata.X = log_normalised(tiny_adata.X)
        tiny_adata.layers["scaled"] = tiny_adata.X.toarray() - 1
        source = open_files(write(tmp_path, tiny_adata))
        assert source.kind(0).kind == "log1p"
        assert "no counts found (X is log1p, layer 'scaled' is scaled), so X is read" in source.describe()[0]

    def test_a_named_layer_is_read_whatever_it_holds(self, tmp_path, tiny_adata):
        tiny_adata.layers["scaled"] = tiny_adata.X.toarray() - 1
        source = open_files(write(tmp_path, tiny_adata), layer="scaled")
        assert source.kind(0).kind == "scaled"
        np.testing.assert_array_equal(dense(source.read(RowRange(0, 5, 7))), tiny_adata.layers["scaled"][5:7])

    def test_a_file_without_x_may_have_counts_in_a_layer(self, tmp_path, tiny_adata):
        adata = ad.AnnData(obs=tiny_adata.obs, var=tiny_adata.var, layers={"counts": tiny_adata.X})
        source = open_files(write(tmp_path, adata))
        assert "counts found in layer 'counts'" in source.describe()[0]


class TestGeneIds:
    def test_a_var_column_may_hold_the_ids(self, tmp_path, tiny_adata):
        tiny_adata.var["symbol"] = [f"GENE{i % 30}" for i in range(40)]
        tiny_adata.var["kind"] = pd.Categorical(["a", None] * 20)
        path = write(tmp_path, tiny_adata)
        assert open_files(path, gene_id_column="symbol").panels[0].gene_ids.tolist() == list(tiny_adata.var["symbol"])
        assert open_files(path, gene_id_column="kind").panels[0].gene_ids.tolist() == ["a", ""] * 20

    def test_numbers_as_names_are_replaced_by_a_column_with_ids(self, tmp_path, tiny_adata):
        ids = list(tiny_adata.var_names)
        tiny_adata.var["feature_id"] = ids
        tiny_adata.var_names = [str(i) for i in range(40)]
        source = open_files(write(tmp_path, tiny_adata))
        assert source.panels[0].gene_ids.tolist() == ids
        assert "gene ids from var column 'feature_id' (var_names are numbers (0, ...))" in source.describe()[0]

    def test_numbers_stay_where_no_column_has_ids(self, tmp_path, tiny_adata):
        tiny_adata.var["gene_id"] = [str(i) for i in range(40)]
        tiny_adata.var_names = [str(i + 100) for i in range(40)]
        assert open_files(write(tmp_path, tiny_adata)).panels[0].gene_ids[:2].tolist() == ["100", "101"]

    def test_numbers_may_be_the_index_itself(self, tiny_h5ad):
        with h5py.File(tiny_h5ad, "r+") as h5:
            del h5["var/_index"]
            h5["var/_index"] = np.arange(40)
        assert open_files(tiny_h5ad).panels[0].gene_ids[:2].tolist() == ["0", "1"]

    def test_good_names_win_over_a_column_with_ids(self, tmp_path, tiny_adata):
        tiny_adata.var["feature_id"] = [f"GENE{i}" for i in range(40)]
        assert open_files(write(tmp_path, tiny_adata)).panels[0].gene_ids.tolist() == list(tiny_adata.var_names)


class TestObs:
    def test_columns_of_every_type_become_codes(self, tmp_path):
        adata = make_adata(4, 3)
        adata.obs = pd.DataFrame(
            {
                "category": pd.Categorical(["b", None, "a", "b"], categories=["unused", "b", "a"]),
                "clusters": pd.Categorical([10, 2, 10, 2]),
                "whole": [3, 1, 3, 2],
                "fraction": [0.5, np.nan, 0.25, 0.5],
                "whole_or_missing": [2.0, np.nan, 1.0, 2.0],
                "flag": [True, False, True, True],
                "nullable": pd.array([7, None, 7, 9], dtype="Int64"),
                "nullable_flag": pd.array([True, None, False, True], dtype="boolean"),
            },
            index=list("wxyz"),
        )
        path = write(tmp_path, adata)
        with h5py.File(path, "r+") as h5:
            h5["obs/text"] = np.array(["u", "v", "u", "w"], dtype=object)
            group = h5["obs"].create_group("nullable_text")
            group.attrs["encoding-type"] = "nullable-string-array"
            group["values"] = np.array(["u", "", "w", "u"], dtype=object)
            group["mask"] = np.array([False, True, False, False])
        source = open_files(path)
        found = {
            name: (codes.tolist(), categories)
            for name in source.obs_columns
            for codes, categories in [source.obs(name)]
        }
        assert found == {
            "category": ([0, -1, 1, 0], ["b", "a"]),
            "clusters": ([1, 0, 1, 0], ["2", "10"]),
            "whole": ([2, 0, 2, 1], ["1", "2", "3"]),
            "fraction": ([1, -1, 0, 1], ["0.25", "0.5"]),
            "whole_or_missing": ([1, -1, 0, 1], ["1", "2"]),
            "flag": ([1, 0, 1, 1], ["False", "True"]),
            "nullable": ([0, -1, 0, 1], ["7", "9"]),
            "nullable_flag": ([1, -1, 0, 1], ["False", "True"]),
            "text": ([0, 1, 0, 2], ["u", "v", "w"]),
            "nullable_text": ([0, -1, 1, 0], ["u", "w"]),
        }
        assert source.obs("whole")[0].dtype == np.int32

    def test_categories_of_all_files_are_merged(self, tmp_path):
        first, second = make_adata(3, 3), make_adata(3, 3, seed=1)
        first.obs["type"] = pd.Categorical(["B", "T", "B"])
        second.obs["type"] = pd.Categorical(["T", "NK", None])
        first.obs["only_first"] = 1
        source = open_files(write(tmp_path, first, "a.h5ad"), write(tmp_path, second, "b.h5ad"))
        codes, categories = source.obs("type")
        assert [categories[code] if code >= 0 else None for code in codes] == ["B", "T", "B", "T", "NK", None]
        assert categories == ["B", "T", "NK"]
        assert source.obs_columns == ["cell_type", "donor_id", "batch", "type"]

    def test_columns_as_older_anndata_wrote_them_are_read(self, tmp_path):
        path = write(tmp_path, make_adata(3, 3))
        with h5py.File(path, "r+") as h5:
            h5["obs/__categories/type"] = np.array(["B", "T"], dtype=object)
            h5["obs/type"] = np.array([1, -1, 0], dtype=np.int8)
            h5["obs/type"].attrs["categories"] = h5["obs/__categories/type"].ref
            for name in ("encoding-type", "shape"):
                value = h5["X"].attrs.pop(name)
                h5["X"].attrs[{"encoding-type": "h5sparse_format", "shape": "h5sparse_shape"}[name]] = (
                    "csr" if name == "encoding-type" else value
                )
        source = open_files(path)
        codes, categories = source.obs("type")
        assert (codes.tolist(), categories) == ([1, -1, 0], ["B", "T"])
        assert "__categories" not in source.obs_columns
        assert len(source.read(RowRange(0, 0, 3))) == 3


class TestFingerprint:
    def test_says_what_the_files_are(self, tmp_path, tiny_h5ad, tiny_adata):
        tiny_adata.X = tiny_adata.X.toarray()
        first, second = open_files(tiny_h5ad, write(tmp_path, tiny_adata, "dense.h5ad")).fingerprint()
        assert first["nnz"] == int(np.count_nonzero(tiny_adata.X))
        assert second["nnz"] is None
        assert (first["name"], first["cells"], first["genes"]) == ("tiny.h5ad", 60, 40)
        assert (first["bytes"], first["sha256_of"]) == (tiny_h5ad.stat().st_size, "content")
        assert first["sha256"] != second["sha256"]

    def test_a_large_file_is_known_by_its_size_ends_and_samples(self, tmp_path):
        path, copy = tmp_path / "a", tmp_path / "b"
        content = bytearray(np.random.default_rng(0).bytes(5000))
        path.write_bytes(content)
        copy.write_bytes(content)
        whole = content_digest(path)
        parts = content_digest(path, whole_up_to=4999, edge=1000)
        assert whole["sha256_of"] == "content"
        assert parts["sha256_of"] == "size, both ends and 64 samples"
        assert parts["sha256"] != whole["sha256"]
        assert content_digest(copy, whole_up_to=4999, edge=1000) == parts
        for changed in (0, 2500, 4999):
            content[changed] ^= 1
            copy.write_bytes(content)
            content[changed] ^= 1
            assert content_digest(copy, whole_up_to=4999, edge=1000)["sha256"] != parts["sha256"]

    def test_files_of_one_name_are_told_apart_by_their_folder(self, tmp_path, tiny_adata):
        (tmp_path / "lung").mkdir()
        (tmp_path / "heart").mkdir()
        paths = [write(tmp_path / folder, tiny_adata, "cells.h5ad") for folder in ("lung", "heart")]
        assert [entry["name"] for entry in open_files(*paths).fingerprint()] == ["lung/cells.h5ad", "heart/cells.h5ad"]
