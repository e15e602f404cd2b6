from __future__ import annotations

import json
import sys
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from scmodelforge._errors import ConfigError, DataError, Interrupted
from scmodelforge.tokenizers.presets import PRESETS, get_preset
from scmodelforge.workflows import tokenize as workflow
from scmodelforge.workflows._compat_cells import CompatCells
from scmodelforge.workflows.dictionaries import fetch_dictionaries
from scmodelforge.workflows.tokenize import tokenize_file
from tests.test_data.zarr_stores import write_store
from tests.test_tokenizers.small_dictionaries import GENES, write_tables

IDS = [*GENES[:4], f"{GENES[4]}.7", "ENSG00000000091", "ENSG00000000099", GENES[5]]
COUNTS = np.array(
    [
        [5, 0, 1, 0, 9, 2, 7, 0],
        [0, 0, 0, 0, 0, 0, 4, 0],  # an unknown gene only
        [1, 2, 3, 4, 0, 0, 0, 5],
        [0, 0, 0, 0, 3, 0, 0, 0],  # an id with a version only
        [2, 2, 0, 0, 0, 0, 1, 1],
    ]
)


def make(counts=COUNTS, *, ids=IDS, **obs) -> ad.AnnData:
    counts = np.asarray(counts)
    frame = pd.DataFrame(
        {"n_counts": counts.sum(axis=1).astype(float), **obs}, index=[f"c{i}" for i in range(len(counts))]
    )
    var = pd.DataFrame({"ensembl_id": ids}, index=[f"g{i}" for i in range(len(ids))])
    return ad.AnnData(X=sp.csr_matrix(counts.astype(np.float32)), obs=frame, var=var)


@pytest.fixture
def dictionaries(tmp_path):
    for version in ("V1", "V2"):
        write_tables(tmp_path / "dictionaries", version)
    return tmp_path / "dictionaries"


@pytest.fixture
def run(tmp_path, dictionaries):
    """Return a function that tokenises cells: rows of the table and closing lines."""

    def tokenised(adata: ad.AnnData, name: str = "cells.h5ad", **settings):
        path, out = tmp_path / name, tmp_path / "tokens.parquet"
        write_store(tmp_path, adata) if name.endswith(".zarr") else adata.write_h5ad(path)
        settings = {"preset": "geneformer-v2", "dictionaries": dictionaries, "force": True, **settings}
        lines = tokenize_file(path, out, **settings)
        return pq.read_table(out).to_pylist(), lines

    return tokenised


def genes_of(row: dict) -> list[int]:
    assert row["length"] == len(row["input_ids"])
    assert (row["input_ids"][0], row["input_ids"][-1]) == (2, 3)
    return [token - 4 for token in row["input_ids"][1:-1]]


class TestRows:
    def test_a_cell_has_a_row_with_its_genes_by_rank(self, run):
        rows, lines = run(make())
        assert [(row["cell_index"], genes_of(row)) for row in rows] == [
            (0, [0, 4, 2]),  # 7 / 0.5 with the retired id, 9 / 1.5, 1 / 1
            (2, [3, 2, 5, 1, 0]),  # 4 / 1.25, 3 / 1, 5 / 1.75, 2 / 0.75, 1 / 0.5
            (3, [4]),
            (4, [0, 1, 5]),
        ]
        assert lines[:2] == [
            "genes: 7 of 8 kept with 76.9% of the counts; 1 lost, no token in geneformer-v2",
            "cells: 4 of 5 kept; 1 lost, without any gene of the vocabulary",
        ]

    def test_the_table_has_the_types_that_are_promised(self, run, tmp_path):
        run(make())
        schema = pq.read_schema(tmp_path / "tokens.parquet")
        assert [(field.name, str(field.type)) for field in schema] == [
            ("cell_index", "int64"),
            ("input_ids", "list<element: int32>"),
            ("length", "int64"),
        ]
        assert schema.metadata[b"preset"] == b"geneformer-v2"
        assert json.loads(schema.metadata[b"tokenizer"])["max_genes"] == 4096

    def test_compat_neither_strips_versions_nor_computes_depths(self, run):
        rows, lines = run(make(), compat=True)
        assert [(row["cell_index"], genes_of(row)) for row in rows] == [
            (0, [0, 2]),
            (2, [3, 2, 5, 1, 0]),
            (4, [0, 1, 5]),
        ]
        assert lines[1] == "cells: 3 of 5 kept; 2 lost, without any gene of the vocabulary"

    @pytest.mark.parametrize("values", [[1, 0, 1, 1, 1], [1.0, np.nan, 1.0, 1.0, 1.0], [True, False, True, True, True]])
    def test_compat_drops_cells_by_filter_pass(self, run, values):
        rows, lines = run(make(COUNTS[[0, 2, 2, 4, 4]], filter_pass=values), compat=True)
        assert [row["cell_index"] for row in rows] == [0, 2, 3, 4]
        assert (
            lines[1] == "cells: 4 of 5 kept; 1 lost, filter_pass is not 1; 0 lost, without any gene of the vocabulary"
        )
        assert len(run(make(COUNTS[[0, 2, 2, 4, 4]], filter_pass=values))[0]) == 5

    def test_obs_columns_are_written_along(self, run):
        obs = {
            "tissue": pd.Categorical(["a", "b", None, "a", "b"]),
            "age": [1, 2, 3, 4, 5],
            "score": [0.5, np.nan, 1.5, 2.5, np.nan],
            "note": ["u", "v", "w", "x", "y"],
        }
        rows, _ = run(make(**obs), obs=["tissue", "age", "score", "note", "age"])
        assert [row["tissue"] for row in rows] == ["a", None, "a", "b"]
        assert [row["age"] for row in rows] == [1, 3, 4, 5]
        assert [row["score"] for row in rows] == [0.5, 1.5, 2.5, None]
        assert [row["note"] for row in rows] == ["u", "w", "x", "y"]
        assert list(rows[0]) == ["cell_index", "input_ids", "length", "tissue", "age", "score", "note"]

    @pytest.mark.parametrize("compat", [False, True])
    def test_it_does_not_matter_how_cells_are_stored_or_read(self, run, compat, monkeypatch):
        counts = np.random.default_rng(0).poisson(1.5, (30, 8))
        plain, _ = run(make(counts), compat=compat)
        dense = make(counts)
        dense.X = dense.X.toarray().astype(np.float64)
        assert run(dense, compat=compat)[0] == plain
        assert run(make(counts), "cells.zarr", compat=compat)[0] == plain
        whole = make(counts)
        whole.X = whole.X.astype(np.int64)
        assert run(whole, compat=compat)[0] == plain
        wide = make(counts)
        wide.X = wide.X.astype(np.float64)
        monkeypatch.setattr(workflow, "_CELLS_AT_ONCE", 7)
        assert run(wide, compat=compat)[0] == plain

    def test_stored_zeros_are_ranked_with_compat_only(self, run):
        cells = make(COUNTS[[2, 4]])
        cells.X = sp.csr_matrix((np.array([3, 0, 1], np.float32), [0, 2, 1], [0, 2, 3]), shape=(2, 8))
        assert genes_of(run(cells, compat=True)[0][0]) == [0, 2]
        assert genes_of(run(cells)[0][0]) == [0]

    def test_doubles_are_compared_as_doubles_with_compat(self, run):
        cells = make(COUNTS[[2]])
        cells.X = np.array([[0, 0.75 * (1 + 1e-12), 1.0, 0, 0, 0, 0, 0]])
        assert genes_of(run(cells, compat=True)[0][0]) == [1, 2]
        cells.X = np.array([[0, 0.75 * (1 - 1e-12), 1.0, 0, 0, 0, 0, 0]])
        assert genes_of(run(cells, compat=True)[0][0]) == [2, 1]

    def test_ties_may_go_by_column(self, run):
        cells = make([[2, 1, 4]], ids=[GENES[2], GENES[0], GENES[6]])  # 2 / 1, 1 / 0.5, 4 / 2
        for compat in (False, True):
            assert genes_of(run(cells, compat=compat)[0][0]) == [0, 2, 6]
            assert genes_of(run(cells, compat=compat, ties="stable")[0][0]) == [2, 0, 6]

    def test_genes_without_room_are_counted(self, run, monkeypatch):
        small = get_preset("geneformer-v2")
        short = replace(small, name="short", make=lambda f, c: small.make(f, {**c, "max_genes": 4}))
        monkeypatch.setitem(PRESETS, "short", short)
        rows, lines = run(make(), preset="short")
        assert max(row["length"] for row in rows) == 4
        assert "cut: 5 genes, of 3 cells with more than there is room for" in lines

    def test_the_first_version_has_neither_cls_nor_eos(self, run):
        rows, _ = run(make(), preset="geneformer-v1", compat=True)
        assert [(row["cell_index"], row["input_ids"]) for row in rows][-1] == (4, [2, 3, 7])


class TestWarnings:
    def test_what_compat_makes_of_odd_values_is_said(self, run, caplog):
        cells = make(COUNTS[[0, 2]])
        cells.X = cells.X.log1p()
        cells.obs["n_counts"] = [0.0, 4.0]
        with caplog.at_level("WARNING"):
            run(cells, compat=True)
        assert "values look log1p" in caplog.text
        assert "n_counts is 0 or missing in 1 cells: the order of their genes means nothing" in caplog.text
        caplog.clear()
        cells.X = cells.X.toarray()
        with caplog.at_level("WARNING"):
            rows, _ = run(cells, compat=True)
        assert "n_counts is 0 or missing in 1 cells: they get every gene" in caplog.text
        assert sorted(genes_of(rows[0])) == [0, 1, 2, 3, 5]

    def test_names_of_one_gene_are_said_to_be_summed(self, run, caplog):
        with caplog.at_level("WARNING"):
            run(make())
        assert "1 columns are genes that others are too; they are summed" in caplog.text


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "settings", "error", "words"),
        [
            ({}, {"preset": "geneformer-v3"}, ConfigError, r"unknown preset 'geneformer-v3'\. Did you mean"),
            (
                {},
                {"obs": ["tisue"]},
                DataError,
                r"cells\.h5ad: obs has no column 'tisue' \(--obs\)\. There are: n_c",
            ),
            (
                {},
                {"obs": ["length"]},
                ConfigError,
                "--obs length: the output has a column of this name of its own;",
            ),
            ({}, {"gene_id_column": "id"}, DataError, "has no column 'id'"),
            ({}, {"layer": "counts"}, DataError, "has no layer 'counts'"),
            (
                {"ids": [f"a{i}" for i in range(8)]},
                {},
                DataError,
                "None of the 8 genes of cells.h5ad has a token in geneformer-v2. Its ids look like gene sym",
            ),
            (
                {"ids": [f"{gene}.1" for gene in GENES[:8]]},
                {"compat": True},
                DataError,
                r"cells\.h5ad: none of its 8 gene ids \(ENSG00000000001\.1, \.\.\.\) is found as the official code",
            ),
            (
                {"n_counts": ["a"] * 5},
                {"compat": True},
                DataError,
                "obs: column 'n_counts' does not hold numbers; the counts of each cell are needed",
            ),
            (
                {"filter_pass": ["1"] * 5},
                {"compat": True},
                DataError,
                r"none of its 5 cells is left: 5 lost, filter_pass is not 1; 0 lost, without any gene of the voc",
            ),
        ],
    )
    def test_in_one_line_and_nothing_is_written(self, run, tmp_path, change, settings, error, words):
        with pytest.raises(error, match=words) as refused:
            run(make(**change), **settings)
        assert "\n" not in str(refused.value)
        assert not [path for path in tmp_path.iterdir() if "tokens" in path.name]

    def test_compat_without_depths(self, run):
        cells = make()
        del cells.obs["n_counts"]
        assert len(run(cells)[0]) == 4
        with pytest.raises(DataError, match="obs has no column 'n_counts', which the official code divides by; add it"):
            run(cells, compat=True)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (-1.0, r"cell 'c2' \(row 2\) has a negative value"),
            (np.nan, "has NaN for gene"),
            (0.5, "not a whole number"),
        ],
    )
    def test_values_that_are_no_counts(self, run, value, words):
        cells = make()
        cells.X[2, 1] = value
        with pytest.raises(DataError, match=words):
            run(cells)

    def test_outputs_are_not_overwritten(self, run, tmp_path, dictionaries):
        run(make())
        before = (tmp_path / "tokens.parquet").read_bytes()
        with pytest.raises(DataError, match="exists; choose another name, or replace it with --force"):
            run(make(), force=False)
        with pytest.raises(DataError, match="none of its 5 cells is left"):
            run(make(filter_pass=[0] * 5), compat=True)
        assert (tmp_path / "tokens.parquet").read_bytes() == before

    def test_compat_where_there_is_nothing_to_be_compatible_with(self, run, monkeypatch):
        small = get_preset("geneformer-v2")
        monkeypatch.setitem(PRESETS, "own", replace(small, name="own", compat=None))
        with pytest.raises(ConfigError, match="--compat: preset 'own' is what its official code does; leave"):
            run(make(), preset="own", compat=True)

    def test_what_writes_the_table_is_optional(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ImportError, match=r"Writing tokens needs the package 'pyarrow'.*'scmodelforge\[parquet\]'"):
            run(make())

    def test_an_interrupted_call_leaves_nothing(self, run, tmp_path, monkeypatch):
        def stop(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(CompatCells, "tokens", stop)
        with pytest.raises(Interrupted, match="stopped after 0 of 5 cells; nothing was written"):
            run(make(), compat=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "dictionaries"]


def test_genes_that_are_hardly_those_of_the_representation_are_told(run, caplog):
    ids = [GENES[0], *(f"ENSG000000009{i:02d}" for i in range(9))]
    run(make([[1] * 10], ids=ids))
    assert "10.0% of the genes of cells.h5ad have a token in geneformer-v2; check that they are of its" in caplog.text


class TestScgpt:
    """The published vocabulary: symbols first, special tokens last."""

    SYMBOLS = ("A1BG", "CD4", "CD8A", "MS4A1", "RP11-34P13.7")

    @pytest.fixture
    def folder(self, tmp_path):
        tokens = {name: number for number, name in enumerate([*self.SYMBOLS, "<pad>", "<cls>", "<eoc>"])}
        (tmp_path / "scgpt").mkdir()
        (tmp_path / "scgpt" / "vocab.json").write_text(json.dumps(dict(reversed(tokens.items()))))
        return tmp_path / "scgpt"

    @staticmethod
    def cells(names, **var) -> ad.AnnData:
        adata = ad.AnnData(sp.csr_matrix(np.array([[4, 0, 2, 1], [0, 0, 0, 0], [0, 7, 0, 7]], dtype=np.float32)))
        adata.var_names = names
        for name, values in var.items():
            adata.var[name] = values
        return adata

    def test_a_row_has_ids_and_bins_with_cls_first(self, run, folder):
        rows, lines = run(self.cells(["MS4A1", "A1BG", "CD8A", "nothing"]), preset="scgpt", dictionaries=folder)
        # quantiles of 4 and 2: 2 is at the edge of bin 1 alone, 4 at the last edge, that of bin 50
        assert rows == [
            {"cell_index": 0, "input_ids": [6, 2, 3], "length": 3, "values": [-2.0, 1.0, 50.0]},
            {"cell_index": 2, "input_ids": [6, 0], "length": 2, "values": [-2.0, rows[1]["values"][1]]},
        ]
        assert 1 <= rows[1]["values"][1] <= 50  # a single value equals all edges: any bin
        assert lines[0].startswith("genes: 3 of 4 kept")

    def test_ids_are_symbols_of_a_column_or_found_by_ensembl_id(self, run, folder):
        ensembl = ["ENSG00000156738", "ENSG00000121410", "ENSG00000153563", "ENSG00000000000"]
        for adata in (
            self.cells(ensembl),
            self.cells(ensembl, feature_name=["MS4A1", "A1BG", "CD8A", "nothing"]),
            self.cells(list("abcd"), feature_name=["MS4A1", "A1BG", "CD8A", "nothing"]),
        ):
            rows, _ = run(adata, preset="scgpt", dictionaries=folder)
            assert [row["input_ids"] for row in rows] == [[6, 2, 3], [6, 0]]

    def test_genes_of_another_species_are_told(self, run, folder, caplog):
        run(self.cells(["Ms4a1", "A1bg", "Cd8a", "nothing"]), preset="scgpt", dictionaries=folder)
        assert "75.0% of the genes of cells.h5ad have a token in scgpt, 3 of these only when letter case" in caplog.text

    def test_values_below_0_are_refused(self, run, folder):
        adata = self.cells(["MS4A1", "A1BG", "CD8A", "nothing"])
        adata.X = adata.X - 1.0 * (adata.X == 7)
        adata.X.data[0] = -2
        with pytest.raises(
            DataError, match=r"a negative value \(-2\) for gene MS4A1; values of 0 and above are needed"
        ):
            run(adata, preset="scgpt", dictionaries=folder)

    def test_ties_are_those_of_bins(self, run, folder):
        adata = self.cells(["MS4A1", "A1BG", "CD8A", "nothing"])
        for ties, number in (("lower", 1), ("upper", 50)):
            rows, _ = run(adata, preset="scgpt", dictionaries=folder, ties=ties)
            assert rows[1]["values"] == [-2.0, number]
        with pytest.raises(ConfigError, match=r"--ties stable: preset 'scgpt' has random, mid, lower, upper\."):
            run(adata, preset="scgpt", dictionaries=folder, ties="stable")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, r"scgpt has no vocab\.json; name the folder of a published scGPT model"),
            ("[1]", r"vocab\.json: holds list, needs a JSON object; a mapping from gene to"),
            ("{", r"vocab\.json: not readable as JSON"),
            ('{"CD4": 0, "<pad>": 2}', r"vocab\.json: "),
        ],
    )
    def test_another_file_is_refused(self, run, folder, content, words):
        if content is None:
            (folder / "vocab.json").unlink()
        else:
            (folder / "vocab.json").write_text(content)
        with pytest.raises(DataError, match=words):
            run(self.cells(["MS4A1", "A1BG", "CD8A", "nothing"]), preset="scgpt", dictionaries=folder)

    def test_is_fetched_from_a_folder_and_not_from_the_hub(self, run, folder, tmp_path, monkeypatch):
        monkeypatch.setenv("SCMODELFORGE_CACHE", str(tmp_path / "cache"))
        with pytest.raises(DataError, match="scgpt is not on the hub in a form that could be checked; download"):
            fetch_dictionaries("scgpt", "hub")
        assert fetch_dictionaries("scgpt", str(folder))[0].startswith("scgpt: 8 tokens in ")
        rows, _ = run(self.cells(["MS4A1", "A1BG", "CD8A", "nothing"]), preset="scgpt", dictionaries=None)
        assert len(rows) == 2
