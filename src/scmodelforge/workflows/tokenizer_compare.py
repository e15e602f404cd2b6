"""What tokenizers keep of some cells, what they lose, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import TOKENIZERS
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.gather import read_rows
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.scan import check_values, scan
from scmodelforge.data.types import CellBlock, TokenBlock
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.workflows.fitting import preprocessor_of_values, visitor_of
from scmodelforge.workflows.prepare import open_source
from scmodelforge.workflows.vocabulary import build_vocab

__all__ = ["Comparison", "compare_tokenizers"]

_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one tokenizer does with the cells.

    Attributes
    ----------
    strategy
        Registered name.
    tokens
        Mean number of tokens of a cell, special ones included.
    genes_kept
        Share of the expressed genes that become tokens.
    counts_kept
        Share of the expression that these have.
    genes_unknown
        Share of the expressed genes that the vocabulary does not have.
    genes_cut
        Share of the expressed genes that have no room (``tokenizer.max_genes``).
    cells_cut
        Share of the cells with such genes.
    levels
        Mean number of different values among the tokens of a cell: how finely expression is told apart.
    provides
        What it gives for each token.
    bytes_per_cell
        Mean size of the tokens.
    microseconds
        Processor time for a cell, the fastest of three.
    """

    strategy: str
    tokens: float
    genes_kept: float
    counts_kept: float
    genes_unknown: float
    genes_cut: float
    cells_cut: float
    levels: float
    provides: tuple[str, ...]
    bytes_per_cell: float
    microseconds: float


def compare_tokenizers(
    configs: Sequence[RunConfig], *, num_cells: int = 500, seed: int = 0
) -> tuple[list[Comparison], list[str]]:
    """Tokenise some cells of some files with several tokenizers, each fitted to these cells if it learns something.

    Parameters
    ----------
    configs
        Settings that differ in ``tokenizer`` only.
    num_cells
        Most cells to take, drawn from all files.
    seed
        Of the draw.

    Returns
    -------
    What each does, in the order given, and lines on the cells.

    Raises
    ------
    DataError
        If the files cannot be read, or no cell has a gene of the vocabulary.
    ConfigError
        If the sections ``data`` differ, or a setting of them is not read here.
    """
    data = configs[0].data
    if any(config.data != data for config in configs):
        msg = "tokenizers are compared on the same cells; give all the same section 'data'."
        raise ConfigError(msg)
    preprocessor = preprocessor_of_values(data.preprocessing, command="tokenizer compare")
    source: Any = open_source(data)
    try:
        vocab = build_vocab(data, source)
        blocks = _drawn(source, num_cells, seed)
        drawn = _Drawn(blocks, source)
        found = [_measure(_fitted(config, vocab, drawn, preprocessor), blocks, preprocessor) for config in configs]
    finally:
        source.close()
    total = sum(len(block) for block in blocks)
    expressed = sum(np.count_nonzero(block.data > 0) for block in blocks) / total
    return found, [
        f"{total:,} of {sum(source.file_sizes):,} cells, {expressed:,.0f} genes expressed in a cell on average"
    ]


class _Drawn:
    """The drawn cells as a source, so that they can be scanned. ``check`` refuses wrong values, naming the cell."""

    def __init__(self, blocks: Sequence[CellBlock], source: Any) -> None:
        self._blocks = blocks
        self.panels = [block.panel for block in blocks]
        self.file_sizes = [len(block) for block in blocks]
        self._source = source

    def check(self, expects: str) -> None:
        starts = np.concatenate([[0], np.cumsum(self._source.file_sizes)])
        for block in self._blocks:
            file = int(np.searchsorted(starts, block.positions[0], side="right")) - 1
            check_values(self._source, block, expects, file_start=int(starts[file]))

    def read(self, rows: Any) -> CellBlock:
        return self._blocks[rows.file].select(np.arange(rows.start, rows.stop))


def _drawn(source: Any, num_cells: int, seed: int) -> list[CellBlock]:
    """Return some cells of each file, as many as there are in proportion."""
    sizes = np.asarray(source.file_sizes)
    chosen = np.sort(np.random.default_rng(seed).permutation(int(sizes.sum()))[:num_cells])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    files = np.searchsorted(starts, chosen, side="right") - 1
    return [read_rows(source, int(file), chosen[files == file] - starts[file]) for file in np.unique(files)]


def _fitted(config: RunConfig, vocab: GeneVocab, drawn: _Drawn, preprocessor: Preprocessor) -> BaseTokenizer:
    tokenizer_class: Any = TOKENIZERS.get(config.tokenizer.strategy)
    tokenizer: BaseTokenizer = tokenizer_class(config.tokenizer, vocab)
    drawn.check(tokenizer.expects)
    visitor = visitor_of(tokenizer, lambda positions: np.ones(len(positions), dtype=bool), preprocessor)
    report = scan(drawn, tokenizer.vocab, expects=tokenizer.expects, visitors=[] if visitor is None else [visitor])  # type: ignore[arg-type]
    if len(report.empty) == report.num_cells:
        msg = f"none of {report.num_cells:,} cells expresses a gene of gene_vocab '{vocab.name}'; take more cells."
        raise DataError(msg)
    if visitor is not None:
        visitor.finish()
    return tokenizer


def _measure(tokenizer: BaseTokenizer, raw: Sequence[CellBlock], preprocessor: Preprocessor) -> Comparison:
    blocks = [preprocessor(block) for block in raw]
    encoders = [tokenizer.bind(block.panel) for block in blocks]
    keys = [cell_keys(0, block.positions) for block in blocks]
    took = []
    for _ in range(_REPEATS + 1):  # the first compiles
        began = time.process_time()
        tokens = [encoder.encode(block, key) for encoder, block, key in zip(encoders, blocks, keys, strict=True)]
        took.append(time.process_time() - began)
    shares = [_shares(tokenizer.vocab, block, made) for block, made in zip(blocks, tokens, strict=True)]
    expressed, known, kept, counts, counts_kept, cut = np.sum(shares, axis=0)
    num_cells = sum(len(block) for block in blocks)
    return Comparison(
        strategy=tokenizer.strategy,
        tokens=sum(int(made.offsets[-1]) for made in tokens) / num_cells,
        genes_kept=kept / expressed,
        counts_kept=counts_kept / counts,
        genes_unknown=1 - known / expressed,
        genes_cut=(known - kept) / expressed,
        cells_cut=cut / num_cells,
        levels=sum(_levels(made) for made in tokens) / num_cells,
        provides=tuple(sorted(tokenizer.provides)),
        bytes_per_cell=sum(_bytes(made) for made in tokens) / num_cells,
        microseconds=1e6 * min(took[1:]) / num_cells,
    )


def _shares(vocab: GeneVocab, block: CellBlock, made: TokenBlock) -> tuple[float, ...]:
    """Return expressed, known and kept genes of a block, its expression and that of kept genes, and cells with cuts.

    Genes are counted as columns: of several with one token all are kept or none.
    """
    is_expressed = block.data > 0
    cells = np.repeat(np.arange(len(block)), np.diff(block.indptr))[is_expressed]
    tokens, values = vocab.map_panel(block.panel)[block.indices[is_expressed]], block.data[is_expressed]
    is_known = tokens >= 0
    shown = np.repeat(np.arange(len(made)), made.lengths) * len(vocab) + made.ids
    is_kept = is_known & np.isin(cells * len(vocab) + tokens, shown)
    cut = np.unique(cells[is_known & ~is_kept])
    counts = float(values.sum(dtype=np.float64)), float(values[is_kept].sum(dtype=np.float64))
    return len(values), int(is_known.sum()), int(is_kept.sum()), *counts, len(cut)


def _levels(made: TokenBlock) -> int:
    """Return the number of different values of each cell's tokens, summed."""
    cells = np.repeat(np.arange(len(made)), made.lengths)
    return len(np.unique(np.stack([cells, made.values.view(np.int32)]), axis=1).T)


def _bytes(made: TokenBlock) -> int:
    arrays = [made.ids, made.values, *([] if made.bin_ids is None else [made.bin_ids])]
    return sum(array.nbytes for array in arrays)
