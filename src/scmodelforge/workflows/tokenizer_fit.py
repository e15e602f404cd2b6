"""A tokenizer fitted to a corpus, apart from any run: all its cells in one streaming pass over any number of files."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import TOKENIZERS
from scmodelforge.config.faults import Faults
from scmodelforge.config.files import read_overrides, set_values
from scmodelforge.config.load import parse_without_model
from scmodelforge.config.schema import RunConfig
from scmodelforge.data.scan import scan
from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.saved import save_preprocessor
from scmodelforge.workflows.fitting import preprocessor_of_values, visitor_of
from scmodelforge.workflows.prepare import open_source
from scmodelforge.workflows.vocabulary import build_vocab

__all__ = ["corpus_settings", "fit_tokenizer"]

_log = logging.getLogger(__name__)
_MEDIANS = "medians.json"
_SETTINGS = ("tokenizer.", "data.preprocessing.")


def corpus_settings(
    paths: Sequence[str],
    *,
    strategy: str | None,
    gene_vocab: str,
    layer: str | None,
    gene_id_column: str | None,
    overrides: Sequence[str],
) -> RunConfig:
    """Return settings of which ``data`` and ``tokenizer`` count.

    Parameters
    ----------
    paths, gene_vocab, layer, gene_id_column
        As under ``data``.
    strategy
        As ``tokenizer.strategy``; ``None`` is the default.
    overrides
        Further settings, ``tokenizer.NAME=VALUE`` or ``data.preprocessing.NAME=VALUE``.

    Raises
    ------
    ConfigError
        If anything is wrong with them.
    """
    others = [entry for entry in overrides if not entry.startswith(_SETTINGS)]
    if others:
        msg = f"--set {others[0]}: it has no effect here; it must begin with {' or '.join(map(repr, _SETTINGS))}."
        raise ConfigError(msg)
    data = {"paths": list(paths), "layer": layer, "gene_vocab": gene_vocab, "gene_id_column": gene_id_column}
    raw: dict[str, Any] = {"data": {name: value for name, value in data.items() if value is not None}}
    if strategy is not None:
        raw["tokenizer"] = {"strategy": strategy}
    faults = Faults("the command line")
    raw = set_values(raw, read_overrides(overrides, faults), faults)
    faults.raise_if_any()
    return parse_without_model(raw, origin="the command line")


def fit_tokenizer(config: RunConfig, folder: str | Path, *, force: bool = False) -> list[str]:
    """Fit a tokenizer to all cells of some files and write it to a folder.

    Beside ``tokenizer.json``, ``vocab.json`` and ``preprocessing.json`` the folder gets ``medians.json``, if the
    tokenizer has medians: what ``tokenizer.medians`` of a run may name.

    Parameters
    ----------
    config
        Settings of which ``data`` and ``tokenizer`` count.
    folder
        Where to write.
    force
        Replace a tokenizer that is there.

    Returns
    -------
    Lines on what was done.

    Raises
    ------
    ConfigError
        If there is nothing to fit, or a setting is not read here.
    DataError
        If the files cannot be read, or the folder has a tokenizer.
    """
    folder = Path(folder)
    preprocessor = preprocessor_of_values(config.data.preprocessing, command="tokenizer fit")
    if (folder / "tokenizer.json").exists() and not force:
        msg = f"{folder} has a tokenizer; name another folder, or use --force to replace it."
        raise DataError(msg)
    source: Any = open_source(config.data)
    try:
        for line in source.describe():
            _log.info(line)
        tokenizer_class: Any = TOKENIZERS.get(config.tokenizer.strategy)
        tokenizer: BaseTokenizer = tokenizer_class(config.tokenizer, build_vocab(config.data, source))
        visitor = visitor_of(tokenizer, lambda positions: np.ones(len(positions), dtype=bool), preprocessor)
        if visitor is None:
            msg = f"tokenizer '{tokenizer.strategy}' has nothing to fit with these settings; a run makes it as it is."
            raise ConfigError(msg)
        report = scan(source, tokenizer.vocab, expects=tokenizer.expects, visitors=[visitor])
        visitor.finish()
    finally:
        source.close()
    tokenizer.save_pretrained(folder)
    save_preprocessor(preprocessor, folder)
    written = ["tokenizer.json", "vocab.json", "preprocessing.json", *_write_medians(tokenizer, folder)]
    empty = f", {len(report.empty):,} of them without a gene of the vocabulary" if len(report.empty) else ""
    return [
        *report.warnings,
        f"{report.num_cells:,} cells read{empty}",
        tokenizer.describe(),
        f"wrote {', '.join(written)} to {folder}",
    ]


def _write_medians(tokenizer: BaseTokenizer, folder: Path) -> list[str]:
    """Write the medians of a tokenizer that has some by gene; return the names of the files."""
    medians = getattr(tokenizer.maker, "medians", None)
    if medians is None:
        (folder / _MEDIANS).unlink(missing_ok=True)  # of a tokenizer that was here before
        return []
    tokens = tokenizer.vocab.map(tokenizer.vocab.genes)
    named = zip(tokenizer.vocab.genes, medians.values[tokens].tolist(), strict=True)
    content = {gene: median for gene, median in named if not math.isnan(median)}
    (folder / _MEDIANS).write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
    return [_MEDIANS]
