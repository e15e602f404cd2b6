from __future__ import annotations

import logging
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodelforge.connectome import read_expression, read_regions
from tests.test_connectome.brains import arguments, brain

NAMES = [f"area{row}" for row in range(12)]


def given(**changes) -> dict:
    return {**arguments(), **changes}


def write_npz(folder, *, drop=(), **changes):
    parts = given(**changes)
    arrays = {
        "expression": parts["X"],
        "fc": parts["Y"],
        "coords": parts["coords"],
        "genes": np.array(parts["valid_genes"]),
        "regions": np.array(NAMES),
        "network": np.array(parts["networks"]),
        **{name: value for name, value in changes.items() if name not in arguments()},
    }
    path = folder / "atlas.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if name not in drop})
    return path


def write_h5ad(folder, *, sparse=False, suffix=".h5ad", **changes):
    parts = given(**changes)
    adata = ad.AnnData(
        sp.csr_matrix(parts["X"]) if sparse else parts["X"],
        obs=pd.DataFrame({"network": parts["networks"]}, index=NAMES),
        var=pd.DataFrame(index=parts["valid_genes"]),
        obsm={"coords": parts["coords"]},
        obsp={"fc": sp.csr_matrix(parts["Y"]) if sparse else parts["Y"]},
    )
    path = folder / f"atlas{suffix}"
    adata.write_zarr(path) if suffix == ".zarr" else adata.write_h5ad(path)
    return path


def write_csv(folder, *, order=slice(None), names=True, suffix=".csv", **changes):
    parts = given(**changes)
    sep = "\t" if suffix == ".tsv" else ","
    paths = [folder / f"{name}{suffix}" for name in ("genes", "fc", "places")]
    pd.DataFrame(parts["X"], index=NAMES, columns=parts["valid_genes"]).to_csv(paths[0], sep=sep)
    connectivity = pd.DataFrame(parts["Y"], index=NAMES, columns=NAMES).iloc[order, order]
    connectivity.to_csv(paths[1], sep=sep, index=names, header=names)
    places = pd.DataFrame(parts["coords"], index=NAMES, columns=["X", "y", "z"])
    places.assign(network=parts["networks"]).iloc[order].to_csv(paths[2], sep=sep)
    return paths


class TestReading:
    def check(self, table):
        expected = brain(regions=NAMES)
        data = table.pairs()
        for name in ("X", "Y", "coords"):
            np.testing.assert_allclose(getattr(data, name), getattr(expected, name), rtol=1e-6)
        assert data.valid_genes == expected.valid_genes
        assert data.region_names == NAMES
        assert data.networks.tolist() == expected.networks.tolist()

    def test_npz(self, tmp_path):
        self.check(read_regions(write_npz(tmp_path)))

    @pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.filterwarnings("ignore:.*zarr v2.*")
    def test_anndata(self, tmp_path, suffix, sparse):
        self.check(read_regions(write_h5ad(tmp_path, sparse=sparse, suffix=suffix), "fc"))

    @pytest.mark.parametrize("suffix", [".csv", ".tsv"])
    def test_tables(self, tmp_path, suffix):
        genes, target, places = write_csv(tmp_path, suffix=suffix)
        self.check(read_regions(genes, target, coords=places))

    def test_tables_in_another_order(self, tmp_path):
        genes, target, places = write_csv(tmp_path, order=[*range(11, -1, -1)])
        self.check(read_regions(genes, target, coords=places))

    def test_a_matrix_without_names_is_in_the_order_of_the_expression(self, tmp_path, caplog):
        genes, target, _ = write_csv(tmp_path, names=False)
        _, _, places = write_csv(tmp_path / ".", names=True)
        write_csv(tmp_path, names=False)
        with caplog.at_level(logging.INFO):
            self.check(read_regions(genes, target, coords=places))
        (said,) = (each for each in caplog.messages if "no names" in each)
        assert said == f"{target} has no names of regions: its rows and columns are taken in the order of {genes}"

    def test_one_of_two_matrices(self, tmp_path):
        path = write_npz(tmp_path, sc=np.ones((12, 12)))
        assert read_regions(path, "sc").Y.tolist() == np.ones((12, 12)).tolist()

    def test_a_directed_matrix_if_it_is_said(self, tmp_path):
        path = write_npz(tmp_path, Y=arguments(directed=True)["Y"])
        assert read_regions(path, directed=True).pairs().is_directed

    def test_regions_that_others_have_are_left_out_and_named(self, tmp_path, caplog):
        genes, target, places = write_csv(tmp_path)
        pd.read_csv(genes, index_col=0).iloc[:10].to_csv(genes)
        with caplog.at_level(logging.WARNING):
            assert len(read_regions(genes, target, coords=places).X) == 10
        assert "2 regions are not in" in caplog.text
        assert "area10" in caplog.text


def with_nan(name: str, row: int) -> dict:
    table = arguments()[name].copy()
    table[row] = np.nan
    if name == "Y":
        table[:, row] = np.nan
    return {name: table}


class TestMissingRegions:
    @pytest.mark.parametrize("name", ["X", "Y", "coords"])
    def test_are_refused(self, tmp_path, name):
        with pytest.raises(ValueError, match=r"atlas.npz: 1 of 12 regions have missing .*'area4'.*missing='drop'"):
            read_regions(write_npz(tmp_path, **with_nan(name, 4)))

    @pytest.mark.parametrize("name", ["X", "Y", "coords"])
    def test_are_left_out_where_that_is_asked_for(self, tmp_path, name, caplog):
        with caplog.at_level(logging.WARNING):
            table = read_regions(write_npz(tmp_path, **with_nan(name, 4)), missing="drop")
        assert "left out 1 regions with missing values: area4" in caplog.text
        assert list(table.regions) == [name for name in NAMES if name != "area4"]
        assert table.valid2true_mapping == dict(enumerate([0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]))
        assert table.pairs().num_regions == 11

    def test_of_single_pairs_are_as_few_as_can_be(self, tmp_path):
        y = arguments()["Y"].copy()
        for other in (0, 3, 9):
            y[other, 5] = y[5, other] = np.nan
        table = read_regions(write_npz(tmp_path, Y=y), missing="drop")
        assert list(table.regions) == [name for name in NAMES if name != "area5"]

    @pytest.mark.parametrize(
        ("name", "file", "where"),
        [
            ("X", "genes.csv", "nan in row 'area4', column 'G0' of expression"),
            ("Y", "fc.csv", "nan in row 'area4', column 'area0' of connectivity"),
            ("coords", "places.csv", "nan in row 'area4', column 'x' of coordinates"),
        ],
    )
    def test_the_file_that_has_the_fault_is_named(self, tmp_path, name, file, where):
        genes, target, places = write_csv(tmp_path, **with_nan(name, 4))
        words = re.escape(f"{file}: 1 of 12 regions have missing or infinite values (first: {where}): 'area4'.")
        refused(words, genes, target, coords=places)

    def test_of_one_pair_the_pair_is_named(self, tmp_path):
        y = arguments()["Y"].copy()
        y[7, 2] = np.inf
        refused("first: inf in row 'area7', column 'area2' of connectivity 'fc'", write_npz(tmp_path, Y=y))

    def test_of_several_files_all_are_named(self, tmp_path):
        genes, target, places = write_csv(tmp_path, **with_nan("X", 1), **with_nan("coords", 2), **with_nan("Y", 3))
        refused(
            "genes.csv: 1 of .*'area1'.* More are missing in .*places.csv and .*fc.csv", genes, target, coords=places
        )

    def test_must_leave_two(self, tmp_path):
        x = arguments()["X"].copy()
        x[1:] = np.nan
        with pytest.raises(ValueError, match="11 of the 12 regions have missing values"):
            read_regions(write_npz(tmp_path, X=x), missing="drop")


def refused(words: str, *args, **options) -> None:
    with pytest.raises(ValueError, match=words) as fault:
        read_regions(*args, **options)
    assert "\n" not in str(fault.value)


class TestFaults:
    def test_of_arguments(self, tmp_path):
        refused("no file '.*lung.npz'", tmp_path / "lung.npz")
        refused("missing is 'ignore'", tmp_path, missing="ignore")
        (tmp_path / "atlas.mat").touch()
        refused("'atlas.mat' is not read; .* npz, h5ad", tmp_path / "atlas.mat")

    def test_of_npz(self, tmp_path):
        refused("has no array 'expression' but coords, fc", write_npz(tmp_path, drop=["expression"]))
        refused("has no array 'sc'. Matrices of regions x regions in it: fc", write_npz(tmp_path), "sc")
        refused("connectivity is array fc, sc; target must name one", write_npz(tmp_path, sc=np.ones((12, 12))))
        refused("connectivity is array none", write_npz(tmp_path, drop=["fc"]))
        refused(r"atlas.npz: connectivity has the shape \(12, 3\)", write_npz(tmp_path), "coords")
        refused("has no coordinates 'mni' but coords, expression", write_npz(tmp_path), coords="mni")
        refused("genes has 2 names", write_npz(tmp_path, valid_genes=["a", "b"]))
        refused("has no array 'fc.csv'. A file of its own is read only if expr", write_npz(tmp_path), "fc.csv")
        refused("has no coordinates 'mni.csv' .* A file of its own is read", write_npz(tmp_path), coords="mni.csv")
        (tmp_path / "atlas.npz").write_bytes(b"PK of nothing")
        refused("not readable as npz", tmp_path / "atlas.npz")

    def test_of_npz_with_objects(self, tmp_path):
        np.savez(tmp_path / "atlas.npz", expression=np.array([{}]))
        refused("not readable as npz of plain arrays", tmp_path / "atlas.npz")

    def test_of_anndata(self, tmp_path):
        path = write_h5ad(tmp_path)
        refused("has no entry of obsp 'cf'. Did you mean 'fc'|has no entry of obsp 'cf'", path, "cf")
        refused("has no coordinates 'mni' but coords", path, coords="mni")
        path.write_bytes(b"no file")
        refused("atlas.h5ad: not readable as AnnData", path)

    def test_of_tables(self, tmp_path):
        genes, target, places = write_csv(tmp_path)
        refused("target must be the file of connectivity", genes)
        refused("no file '.*sc.csv'", genes, tmp_path / "sc.csv")
        refused("places.csv: has the columns .*; x, y and z are needed", genes, target, coords=write_axes(places))

    def test_of_tables_that_lack_regions(self, tmp_path):
        genes, target, _ = write_csv(tmp_path)
        pd.read_csv(target, index_col=0).iloc[:-1].to_csv(target)
        refused("fc.csv: lacks 1 of the 12 regions of .*genes.csv: area11", genes, target)

    def test_of_tables_of_which_no_name_matches(self, tmp_path):
        genes, target, _ = write_csv(tmp_path)
        pd.read_csv(target, index_col=0).rename(str.upper).to_csv(target)
        words = "named 'AREA0', 'AREA1', and none is in .*genes.csv, whose rows are named 'area0', 'area1'"
        refused(words, genes, target)

    @pytest.mark.parametrize("names", [True, False])
    def test_of_a_table_with_genes_as_rows(self, tmp_path, names):
        genes, target, places = write_csv(tmp_path, names=names)
        pd.read_csv(genes, index_col=0).T.to_csv(genes)
        refused("genes.csv: it has genes as rows.*transpose|Is that table transposed", genes, target)
        if names:
            refused("genes.csv: it has genes as rows.*transpose", genes, target, coords=places)

    def test_of_arrays_with_genes_as_rows(self, tmp_path):
        turned = arguments()["X"].T
        words = r"atlas.npz: expression is 5 x 12 and 'fc' is 12 x 12: it has genes as rows.*transpose it"
        refused(words, write_npz(tmp_path, X=turned), "fc")
        refused(words, write_npz(tmp_path, X=turned))
        with pytest.raises(ValueError, match="there are 5 genes: it has genes as rows"):
            read_expression(write_npz(tmp_path, X=turned, drop=["fc"]))

    def test_not_of_arrays_with_a_square_of_genes_beside(self, tmp_path):
        path = write_npz(tmp_path, drop=["fc"], gene_corr=np.eye(5))
        assert read_expression(path).genes == arguments()["valid_genes"]

    def test_of_tables_without_names(self, tmp_path):
        genes, target, places = write_csv(tmp_path)
        np.savetxt(places, arguments()["coords"], delimiter=",")
        refused("places.csv: the first line is numbers", genes, target, coords=places)
        np.savetxt(genes, arguments()["X"], delimiter=",")
        refused("genes.csv: the first line is numbers", genes, target)

    def test_of_tables_that_are_no_text(self, tmp_path):
        genes, _, _ = write_csv(tmp_path)
        refused("atlas.npz: not readable as text; a CSV or TSV table is needed", genes, write_npz(tmp_path))

    def test_of_tables_named_like_arrays(self, tmp_path):
        genes, _, _ = write_csv(tmp_path)
        refused(
            "must be the path of another table, as target='FILE.csv'. Did you mean '.*fc.csv'", genes, tmp_path / "fc"
        )

    def test_of_a_matrix_of_another_size(self, tmp_path):
        genes, target, _ = write_csv(tmp_path)
        np.savetxt(target, np.ones((11, 11)), delimiter=",")
        refused("a matrix of 11 x 11 without names of regions, and .* has 12 regions", genes, target)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("region,A,A\nr1,1,2\n", "'A' is the name of two columns"),
            ("region,A,B\nr1,1,2\nr1,1,2\n", "'r1' is the name of two rows"),
            ("region,A,B\nr1,1,high\nr2,1,2\n", "row 'r1', column 'B' holds 'high'"),
            ("", "not readable as a table"),
            ("region\nr1\n", "a table of 1 rows and 0 columns"),
        ],
    )
    def test_of_a_table(self, tmp_path, text, words):
        path = tmp_path / "genes.csv"
        path.write_text(text)
        _, target, _ = write_csv(tmp_path / ".")
        path.write_text(text)
        refused(words, path, target)

    def test_of_a_matrix_with_a_direction(self, tmp_path):
        y = arguments()["Y"].copy()
        y[2, 7] += 3
        refused("is not symmetric: .* from 'area2' to 'area7' and .* directed=True", write_npz(tmp_path, Y=y))


def write_axes(path):
    pd.read_csv(path, index_col=0).rename(columns={"z": "height"}).to_csv(path)
    return path
