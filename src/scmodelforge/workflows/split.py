"""A split of data in a file, for several runs to share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from scmodelforge.config.schema import SplitConfig
from scmodelforge.data.selection import choose_cells
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.split_files import write_split
from scmodelforge.workflows.outputs import check_output
from scmodelforge.workflows.prepare import open_source

__all__ = ["split_files"]

_log = logging.getLogger(__name__)


def split_files(
    paths: Sequence[str], out: Path, *, split: SplitConfig, expression: str | None = None, force: bool = False
) -> list[str]:
    """Write which cells of some files are trained on and which are held out, and return what to say about it.

    Parameters
    ----------
    paths
        As ``data.paths``.
    out
        The file to write; settings name it as ``data.split.file``.
    split
        How to split.
    expression
        As ``data.filter``: other cells are on neither side.
    force
        Replace ``out``.

    Raises
    ------
    ConfigError, DataError
        For everything a user can get wrong, before anything is written.
    """
    check_output(out, force=force)
    source = open_source(LocalDataConfig(paths=list(paths)))
    try:
        for line in getattr(source, "describe", list)():
            _log.info(line)
        found = choose_cells(source, split, expression=expression)
        digest = write_split(out, found, source, expression=expression)
    finally:
        source.close()
    return [found.describe(), f"split: {out} (hash {digest[:12]})", f"next: set data.split.file to {out}"]
