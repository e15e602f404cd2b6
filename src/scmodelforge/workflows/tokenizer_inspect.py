"""What a saved tokenizer is, and what it makes of one cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.draws import cell_keys
from scmodelforge.data.gather import read_rows
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.scan import check_values
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.hub.addresses import parse_address
from scmodelforge.hub.bundle import load_parts
from scmodelforge.hub.load import is_model_folder, load_model
from scmodelforge.hub.locate import locate
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.saved import load_preprocessor, load_tokenizer
from scmodelforge.workflows.prepare import open_source

__all__ = ["describe_tokenizer", "tokenizer_at", "tokens_of_cell"]


def tokenizer_at(
    address: str | Path, *, dictionaries: Path | None = None, trust_plugins: bool = False
) -> tuple[BaseTokenizer, Preprocessor]:
    """Return a saved tokenizer, and what is done to cells before it.

    Parameters
    ----------
    address
        Of a model, ours or published, or of a folder with a tokenizer alone.
    dictionaries, trust_plugins
        As of :func:`~scmodelforge.hub.load.load_model`.

    Raises
    ------
    ConfigError, DataError
        As of :func:`~scmodelforge.hub.locate.locate`; if there is no tokenizer, or it is damaged.
    """
    folder = locate(parse_address(address)).folder
    is_of_model = (folder / "config.json").is_file()
    if (folder / "tokenizer.json").is_file() and not is_of_model:
        return load_tokenizer(folder), load_preprocessor(folder)
    if is_of_model and is_model_folder(folder):
        parts = load_parts(folder, trust_plugins=trust_plugins)
        return parts.tokenizer, parts.preprocessor
    bundle = load_model(address, dictionaries=dictionaries)
    return bundle.tokenizer, bundle.preprocessor


def describe_tokenizer(tokenizer: BaseTokenizer) -> list[tuple[str, str]]:
    """Return what a tokenizer is, as names and values."""
    vocab = tokenizer.vocab
    specials = ", ".join(f"{name} {token}" for name, token in sorted(vocab.special_tokens.items(), key=lambda x: x[1]))
    settings = tokenizer.config.model_dump(mode="json", exclude={"strategy", "masking"})
    return [
        ("tokenizer", tokenizer.describe()),
        ("gives", ", ".join(sorted(tokenizer.provides))),
        ("needs", "counts" if tokenizer.expects == "counts" else "any values, none negative"),
        ("settings", ", ".join(f"{name} {_shown(value)}" for name, value in settings.items())),
        ("vocabulary", f"{vocab.name}, {len(vocab.genes):,} genes, {len(vocab):,} tokens"),
        ("special tokens", specials),
        ("digest", vocab.digest()[:16]),
    ]


def tokens_of_cell(
    tokenizer: BaseTokenizer,
    preprocessor: Preprocessor,
    paths: Sequence[str],
    cell: int,
    *,
    layer: str | None = None,
    gene_id_column: str | None = None,
) -> list[dict[str, Any]]:
    """Return the tokens that a tokenizer makes of one cell of some files, first to last.

    Parameters
    ----------
    tokenizer, preprocessor
        The tokenizer, and what is done to the cell first.
    paths, layer, gene_id_column
        As under ``data``.
    cell
        Position of the cell, the files one after another.

    Returns
    -------
    For each token ``place``, ``token``, ``gene``, ``symbol``, ``value``, and ``bin`` if there are bins.

    Raises
    ------
    DataError
        If there is no such cell, no gene of its file is in the vocabulary, or its values are not what is needed.
    """
    source: Any = open_source(LocalDataConfig(paths=list(paths), layer=layer, gene_id_column=gene_id_column))
    try:
        total = sum(source.file_sizes)
        if not 0 <= cell < total:
            msg = f"there is no cell {cell:,}; the files have cells 0 to {total - 1:,}."
            raise DataError(msg)
        source.choose_gene_ids(tokenizer.vocab)
        starts = np.concatenate([[0], np.cumsum(source.file_sizes)[:-1]])
        file = int(np.searchsorted(starts, cell, side="right")) - 1
        tokenizer.vocab.require_overlap(source.panels[file])
        block = read_rows(source, file, np.array([cell - starts[file]]))
        check_values(source, block, tokenizer.expects, file_start=int(starts[file]))
        block = preprocessor.fitted(source)(block)
    finally:
        source.close()
    made = tokenizer.bind(block.panel).encode(block, cell_keys(0, block.positions))
    names = _names(tokenizer)
    rows = []
    for place, (token, value) in enumerate(zip(made.ids.tolist(), made.values.tolist(), strict=True)):
        gene, symbol = names[token]
        row = {"place": place, "token": token, "gene": gene, "symbol": symbol, "value": value}
        if made.bin_ids is not None:
            row["bin"] = int(made.bin_ids[place])
        rows.append(row)
    return rows


def _names(tokenizer: BaseTokenizer) -> dict[int, tuple[str, str]]:
    """Return gene and symbol of each token."""
    vocab = tokenizer.vocab
    names = {token: (name, "") for name, token in vocab.special_tokens.items()}
    tokens = vocab.map(vocab.genes).tolist()
    names.update({t: (g, s or "") for t, g, s in zip(tokens, vocab.genes, vocab.symbols, strict=True)})
    return names


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
