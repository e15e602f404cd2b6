"""Which cells and genes are left out, and that a scan shows visitors the others only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scmodelforge._errors import DataError
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.filters import CellLimits, ExpressingCells
from scmodelforge.data.scan import scan
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab

from .sources import MemorySource
from .test_scan import Recorder

PANEL = Panel(np.array([f"gene{i}" for i in range(6)], dtype=object), "cells.h5ad")
ALL_GENES = GeneVocab.from_genes([f"gene{i}" for i in range(20)], name="all")


def make_block(rows: list[list[int]], panel: Panel = PANEL) -> CellBlock:
    """Return cells of which every value is stored, the zeros too."""
    dense = np.array(rows, dtype=np.float32).reshape(-1, len(panel.gene_ids))
    indptr = np.arange(len(dense) + 1, dtype=np.int64) * dense.shape[1]
    return CellBlock(
        dense.ravel(), np.tile(np.arange(dense.shape[1]), len(dense)), indptr, panel, np.arange(len(dense))
    )


def limits(**settings) -> CellLimits:
    return CellLimits(PreprocessingConfig(**settings))


cells = st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), max_size=8)


class TestLimits:
    @given(cells, st.integers(1, 24), st.integers(1, 24), st.integers(1, 6), st.integers(1, 6))
    def test_keep_the_cells_within_all_of_them(self, rows, counts, more_counts, genes, more_genes):
        settings = {
            "min_counts_per_cell": float(counts),
            "max_counts_per_cell": float(max(counts, more_counts)),
            "min_genes_per_cell": genes,
            "max_genes_per_cell": max(genes, more_genes),
        }
        dense = np.array(rows).reshape(-1, 6)
        total, expressed = dense.sum(axis=1), np.count_nonzero(dense, axis=1)
        within = (counts <= total) & (total <= max(counts, more_counts))
        within &= (genes <= expressed) & (expressed <= max(genes, more_genes))
        assert (limits(**settings).broken(make_block(rows)) < 0).tolist() == within.tolist()

    def test_a_cell_at_a_limit_stays(self):
        block = make_block([[1, 2, 0, 0, 0, 0]])
        at = {"min_counts_per_cell": 3.0, "max_counts_per_cell": 3.0, "min_genes_per_cell": 2, "max_genes_per_cell": 2}
        assert limits(**at).broken(block).tolist() == [-1]

    def test_a_cell_counts_for_the_first_limit_it_breaks(self):
        found = limits(min_genes_per_cell=3, min_counts_per_cell=4.0, max_counts_per_cell=1000.0)
        broken = found.broken(make_block([[1, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0], [9, 9, 9, 0, 0, 0], [0] * 6]))
        assert broken.tolist() == [0, 2, -1, 0]
        assert found.describe(broken[broken >= 0]) == "2 by min_counts_per_cell (4.0), 1 by min_genes_per_cell (3)"

    def test_without_limits_every_cell_stays(self):
        assert limits().broken(make_block([[0] * 6, [9] * 6])).tolist() == [-1, -1]


class TestScan:
    def test_visitors_see_the_cells_that_stay_and_the_report_names_the_others(self):
        source, visitor = MemorySource([7, 11, 5], seed=3), Recorder()
        dense = np.concatenate(source._counts)
        stays = np.count_nonzero(dense, axis=1) >= 5
        assert 0 < stays.sum() < 23
        report = scan(
            source, ALL_GENES, expects="counts", block_size=4, visitors=[visitor], limits=limits(min_genes_per_cell=5)
        )
        assert np.concatenate([block.positions for block in visitor.blocks]).tolist() == np.flatnonzero(stays).tolist()
        assert report.dropped.tolist() == np.flatnonzero(~stays).tolist()
        assert report.drop_reasons == f"{(~stays).sum()} by min_genes_per_cell (5)"
        assert all(len(block) for block in visitor.blocks)

    def test_a_dropped_cell_is_not_an_empty_one_too(self):
        source = MemorySource([20], seed=1)
        few = GeneVocab.from_genes(["gene1"], name="few")
        free = scan(source, few, expects="counts").empty
        report = scan(source, few, expects="counts", limits=limits(min_counts_per_cell=6.0))
        assert sorted([*report.empty, *(free[np.isin(free, report.dropped)])]) == free.tolist()
        assert not np.isin(report.empty, report.dropped).any()

    def test_limits_that_no_cell_is_within(self):
        with pytest.raises(
            DataError, match=r"leaves out all 9 cells: 9 by min_counts_per_cell \(1,000.0\); loosen these limits"
        ):
            scan(MemorySource([4, 5]), ALL_GENES, expects="counts", limits=limits(min_counts_per_cell=1000.0))

    def test_dropped_and_empty_cells_together(self):
        source = MemorySource([20], seed=1)
        foreign = GeneVocab.from_genes(["other"], name="foreign")
        with pytest.raises(
            DataError, match=r"none of 20 cells is left: .* leaves out \d+ \(\d+ by min_genes.*\), the others are empty"
        ):
            scan(source, foreign, expects="counts", limits=limits(min_genes_per_cell=5))


class TestExpressingCells:
    @given(cells, st.integers(0, 8))
    def test_counts_cells_with_a_positive_value(self, rows, first):
        visitor = ExpressingCells(GeneVocab.from_panels([PANEL]), lambda positions: positions >= first)
        visitor.update(make_block(rows))
        assert visitor.counts.tolist() == np.count_nonzero(np.array(rows).reshape(-1, 6)[first:], axis=0).tolist()

    def test_columns_of_one_gene_count_once(self):
        twice = Panel(np.array(["gene0", "gene1", "gene0"], dtype=object), "twice.h5ad")
        visitor = ExpressingCells(GeneVocab.from_genes(["gene0", "gene1"], name="two"), lambda at: at >= 0)
        visitor.update(make_block([[1, 0, 2], [0, 3, 1], [0, 0, 0]], twice))
        assert visitor.counts.tolist() == [2, 1]

    def test_files_with_other_genes_add_up(self):
        visitor = ExpressingCells(ALL_GENES, lambda at: at >= 0)
        source = MemorySource([6, 6])
        scan(source, ALL_GENES, expects="counts", visitors=[visitor], block_size=4)
        first, second = (np.count_nonzero(counts, axis=0) for counts in source._counts)
        assert visitor.counts[:8].tolist() == [*first[:3], *(first[3:] + second[:5])]
        assert visitor.counts[8:11].tolist() == second[5:].tolist()
