"""One pass over all cells: what it refuses, counts and shows."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.data.scan import scan
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab
from tests.conftest import make_adata

from .h5ad_files import log_normalised, open_files, write
from .sources import MemorySource

GENES = [f"ENSG{i:011d}" for i in range(1, 41)]


class Recorder:
    """A visitor that keeps what it was shown."""

    def __init__(self) -> None:
        self.blocks: list[CellBlock] = []

    def update(self, block: CellBlock) -> None:
        self.blocks.append(block)


def vocab_of(genes: list[str]) -> GeneVocab:
    return GeneVocab.from_genes(genes, name="mine")


def source_of(tmp_path, matrix, **settings):
    matrix = np.asarray(matrix, dtype=np.float32)
    adata = ad.AnnData(X=sp.csr_matrix(matrix))
    adata.var_names = GENES[: matrix.shape[1]]
    adata.obs_names = [f"AAAC-{i}" for i in range(len(matrix))]
    return open_files(write(tmp_path, adata, "lung.h5ad"), **settings)


def with_value(value: float, *, row: int = 3, column: int = 2) -> np.ndarray:
    """Return whole counts with one other value."""
    matrix = np.ones((9, 5), dtype=np.float32)
    matrix[1] = 0
    matrix[row, column] = value
    return matrix


class TestRefuses:
    @pytest.mark.parametrize("block_size", [1, 4, 1024])
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.nan, "has NaN for gene {gene}; finite numbers are needed; correct the matrix"),
            (np.inf, "has an infinite value for gene {gene}; finite numbers are needed"),
            (-np.inf, "has an infinite value for gene {gene}; finite numbers are needed"),
            (-0.5, r"has a negative value \(-0.5\) for gene {gene}; counts are needed, and the values look scaled"),
            (1.25, "has 1.25, not a whole number, for gene {gene}; counts are needed, and the values look log1p"),
        ],
    )
    def test_wrong_values_with_their_cell_and_gene(self, tmp_path, value, message, block_size):
        source = source_of(tmp_path, with_value(value, row=7), layer="X")
        start = rf"^lung.h5ad: cell 'AAAC-7' \(row 7\) {message.format(gene=GENES[2])}"
        with pytest.raises(DataError, match=start):
            scan(source, vocab_of(GENES), expects="counts", block_size=block_size)

    @pytest.mark.parametrize("column", [0, 4])
    def test_the_first_and_the_last_value_of_a_cell(self, tmp_path, column):
        source = source_of(tmp_path, with_value(-1, row=2, column=column), layer="X")  # row 1 has no values
        with pytest.raises(
            DataError, match=rf"cell 'AAAC-2' \(row 2\) has a negative value \(-1\) for gene {GENES[column]}"
        ):
            scan(source, vocab_of(GENES), expects="counts")

    def test_rows_are_counted_in_the_file_and_cells_named_by_it(self, tmp_path):
        first = write(tmp_path, make_adata(6, 5), "a.h5ad")
        source_of(tmp_path, with_value(-1, row=4))
        source = open_files(first, tmp_path / "lung.h5ad", layer="X")
        with pytest.raises(DataError, match=r"lung.h5ad: cell 'AAAC-4' \(row 4\) has a negative value"):
            scan(source, vocab_of(GENES), expects="counts")

    def test_normalised_values_say_what_they_look_like_and_which_setting_mends_it(self, tmp_path, tiny_adata):
        tiny_adata.X = log_normalised(tiny_adata.X)
        source = open_files(write(tmp_path, tiny_adata))
        with pytest.raises(DataError) as caught:
            scan(source, vocab_of(GENES), expects="counts")
        assert "without the logarithm every cell sums to 10,000" in str(caught.value)
        assert str(caught.value).endswith(
            "Name the matrix that holds counts in data.layer; preprocessing normalises them."
        )

    def test_wrong_values_of_unknown_genes_too(self, tmp_path):
        source = source_of(tmp_path, with_value(np.nan), layer="X")
        with pytest.raises(DataError, match="has NaN"):
            scan(source, vocab_of(GENES[:1]), expects="counts")

    def test_values_that_become_infinite_as_float32(self, tmp_path):
        adata = ad.AnnData(X=np.array([[1e300, 1.0]]))
        source = open_files(write(tmp_path, adata))
        with pytest.raises(DataError, match="has an infinite value"):
            scan(source, vocab_of(["0", "1"]), expects="any")

    def test_a_file_without_cells(self):
        with pytest.raises(DataError, match="file1 has no cells; leave it out of the data"):
            scan(MemorySource([3, 0]), vocab_of([f"gene{i}" for i in range(12)]), expects="counts")

    def test_cells_that_are_all_empty(self, tmp_path):
        source = source_of(tmp_path, [[0, 1], [0, 2]])
        with pytest.raises(DataError, match=r"all 2 cells are empty: .* gene_vocab 'mine' \(1 genes of the files"):
            scan(source, vocab_of(GENES[:1]), expects="counts")


class TestAccepts:
    @pytest.mark.parametrize("value", [0.5, 1.25, 1e6])
    def test_any_finite_number_from_0_on_where_counts_are_not_needed(self, tmp_path, value):
        source = source_of(tmp_path, with_value(value), layer="X")
        assert scan(source, vocab_of(GENES), expects="any").num_cells == 9

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (np.nan, "finite numbers are needed"),
            (np.inf, "finite numbers are needed"),
            (-0.5, r"negative value \(-0\.5\) .*; values of 0 and above are needed, and the values look scaled"),
        ],
    )
    def test_but_no_others(self, tmp_path, value, words):
        source = source_of(tmp_path, with_value(value), layer="X")
        with pytest.raises(DataError, match=words):
            scan(source, vocab_of(GENES), expects="any")

    def test_a_single_cell(self, tmp_path):
        report = scan(source_of(tmp_path, [[0, 3, 1]]), vocab_of(GENES), expects="counts")
        assert (report.num_cells, report.empty.tolist(), report.values_checked) == (1, [], 2)


class TestReport:
    @given(st.integers(0, 2**32 - 1), st.integers(1, 12))
    def test_empty_cells_are_those_without_a_positive_value_in_a_known_gene(self, seed, block_size):
        source = MemorySource([7, 11, 1], seed=seed)
        vocab = vocab_of(["gene1", "gene4", "gene9"])
        expected = []
        for file, counts in enumerate(source._counts):
            known = np.isin(source.panels[file].gene_ids.astype(str), vocab.genes)
            expected += (counts[:, known].sum(axis=1) == 0).tolist()
        assume(not all(expected))
        report = scan(source, vocab, expects="counts", block_size=block_size)
        assert report.empty.tolist() == np.flatnonzero(expected).tolist()
        assert report.empty.dtype == np.int64
        assert report.num_cells == 19
        assert report.known_genes == [2, 2, 1]
        assert report.values_checked == sum(np.count_nonzero(counts) for counts in source._counts)

    def test_stored_zeros_do_not_fill_a_cell(self):
        source = MemorySource([3])
        panel = Panel(np.array(["a", "b"], dtype=object), "file0")
        block = CellBlock(np.array([0, 3, 2], np.float32), np.array([0, 1, 0]), np.arange(4), panel, np.arange(3))
        source.panels, source.read = [panel], lambda rows: block
        assert scan(source, vocab_of(["a"]), expects="any").empty.tolist() == [0, 1]

    def test_many_empty_cells_of_a_file_are_worth_a_warning(self, tmp_path):
        few = np.ones((10, 2))
        few[:1, 0] = 0
        assert scan(source_of(tmp_path, few), vocab_of(GENES[:1]), expects="counts").warnings == []
        few[:2, 0] = 0
        (warning,) = scan(source_of(tmp_path, few), vocab_of(GENES[:1]), expects="counts").warnings
        assert warning.startswith("lung.h5ad: 2 of 10 cells express none of its 1 genes that are in gene_vocab 'mine'")


class TestVisitors:
    def test_see_every_cell_once_in_order_in_blocks_of_the_size_asked_for(self):
        source, visitors = MemorySource([7, 5]), [Recorder(), Recorder()]
        scan(source, vocab_of([f"gene{i}" for i in range(12)]), expects="counts", block_size=3, visitors=visitors)
        for visitor in visitors:
            assert [len(block) for block in visitor.blocks] == [3, 3, 1, 3, 2]
            assert np.concatenate([block.positions for block in visitor.blocks]).tolist() == list(range(12))
        assert [(r.file, r.start, r.stop) for r in source.reads] == [
            (0, 0, 3), (0, 3, 6), (0, 6, 7), (1, 0, 3), (1, 3, 5),
        ]  # fmt: skip

    def test_never_see_a_block_with_a_wrong_value(self, tmp_path):
        source, visitor = source_of(tmp_path, with_value(-1, row=5), layer="X"), Recorder()
        with pytest.raises(DataError, match="negative"):
            scan(source, vocab_of(GENES), expects="counts", block_size=4, visitors=[visitor])
        assert [block.positions.tolist() for block in visitor.blocks] == [[0, 1, 2, 3]]


def test_a_scan_says_nothing_itself(tmp_path, caplog):
    source = source_of(tmp_path, np.ones((2, 2)))
    with caplog.at_level(logging.DEBUG, logger="scmodelforge.data.scan"):
        scan(source, vocab_of(GENES), expects="counts")
    assert not caplog.records
