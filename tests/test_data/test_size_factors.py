"""Size factors from pools: against the method written out on dense matrices, and its known properties."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from scmodelforge._errors import DataError
from scmodelforge.data.size_factors import fit_size_factors, pooled_factors
from scmodelforge.data.types import CellBlock, Panel, RowRange


def panel_of(genes: int, *, name: str = "cells.h5ad", first: int = 0) -> Panel:
    return Panel(np.array([f"g{i:04d}" for i in range(first, first + genes)], dtype=object), name)


def block_of(counts: np.ndarray, panel: Panel | None = None, *, first: int = 0) -> CellBlock:
    cells, genes = np.nonzero(counts)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(counts, axis=1))]).astype(np.int64)
    data = counts[cells, genes].astype(np.float32)
    return CellBlock(data, genes, indptr, panel or panel_of(counts.shape[1]), first + np.arange(len(counts)))


class Files:
    """A source of whole matrices, which remembers the longest read."""

    def __init__(self, *files: tuple[np.ndarray, Panel]) -> None:
        self.panels = [panel for _, panel in files]
        self.file_sizes = [len(counts) for counts, _ in files]
        self._files, self.longest = files, 0

    def read(self, rows: RowRange) -> CellBlock:
        self.longest = max(self.longest, rows.stop - rows.start)
        counts, panel = self._files[rows.file]
        first = sum(self.file_sizes[: rows.file]) + rows.start
        return block_of(counts[rows.start : rows.stop], panel, first=first)


def dense_factors(counts: np.ndarray) -> np.ndarray:
    """Return the factors of one group, each equation written out as Lun et al. 2016 have it."""
    totals = counts.sum(axis=1)
    shares = counts / totals[:, None]
    average = shares.mean(axis=0)
    used = average * totals.mean() >= 0.1
    order = np.argsort(totals, kind="stable")
    ring = [*order[0::2], *order[1::2][::-1]]
    equations, values = [], []
    for size in range(21, 102, 5):
        for start in range(len(ring) if size <= len(ring) else 0):
            pool = [ring[(start + step) % len(ring)] for step in range(size)]
            equations.append(np.isin(np.arange(len(ring)), pool).astype(float))
            values.append(np.median(shares[pool][:, used].sum(axis=0) / average[used]))
    equations += list(np.sqrt(1e-6) * np.eye(len(ring)))
    values += [np.sqrt(1e-6)] * len(ring)
    return np.linalg.lstsq(np.array(equations), np.array(values), rcond=None)[0] * totals


def draw(seed: int, cells: int, genes: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return counts without differential expression and the cells' true factors."""
    rng = np.random.default_rng(seed)
    factors = rng.gamma(4, 0.25, cells) + 0.1
    return rng.poisson(factors[:, None] * rng.gamma(0.5, 2.0, genes)).astype(float), factors


def apart(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the ratio of the two, each over its mean, less 1."""
    return (found / found.mean()) / (expected / expected.mean()) - 1


class TestOneGroup:
    @pytest.mark.parametrize("cells", [21, 22, 60, 110])
    def test_is_the_least_squares_solution_of_all_pools(self, cells):
        counts, _ = draw(cells, cells)
        assert pooled_factors(block_of(counts))[0] == pytest.approx(dense_factors(counts), rel=1e-9)

    def test_finds_the_true_factors_where_there_is_no_noise(self):
        rng = np.random.default_rng(0)
        factors = rng.integers(1, 9, 80).astype(float)
        counts = np.outer(factors, rng.integers(1, 50, 200))
        assert apart(pooled_factors(block_of(counts))[0], factors) == pytest.approx(0, abs=1e-9)

    def test_is_not_misled_by_genes_that_some_cells_express_much_more(self):
        counts, factors = draw(1, 200, 1000)
        rng = np.random.default_rng(2)
        other = np.arange(200) % 2 == 0
        counts[np.ix_(other, np.arange(60))] = rng.poisson(30 * factors[other, None], (100, 60))
        library = apart(counts.sum(axis=1), factors)
        pooled = apart(pooled_factors(block_of(counts))[0], factors)
        assert abs(library[other].mean() - library[~other].mean()) > 0.5
        assert abs(pooled[other].mean() - pooled[~other].mean()) < 0.1

    def test_the_order_of_cells_does_not_matter(self):
        counts, _ = draw(3, 90)
        counts[:, 0] += 2000 + 3 * np.arange(90) - counts.sum(axis=1)  # equal totals would keep the cells' order
        order = np.random.default_rng(0).permutation(90)
        forth, back = pooled_factors(block_of(counts))[0], pooled_factors(block_of(counts[order]))[0]
        assert back == pytest.approx(forth[order], rel=1e-9)

    def test_cells_without_counts_have_none_and_change_none(self):
        counts, _ = draw(4, 40)
        with_empty = np.insert(counts, [0, 17, 40], 0, axis=0)
        found = pooled_factors(block_of(with_empty))[0]
        empty = with_empty.sum(axis=1) == 0
        assert (found[empty] == 0).all()
        assert found[~empty] == pytest.approx(pooled_factors(block_of(counts))[0], rel=1e-12)

    def test_factors_that_are_not_positive_follow_the_number_of_expressed_genes(self):
        counts, _ = draw(5, 100)
        odd = np.zeros((6, 300))
        odd[:, :3] = [[400, 300, 200]] * 6  # nothing in common with the others: nearly all pools are below
        counts = np.concatenate([counts, odd])
        assert (dense_factors(counts) <= 0).any()
        found = pooled_factors(block_of(counts))[0]
        good = dense_factors(counts) > 0
        assert found[good] == pytest.approx(dense_factors(counts)[good], rel=1e-9)
        assert (found > 0).all()
        assert found[~good].max() < np.quantile(found[good], 0.1)  # 3 genes are as few as the smallest cells have

    def test_too_few_cells(self):
        counts, _ = draw(6, 20)
        with pytest.raises(DataError, match=r"cells.h5ad: .*'scran' pools 21 cells and more, but there are 20 with"):
            pooled_factors(block_of(counts))

    def test_too_few_counts(self):
        counts = np.eye(40)
        with pytest.raises(
            DataError, match=r"needs genes with a mean count of 0.1, but none has so many in cells 5 to 44"
        ):
            pooled_factors(block_of(counts, first=5))


class TestSource:
    def test_groups_have_one_scale(self):
        counts, factors = draw(7, 400, 600)
        factors = factors * np.repeat([1.0, 5.0], 200)
        counts[200:] = np.random.default_rng(8).poisson(counts[200:] * 5)
        found = fit_size_factors(Files((counts, panel_of(600))), most_cells=100)
        library = apart(counts.sum(axis=1), factors)
        assert found.dtype == np.float32
        assert np.abs(apart(found, factors)).mean() < 1.5 * np.abs(library).mean()
        assert found.mean() == pytest.approx(1, rel=1e-5)

    def test_groups_without_noise_give_the_true_factors(self):
        rng = np.random.default_rng(0)
        factors = rng.integers(1, 9, 150).astype(float)
        source = Files((np.outer(factors, rng.integers(1, 50, 200)), panel_of(200)))
        assert apart(fit_size_factors(source, most_cells=40), factors) == pytest.approx(0, abs=1e-5)

    def test_files_are_compared_by_the_genes_they_share_in_any_order(self):
        rng = np.random.default_rng(0)
        factors, means = rng.integers(1, 9, 90).astype(float), rng.integers(1, 50, 200)
        counts = np.outer(factors, means)
        order = rng.permutation(150)
        genes = panel_of(200).gene_ids
        source = Files((counts[:50], panel_of(200)), (counts[50:, 50:][:, order], Panel(genes[50:][order], "b.h5ad")))
        assert apart(fit_size_factors(source), factors) == pytest.approx(0, abs=1e-5)

    def test_more_groups_than_are_looked_at_for_a_reference(self):
        rng = np.random.default_rng(0)
        factors = rng.integers(1, 9, 40 * 21).astype(float)
        source = Files((np.outer(factors, rng.integers(1, 50, 30)), panel_of(30)))
        assert apart(fit_size_factors(source, most_cells=21), factors) == pytest.approx(0, abs=1e-5)

    def test_reads_no_more_cells_at_once_than_a_group(self):
        counts, _ = draw(9, 230, 50)
        source = Files((counts, panel_of(50)))
        fit_size_factors(source, most_cells=60)
        assert source.longest <= 60

    def test_cells_without_counts_have_one(self):
        counts, _ = draw(10, 60)
        counts[[3, 59]] = 0
        found = fit_size_factors(Files((counts, panel_of(300))))
        assert found[[3, 59]].tolist() == [1, 1]
        assert np.delete(found, [3, 59]).mean() == pytest.approx(1, rel=1e-5)

    def test_says_what_it_found(self, caplog):
        counts, _ = draw(11, 60)
        with caplog.at_level(logging.INFO, logger="scmodelforge.data.size_factors"):
            fit_size_factors(Files((counts, panel_of(300))), most_cells=30)
        assert caplog.messages[0].startswith("size factors of 60 cells from pools in 2 groups: 0.")

    def test_files_without_a_gene_in_common(self):
        counts, _ = draw(12, 60, 100)
        source = Files((counts, panel_of(100, name="a.h5ad")), (counts, panel_of(100, name="b.h5ad", first=500)))
        with pytest.raises(
            DataError, match=r"cannot compare cells of b.h5ad with those of a.h5ad: half of the 0 genes"
        ):
            fit_size_factors(source)
