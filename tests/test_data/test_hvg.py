from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scmodelforge._errors import ConfigError
from scmodelforge.data.hvg import HighlyVariable
from scmodelforge.data.types import CellBlock, Panel
from scmodelforge.data.vocab import GeneVocab

from . import hvg_cases


def draw_counts(seed: int, cells: int = 120, genes: int = 150) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.gamma(0.5, 2.0, genes)
    dispersion = rng.uniform(0.05, 2.0, genes)
    counts = rng.poisson(means * rng.gamma(1 / dispersion, dispersion, (cells, genes)))
    counts[:, :3] = 0  # genes that nobody expresses
    counts[:, 3] += 400  # a gene alone in its bin
    return counts.astype(np.float32)


def make_panel(genes: int, *, name: str = "cells.h5ad", first: int = 0) -> Panel:
    return Panel(np.array([f"g{i:04d}" for i in range(first, first + genes)], dtype=object), name)


def blocks(counts: np.ndarray, panel: Panel, *, size: int = 17, first: int = 0) -> Iterator[CellBlock]:
    for start in range(0, len(counts), size):
        rows = counts[start : start + size]
        cells, genes = np.nonzero(rows)
        indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(rows, axis=1))]).astype(np.int64)
        positions = first + start + np.arange(len(rows))
        yield CellBlock(rows[cells, genes], genes, indptr, panel, positions)


def reference(counts: np.ndarray, n: int) -> list[int]:
    """Choose columns as Satija et al. 2015 do, step by step on the whole matrix."""
    normalised = pd.DataFrame(counts.astype(float)).div(counts.sum(axis=1), axis=0) * 1e4
    mean, variance = normalised.mean(), normalised.var(ddof=1)
    mean = mean.replace(0.0, 1e-12)
    dispersion = np.log((variance / mean).replace(0.0, np.nan))
    bins = pd.cut(np.log1p(mean), bins=20)
    scores = {}
    for _, members in dispersion.groupby(bins, observed=True):
        varying = members.dropna()
        for gene, value in varying.items():
            scores[gene] = 1.0 if len(varying) == 1 else (value - varying.mean()) / varying.std(ddof=1)
    return sorted(pd.Series(scores).sort_values(ascending=False).index[:n])


def choose(counts: np.ndarray, n: int, **options) -> list[int]:
    panel = make_panel(counts.shape[1])
    chooser = HighlyVariable(GeneVocab.from_panels([panel]), n, **options)
    for block in blocks(counts, panel):
        chooser.update(block)
    return [int(gene[1:]) for gene in chooser.select()]


class TestSelection:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("n", [10, 60])
    def test_is_that_of_the_published_formula(self, seed, n):
        counts = draw_counts(seed)
        assert choose(counts, n) == reference(counts, n)

    def test_finds_the_gene_that_marks_a_type(self):
        rng = np.random.default_rng(0)
        counts = rng.poisson(5.0, (80, 40)).astype(np.float32)
        counts[:, 17] = np.where(np.arange(80) < 40, 10, 0)  # no more of it than of the others
        assert choose(counts, 1) == [17]

    def test_does_not_depend_on_blocks_or_the_order_of_cells(self):
        counts = draw_counts(3)
        panel = make_panel(counts.shape[1])
        chosen = []
        for rows, size in ((counts, 5), (counts[::-1], 120)):
            chooser = HighlyVariable(GeneVocab.from_panels([panel]), 30)
            for block in blocks(rows, panel, size=size):
                chooser.update(block)
            chosen.append(chooser.select())
        assert chosen[0] == chosen[1]

    def test_takes_all_genes_that_tie_with_the_last(self):
        rng = np.random.default_rng(1)
        counts = rng.poisson(3.0, (60, 20)).astype(np.float32)
        counts[:, 0] += 2000  # so that all others share a bin
        counts[:30, 4] = counts[:30, 9] = 6
        counts[30:, 4] = counts[30:, 9] = 0
        assert choose(counts, 1) == [4, 9]

    def test_more_genes_than_vary_are_refused(self):
        with pytest.raises(ConfigError, match=r"hvg_selection is 500, but only \d+ genes .* vary over the 120 cells"):
            choose(draw_counts(0), 500)


class TestCells:
    def test_only_the_rows_asked_for_take_part(self):
        counts = draw_counts(4)
        train = np.arange(len(counts)) % 3 != 0
        assert choose(counts, 20, rows=lambda positions: train[positions]) == choose(counts[train], 20)
        assert choose(counts, 20) != choose(counts[train], 20)

    def test_counts_the_cells_that_took_part(self):
        panel = make_panel(150)
        chooser = HighlyVariable(GeneVocab.from_panels([panel]), 5, rows=lambda positions: positions < 40)
        for block in blocks(draw_counts(0), panel):
            chooser.update(block)
        assert chooser.num_cells == 40

    def test_without_cells_there_is_nothing_to_choose(self):
        chooser = HighlyVariable(GeneVocab.from_panels([make_panel(5)]), 2)
        with pytest.raises(ConfigError, match="only 0 genes"):
            chooser.select()


class TestPanels:
    def test_the_cell_total_is_over_all_genes_of_the_file(self):
        counts = draw_counts(2)
        panel = make_panel(counts.shape[1])
        part = GeneVocab.from_genes(panel.gene_ids[:50], name="part")
        chooser = HighlyVariable(part, 5)
        for block in blocks(counts, panel):
            chooser.update(block)
        normalised = counts / counts.sum(axis=1, keepdims=True, dtype=float) * 1e4
        assert chooser.moments()[1] == pytest.approx(normalised[:, :50].mean(axis=0))
        assert chooser.moments()[2] == pytest.approx(normalised[:, :50].var(axis=0, ddof=1))

    def test_columns_of_one_gene_are_summed_first(self):
        counts = draw_counts(5)
        counts[:, 20] = np.arange(len(counts)) % 30
        split = np.concatenate([counts, counts[:, [20]]], axis=1)
        split[:, 20] = np.floor(counts[:, 20] / 2)
        split[:, -1] = counts[:, 20] - split[:, 20]
        panel = make_panel(150)
        doubled = Panel(np.append(panel.gene_ids, "g0020"), "doubled.h5ad")
        vocab = GeneVocab.from_panels([panel])
        moments = []
        for matrix, genes in ((counts, panel), (split, doubled)):
            chooser = HighlyVariable(vocab, 5)
            for block in blocks(matrix, genes):
                chooser.update(block)
            moments.append(chooser.moments())
        assert moments[0][1] == pytest.approx(moments[1][1])
        assert moments[0][2] == pytest.approx(moments[1][2])

    def test_a_file_without_a_gene_says_nothing_about_it(self):
        counts = draw_counts(6, genes=40)
        wide, narrow = make_panel(40, name="wide.h5ad"), make_panel(30, name="narrow.h5ad")
        chooser = HighlyVariable(GeneVocab.from_panels([wide, narrow, make_panel(1, first=99)]), 5)
        chooser_cells = [*blocks(counts, wide), *blocks(counts[:50, :30], narrow, first=120)]
        for block in chooser_cells:
            chooser.update(block)
        cells, mean, variance = chooser.moments()
        assert cells.tolist() == [170] * 30 + [120] * 10 + [0]
        alone = counts / counts.sum(axis=1, keepdims=True, dtype=float) * 1e4
        assert mean[30:40] == pytest.approx(alone[:, 30:].mean(axis=0))
        assert variance[30:40] == pytest.approx(alone[:, 30:].var(axis=0, ddof=1))
        assert np.isnan(mean[40])
        assert "g0099" not in chooser.select()


STORED = json.loads((Path(__file__).parents[1] / "fixtures" / "hvg_scanpy.json").read_text())


def run(counts: np.ndarray, n: int, *, panel: Panel | None = None, size: int = 17, **options) -> HighlyVariable:
    panel = panel or make_panel(counts.shape[1])
    chooser = HighlyVariable(GeneVocab.from_panels([panel]), n, **options)
    for block in blocks(counts.astype(np.float32), panel, size=size):
        chooser.update(block)
    return chooser


class TestFlavors:
    @pytest.mark.parametrize("case", STORED["choices"], ids=lambda c: f"{c['flavor']}-{c['batched']}-{c['n']}")
    @pytest.mark.parametrize("size", [17, 240])
    def test_choose_the_genes_scanpy_chooses(self, case, size):
        batches = hvg_cases.BATCHES if case["batched"] else None
        chooser = run(hvg_cases.counts(), case["n"], flavor=case["flavor"], batches=batches, size=size)
        assert [int(gene[1:]) for gene in chooser.select()] == case["genes"]

    @pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3"])
    def test_only_the_rows_asked_for_take_part(self, flavor):
        counts, is_odd = hvg_cases.counts(), np.arange(240) % 2 == 1
        chosen = run(counts, 30, flavor=flavor, batches=hvg_cases.BATCHES, rows=lambda at: is_odd[at]).select()
        assert chosen == run(counts[is_odd], 30, flavor=flavor, batches=hvg_cases.BATCHES[is_odd]).select()

    @pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3"])
    def test_genes_not_allowed_are_as_if_they_were_not_there(self, flavor):
        counts, allowed = hvg_cases.counts(), np.arange(300) % 3 != 0
        part = Panel(make_panel(300).gene_ids[allowed], "part.h5ad")
        shares = counts[:, allowed]
        if flavor != "seurat_v3":  # whose counts are not divided by the total, which is over all genes
            shares = np.concatenate([shares, counts[:, ~allowed].sum(axis=1, keepdims=True)], axis=1)
            part = Panel(np.append(part.gene_ids, "rest"), "part.h5ad")
        chooser = HighlyVariable(GeneVocab.from_genes(part.gene_ids[: allowed.sum()], name="part"), 30, flavor=flavor)
        for block in blocks(shares.astype(np.float32), part):
            chooser.update(block)
        assert run(counts, 30, flavor=flavor).select(allowed) == chooser.select()

    @pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3"])
    def test_a_file_without_a_gene_says_nothing_about_it(self, flavor):
        counts = hvg_cases.counts()
        wide, narrow = make_panel(300, name="wide.h5ad"), make_panel(295, name="narrow.h5ad")
        chooser = HighlyVariable(GeneVocab.from_panels([wide, narrow]), 30, flavor=flavor)
        counts = counts.astype(np.float32)
        for block in [*blocks(counts[:150], wide), *blocks(counts[150:, :295], narrow)]:
            chooser.update(block)
        cells, mean, _ = chooser.moments()
        assert cells.tolist() == [240] * 295 + [150] * 5
        assert mean[295:] == pytest.approx(run(counts[:150], 5, flavor=flavor).moments()[1][295:])
        assert len(chooser.select()) >= 30

    def test_more_genes_than_vary_are_refused(self):
        with pytest.raises(ConfigError, match=r"hvg_selection is 297, but only 296 genes .* vary over the 240 cells"):
            run(hvg_cases.counts(), 297, flavor="seurat_v3").select()

    def test_too_few_genes_for_a_curve_are_refused(self):
        counts = hvg_cases.counts()[:, 10:18]
        for batches, where in ((None, "mean: "), (hvg_cases.BATCHES, "in one of the batches of .*hvg_batch_column")):
            with pytest.raises(ConfigError, match=f"hvg_flavor 'seurat_v3' cannot tell .*{where}.*over 8 points"):
                run(counts, 2, flavor="seurat_v3", batches=batches).select()

    def test_equal_means_are_no_curve(self):
        counts = np.tile([[1.0], [3.0]], (20, 30))
        with pytest.raises(ConfigError, match=r"9 points at the same place, 0\.30103"):
            run(counts, 2, flavor="seurat_v3").select()


class TestBatches:
    def test_a_gene_that_differs_between_batches_only_is_not_variable(self):
        rng = np.random.default_rng(0)
        counts = rng.poisson(np.linspace(1, 20, 60), (90, 60)).astype(np.float32)
        batches = np.arange(90) // 45
        counts[:, 7] = np.where(batches == 0, 2, 9)
        counts[:, 20] = np.where(np.arange(90) % 2 == 0, 2, 9)
        assert choose(counts, 2, flavor="seurat_v3") == [7, 20]
        assert 7 not in choose(counts, 2, flavor="seurat_v3", batches=batches)
        assert 20 in choose(counts, 2, flavor="seurat_v3", batches=batches)

    @pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3"])
    def test_cells_without_a_batch_are_a_batch(self, flavor):
        counts, named = hvg_cases.counts(), hvg_cases.BATCHES
        missing = np.where(named == 1, -1, named)
        assert choose(counts, 30, flavor=flavor, batches=missing) == choose(counts, 30, flavor=flavor, batches=named)

    @pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3"])
    def test_a_batch_of_one_cell_says_nothing(self, flavor):
        counts, batches = hvg_cases.counts(), hvg_cases.BATCHES.copy()
        batches[0] = 9
        assert choose(counts, 30, flavor=flavor, batches=batches) == choose(
            counts[1:], 30, flavor=flavor, batches=batches[1:]
        )
