"""Speed of the tokenizers on one thread: CPU seconds a cell, beside plain forms of the published algorithms.

20,000 genes, about 1,456 expressed, at most 2,048 tokens; the counts are those of ``loader_data.py``. What is compared
is written here, in numpy, as the published code does it:

- Geneformer: divide each chunk of 512 cells by totals and medians, then ``argsort`` cell by cell; as a whole pipeline
  with reading by anndata before, and after it each cell cropped and given its first and last token by
  ``datasets.Dataset.map`` with ``num_proc=1``, as the official code does; without ``datasets`` by lists out of Arrow
  and back, which is less work; without pyarrow by arrays.
- argsort: nothing but ``numpy.argsort`` of scores that lie ready, cell by cell, and the tokens in that order.
- scGPT: quantiles and two ``digitize`` cell by cell with random ties, then sampling and padding, 64 cells a batch. Ours
  has more arrays to pad: masks, bins and lengths.

What the official packages do around these is not counted. All are repeated in turn; medians are printed, and the
least and the largest.

    python benchmarks/tokenizers.py --cells 16384 --repeats 5
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
from loader_data import NUM_GENES, gene_names, make, warm  # noqa: E402

MAX_TOKENS, N_BINS, CHUNK, BATCH, TARGET_SUM = 2048, 51, 512, 64, 10_000
#: Ratios of CPU seconds that are aimed at: (ours, theirs, at least).
GOALS = (
    ("rank_value with reading", "Geneformer, whole pipeline", 30.0),
    ("rank_value", "Geneformer scale and rank", 8.0),
    ("rank_value", "argsort", 2.2),
    ("binned_expression, padded", "scGPT binning and padding", 10.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--packing", choices=("none", "gzip"), default="none", help="how the file is packed")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        make(path, options.cells, options.packing)
        warm(path)
        cells = Cells(path)
        seconds = measure(ways(cells), options.repeats)
        tell(cells, seconds, options)


class Cells:
    """The same cells for all: as a file, as a sparse matrix and as a block."""

    def __init__(self, path: Path) -> None:
        import anndata as ad

        from scmodelforge.data._compile import expect_many
        from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
        from scmodelforge.data.types import RowRange

        expect_many()  # as in a run, whose cells are many more
        self.path = path
        self.matrix = ad.read_h5ad(path).X.tocsr()
        self.totals = np.asarray(self.matrix.sum(axis=1)).ravel()
        self.medians = np.random.default_rng(1).lognormal(0.5, 0.4, NUM_GENES)
        self.source = LocalSource(LocalDataConfig(source="local", paths=[str(path)]))
        self.block = self.source.read(RowRange(0, 0, self.matrix.shape[0]))
        starts = range(0, len(self.block), CHUNK)
        self.blocks = [self.block.select(np.arange(n, min(n + CHUNK, len(self.block)))) for n in starts]

    def encoded(self, encoder) -> list[object]:
        """Return the tokens of all cells, as many at a time as are read."""
        return [encoder.encode(block, block.positions.astype(np.uint64)) for block in self.blocks]

    def __len__(self) -> int:
        return len(self.block)


def ways(cells: Cells) -> dict[str, Callable[[], object]]:
    """Return what is measured, under the names printed."""
    import torch

    from scmodelforge.objectives.collate import pad

    torch.set_num_threads(1)
    rank, bins = rank_value(cells), binned_expression(cells)
    shuffled = rank_value(cells, shuffled=True)
    parts = [cells.matrix[start : start + BATCH] for start in range(0, len(cells), BATCH)]

    def padded(blocks) -> None:
        for tokens in blocks:
            for start in range(0, len(tokens), BATCH):
                pad(tokens.part(start, min(start + BATCH, len(tokens))), pad_id=0)

    divided = [values / cells.medians[columns] for columns, values in rows(cells.matrix)]
    return {
        "Geneformer, whole pipeline": lambda: cropped(geneformer_with_reading(cells)),
        "Geneformer with reading": lambda: geneformer_with_reading(cells),
        "rank_value with reading": lambda: with_reading(cells, rank),
        "Geneformer scale and rank": lambda: geneformer(cells, cells.matrix, cells.totals),
        "argsort": lambda: [
            columns[np.argsort(-x)] for (columns, _), x in zip(rows(cells.matrix), divided, strict=True)
        ],
        "rank_value": lambda: cells.encoded(rank),
        "rank_value, tokens in another order than columns": lambda: cells.encoded(shuffled),
        "scGPT binning and padding": lambda: [scgpt(part) for part in parts],
        "binned_expression": lambda: cells.encoded(bins),
        "binned_expression, padded": lambda: padded(cells.encoded(bins)),
    }


def rank_value(cells: Cells, *, shuffled: bool = False):
    from scmodelforge.data.vocab import GeneVocab
    from scmodelforge.tokenizers.medians import GeneMedians
    from scmodelforge.tokenizers.rank_value import RankValueConfig, RankValueTokenizer

    order = np.random.default_rng(2).permutation(NUM_GENES) if shuffled else np.arange(NUM_GENES)
    names = gene_names()
    vocab = GeneVocab.from_genes([names[n] for n in order], name="synthetic")
    first = len(vocab) - NUM_GENES
    medians = GeneMedians(np.concatenate([np.full(first, np.nan), cells.medians[order]]), "exact", 1)
    return RankValueTokenizer(RankValueConfig(max_genes=MAX_TOKENS), vocab, medians=medians).bind(cells.block.panel)


def binned_expression(cells: Cells):
    from scmodelforge.data.vocab import GeneVocab
    from scmodelforge.tokenizers.binned_expression import SCGPT, BinnedExpressionConfig, BinnedExpressionTokenizer

    vocab = GeneVocab.from_genes(gene_names(), name="synthetic")
    config = BinnedExpressionConfig.model_validate({**SCGPT, "n_bins": N_BINS, "max_genes": MAX_TOKENS})
    return BinnedExpressionTokenizer(config, vocab).bind(cells.block.panel)


def with_reading(cells: Cells, encoder) -> None:
    from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
    from scmodelforge.data.types import RowRange

    source = LocalSource(LocalDataConfig(source="local", paths=[str(cells.path)]))
    for start in range(0, len(cells), CHUNK):
        stop = min(start + CHUNK, len(cells))
        encoder.encode(source.read(RowRange(0, start, stop)), np.arange(start, stop, dtype=np.uint64))
    source.close()


def rows(matrix):
    """Yield the columns and values of each cell."""
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        yield matrix.indices[start:stop], matrix.data[start:stop]


def geneformer(cells: Cells, matrix, totals: np.ndarray) -> list[np.ndarray]:
    """Return the ranked tokens of each cell."""
    import scipy.sparse as sp

    tokens = np.arange(4, 4 + NUM_GENES)
    ranked = []
    for start in range(0, matrix.shape[0], CHUNK):
        part, sums = matrix[start : start + CHUNK], totals[start : start + CHUNK, None]
        scaled = sp.csr_matrix(part / sums * TARGET_SUM / cells.medians)
        for cell in range(scaled.shape[0]):
            row = scaled[cell]
            ranked.append(tokens[row.indices][np.argsort(-row.data)])
    return ranked


def geneformer_with_reading(cells: Cells) -> list[np.ndarray]:
    import anndata as ad

    read = ad.read_h5ad(cells.path)
    totals = np.asarray(read.X.sum(axis=1)).ravel()  # n_counts, which the official code expects in obs
    medians = dict(zip(gene_names(), cells.medians, strict=True))
    matrix = read.X.tocsr()[:, [n for n, gene in enumerate(read.var_names) if gene in medians]]
    return geneformer(cells, matrix, totals)


def cropped(ranked: list[np.ndarray]) -> object:
    """Return the cells cut to their length, with a first and a last token, in Arrow's form."""
    try:
        from datasets import Dataset, disable_caching, disable_progress_bars
    except ImportError:
        return cropped_in_arrow(ranked)
    disable_caching()
    disable_progress_bars()
    return Dataset.from_dict({"input_ids": ranked}).map(with_length, num_proc=1)


def cropped_in_arrow(ranked: list[np.ndarray]) -> list[object]:
    """Return what ``Dataset.map`` comes to at least: lists out of Arrow, and back a thousand at a time."""
    try:
        import pyarrow as pa
    except ImportError:
        return [crop(tokens) for tokens in ranked]
    column, found, written = pa.array(ranked), [], []
    for cell in range(len(column)):
        found.append(crop(column[cell].as_py()))
        if len(found) == 1000 or cell == len(column) - 1:
            written.append(pa.array(found))
            found = []
    return written


def with_length(example: dict) -> dict:
    example["input_ids"] = crop(example["input_ids"])
    example["length"] = len(example["input_ids"])
    return example


def crop(tokens) -> np.ndarray:
    ids = np.insert(tokens[: MAX_TOKENS - 2], 0, 2)
    return np.insert(ids, len(ids), 3)


def scgpt(matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and values of all cells, padded."""
    found = [(columns, scgpt_bins(values)) for columns, values in rows(matrix)]
    longest = min(max(len(columns) for columns, _ in found) + 1, MAX_TOKENS)
    ids, values = np.full((len(found), longest), NUM_GENES), np.full((len(found), longest), -2.0, dtype=np.float32)
    for cell, (columns, bins) in enumerate(found):
        columns, bins = np.insert(columns, 0, NUM_GENES + 1), np.insert(bins, 0, 0)
        if len(columns) > longest:
            chosen = np.insert(np.random.choice(len(columns) - 1, longest - 1, replace=False) + 1, 0, 0)
            columns, bins = columns[chosen], bins[chosen]
        ids[cell, : len(columns)], values[cell, : len(columns)] = columns, bins
    return ids, values


def scgpt_bins(values: np.ndarray) -> np.ndarray:
    edges = np.quantile(values, np.linspace(0, 1, N_BINS - 1))
    left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
    return np.ceil(np.random.rand(len(values)) * (right - left) + left).astype(np.int64)


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Return the CPU seconds of each repeat; the first run of each, which compiles, does not count."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-1, repeats):
        for name, run in ways.items():
            began = cpu_seconds()
            run()
            if repeat >= 0:
                found[name].append(cpu_seconds() - began)
    return {name: np.array(seconds) for name, seconds in found.items()}


def cpu_seconds() -> float:
    """Return what this process and those it started have used."""
    return sum(os.times()[:4])


def tell(cells: Cells, seconds: dict[str, np.ndarray], options: argparse.Namespace) -> None:
    size = sum(array.nbytes for array in (cells.block.data, cells.block.indices, cells.block.indptr))
    expressed = len(cells.block.data) / len(cells)
    print(
        f"{len(cells):,} cells of {NUM_GENES:,} genes, {expressed:,.0f} expressed, {size / 1e6:,.1f} MB of CSR, file ",
        end="",
    )
    print(f"packed: {options.packing}; one thread, {options.repeats} repeats in turn, numpy {np.__version__}, ", end="")
    print(f"datasets {'is' if find_spec('datasets') else 'is not'} installed")
    print(f"{'':52}{'us/cell, median (least, most)':>34}{'GB/s of CSR':>14}")
    for name, found in seconds.items():
        middle, least, most = (1e6 * of(found) / len(cells) for of in (np.median, np.min, np.max))
        print(f"{name:52}{f'{middle:,.1f} ({least:,.1f}, {most:,.1f})':>34}{size / np.median(found) / 1e9:>14.3f}")
    for ours, theirs, goal in GOALS:
        ratios = seconds[theirs] / seconds[ours]  # of the same turn
        print(f"{theirs} / {ours}: {np.median(ratios):.1f} ({ratios.min():.1f}, {ratios.max():.1f}), aim {goal:g}")


if __name__ == "__main__":
    main()
