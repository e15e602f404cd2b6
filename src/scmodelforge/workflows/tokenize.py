"""The tokens of a file's cells in a published model's representation, written as a table. Cells are streamed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError, Interrupted
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.inspect import describe_gene_ids
from scmodelforge.data.scan import check_values
from scmodelforge.data.sources._frame import no_column
from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from scmodelforge.data.types import CellBlock, RowRange, TokenBlock
from scmodelforge.hub.dictionaries import find_dictionaries
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.presets import Preset, get_preset
from scmodelforge.tokenizers.rank_value import RankValueTokenizer
from scmodelforge.workflows._compat_cells import CompatCells
from scmodelforge.workflows._token_table import TokenTable, check_columns, require_arrow
from scmodelforge.workflows.outputs import check_output
from scmodelforge.workflows.prepare import open_source
from scmodelforge.workflows.progress import Countdown

__all__ = ["tokenize_file"]

_log = logging.getLogger(__name__)

#: Cells in memory at a time, and values of them if all are stored.
_CELLS_AT_ONCE = 2048
_VALUES_AT_ONCE = 1 << 24
#: Share of genes with a token below which something may be wrong with their ids.
_FEW = 0.2


def tokenize_file(
    data: Path,
    out: Path,
    *,
    preset: str,
    dictionaries: Path | None = None,
    ties: str | None = None,
    compat: bool = False,
    obs: Sequence[str] = (),
    layer: str | None = None,
    gene_id_column: str | None = None,
    force: bool = False,
) -> list[str]:
    """Write the tokens of a file's cells, a row for each cell that has any.

    Parameters
    ----------
    data
        AnnData file or zarr store with counts.
    out
        Parquet file to write, with the columns ``cell_index`` (row in ``data``), ``input_ids``, ``length`` and ``obs``,
        and ``values`` if tokens have bins.
    preset
        Name of the representation.
    dictionaries
        Folder with its dictionaries; ``None`` takes what ``scmodelforge tokenizer fetch`` has kept.
    ties
        Value of ``tokenizer.ties``; ``None`` is its default.
    compat
        Whether cells are taken and tokenised as the official code does.
    obs
        obs columns that are written along.
    layer
        As ``data.layer``; by default the matrix with counts, with ``compat`` X.
    gene_id_column
        As ``data.gene_id_column``; by default what the preset looks for (``ensembl_id``, or ``feature_name``),
        if there is such a column.
    force
        Replace ``out`` if it exists.

    Returns
    -------
    Closing lines for the user: genes and cells kept and lost, and why.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong; nothing is written then.
    ImportError
        If what writes parquet files is not installed.
    Interrupted
        After Ctrl-C; nothing is written.
    """
    chosen = get_preset(preset)
    if compat and chosen.compat is None:
        msg = f"--compat: preset '{preset}' is what its official code does; leave --compat out."
        raise ConfigError(msg)
    if ties is not None and ties not in chosen.ties:
        msg = f"--ties {ties}: preset '{preset}' has {', '.join(chosen.ties)}."
        raise ConfigError(msg)
    check_output(out, force=force)
    require_arrow()
    obs = list(dict.fromkeys(obs))
    check_columns(obs)
    folder = find_dictionaries(chosen, dictionaries)
    changes: dict[str, Any] = {"ties": ties} if ties else {}
    tokenizer = chosen.make(folder, {**changes, "compat": chosen.compat} if compat else changes)
    layer = "X" if compat and layer is None else layer
    source = _open(data, layer=layer, gene_id_column=gene_id_column, candidates=chosen.id_columns)
    try:
        for line in source.describe():
            _log.info(line)
        _log.info(tokenizer.describe())
        cells: Any = CompatCells(source, _ranking(tokenizer)) if compat else _Cells(source, tokenizer)
        for note in cells.notes:
            _log.warning(note)
        tally = _write(source, cells, out, obs=obs, tokenizer=tokenizer, preset=chosen)
    finally:
        source.close()
    return [*tally.lines(cells), f"tokens: {out}"]


class _Cells:
    """Tokens of all cells, checked to be counts. Attributes are those of :class:`CompatCells`."""

    def __init__(self, source: LocalSource, tokenizer: BaseTokenizer) -> None:
        self._source, self._expects = source, tokenizer.expects
        panel = source.panels[0]
        tokens = tokenizer.lookup(panel.gene_ids)
        self.is_known = tokens >= 0
        if not self.is_known.any():
            msg = (
                f"None of the {len(tokens):,} genes of {panel.name} has a token in {tokenizer.vocab.name}. Its ids "
                f"look like {describe_gene_ids(panel.gene_ids)}, those of {tokenizer.vocab.name} like "
                f"{describe_gene_ids(tokenizer.vocab.genes)}; name another var column with --gene-id-column, or give "
                "genes of another species the ids of their human orthologs first."
            )
            raise DataError(msg)
        coverage = tokenizer.vocab.coverage(panel)
        self.passes = np.ones(source.file_sizes[0], dtype=bool)
        num_more = int(np.count_nonzero(self.is_known)) - len(np.unique(tokens[self.is_known]))
        self.notes = [f"{num_more:,} columns are genes that others are too; they are summed"] if num_more else []
        few = np.count_nonzero(self.is_known) < _FEW * len(tokens)
        if coverage.by_case or few:
            share = np.count_nonzero(self.is_known) / len(tokens)
            by_case = f", {coverage.by_case:,} of these only when letter case is ignored" if coverage.by_case else ""
            self.notes.append(
                f"{share:.1%} of the genes of {panel.name} have a token in {tokenizer.vocab.name}{by_case}; check that "
                "they are of its species and kind of ids"
            )
        self._encoder = tokenizer.bind(panel)

    def tokens(self, start: int, stop: int) -> tuple[CellBlock, TokenBlock]:
        """Return the cells of a range and their tokens."""
        block = self._source.read(RowRange(0, start, stop))
        check_values(self._source, block, self._expects, file_start=0)
        return block, self._encoder.encode(block, cell_keys(0, block.positions))


@dataclass
class _Tally:
    """What was kept and lost.

    Attributes
    ----------
    preset
        The representation.
    num_kept, num_empty
        Cells with tokens, and cells that pass but have none.
    num_cut, genes_cut
        Cells with more genes than there is room for, and these genes.
    known_counts, all_counts
        Sums of the values of genes with a token, and of all genes.
    """

    preset: Preset
    num_kept: int = 0
    num_empty: int = 0
    num_cut: int = 0
    genes_cut: int = 0
    known_counts: float = 0.0
    all_counts: float = 0.0

    def add(self, block: CellBlock, tokens: TokenBlock, is_known: np.ndarray, *, is_gene: np.ndarray) -> TokenBlock:
        """Count some cells, and return those that have tokens of genes: those of which ``is_gene`` is true."""
        self.all_counts += float(block.data.sum(dtype=np.float64))
        self.known_counts += float(block.data[is_known[block.indices]].sum(dtype=np.float64))
        genes = np.concatenate([[0], np.cumsum(is_gene[tokens.ids])])[tokens.offsets]
        kept = np.flatnonzero(np.diff(genes))
        self.num_empty += len(tokens) - len(kept)
        self.num_kept += len(kept)
        if tokens.measured is not None:
            cut = np.diff(tokens.measured.cut_offsets)
            self.num_cut += int(np.count_nonzero(cut))
            self.genes_cut += int(cut.sum())
        return tokens if len(kept) == len(tokens) else tokens.select(kept)

    def lines(self, cells: Any) -> list[str]:
        """Return the tally in words."""
        known, total = int(np.count_nonzero(cells.is_known)), len(cells.is_known)
        share = f" with {self.known_counts / self.all_counts:.1%} of the counts" if self.all_counts > 0 else ""
        lines = [f"genes: {known:,} of {total:,} kept{share}; {total - known:,} lost, no token in {self.preset.name}"]
        lines.append(f"cells: {self.num_kept:,} of {len(cells.passes):,} kept; {self.losses(cells.passes)}")
        if self.num_cut:
            lines.append(f"cut: {self.genes_cut:,} genes, of {self.num_cut:,} cells with more than there is room for")
        return lines

    def losses(self, passes: np.ndarray) -> str:
        """Return how many cells were lost and why, in words."""
        filtered = int(np.count_nonzero(~passes))
        reasons = [f"{filtered:,} lost, filter_pass is not 1"] if filtered else []
        return "; ".join([*reasons, f"{self.num_empty:,} lost, without any gene of the vocabulary"])


def _write(
    source: LocalSource, cells: Any, out: Path, *, obs: Sequence[str], tokenizer: BaseTokenizer, preset: Preset
) -> _Tally:
    tally, num_cells = _Tally(preset), source.file_sizes[0]
    metadata = {
        "scmodelforge": __version__,
        "preset": preset.name,
        "tokenizer": tokenizer.config.model_dump_json(),
        "vocab_digest": tokenizer.vocab.digest(),
    }
    countdown = Countdown("tokenize", total=num_cells)
    has_values = "bin_ids" in tokenizer.provides
    with TokenTable(out, obs=_columns(source, obs), metadata=metadata, has_values=has_values) as table:
        try:
            step = _cells_at_once(source)
            for start in range(0, num_cells, step):
                stop = min(start + step, num_cells)
                block, tokens = cells.tokens(start, stop)
                kept = tally.add(block, tokens, cells.is_known, is_gene=tokenizer.vocab.gene_numbers >= 0)
                table.write(kept)
                countdown.advance(stop - start)
        except KeyboardInterrupt as stop_asked:
            msg = f"stopped after {countdown.done:,} of {num_cells:,} cells; nothing was written."
            raise Interrupted(msg) from stop_asked
        finally:
            countdown.close()
        if not table.num_rows:
            msg = f"{source.panels[0].name}: none of its {num_cells:,} cells is left: {tally.losses(cells.passes)}."
            raise DataError(msg)
    return tally


def _columns(source: LocalSource, names: Sequence[str]) -> dict[str, Any]:
    stored = source.stored(0)
    there = stored.columns("obs")
    for name in names:
        if name not in there:
            raise DataError(no_column(f"{stored.name}: obs", name, there, setting=" (--obs)"))
    return {name: stored.column("obs", name) for name in names}


def _cells_at_once(source: LocalSource) -> int:
    if source.stored(0).row_lengths is not None:
        return _CELLS_AT_ONCE
    return max(1, min(_CELLS_AT_ONCE, _VALUES_AT_ONCE // max(1, len(source.panels[0].gene_ids))))


def _open(data: Path, *, layer: str | None, gene_id_column: str | None, candidates: Sequence[str]) -> LocalSource:
    config = LocalDataConfig(paths=[str(data)], layer=layer, gene_id_column=gene_id_column)
    source: Any = open_source(config)
    if len(source.panels) > 1:
        source.close()
        msg = f"{data} is {len(source.panels):,} files; tokenise one at a time."
        raise DataError(msg)
    there = source.stored(0).columns("var") if gene_id_column is None else []
    column = next((name for name in candidates if name in there), None)
    if column is not None:
        source.close()
        source = open_source(config.model_copy(update={"gene_id_column": column}))
    found: LocalSource = source
    return found


def _ranking(tokenizer: BaseTokenizer) -> RankValueTokenizer:
    assert isinstance(tokenizer, RankValueTokenizer)
    return tokenizer
