"""What the command line writes: talk goes to stderr, results go to stdout."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["configure_logging", "error", "is_first_process", "json_line", "say", "table"]

#: Where launchers say which process this is: torchrun, SLURM, and Lightning for those of one node.
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")


def say(message: str) -> None:
    """Write one line of talk to stderr."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def error(message: str) -> None:
    """Write an error to stderr: ``error:`` and the message as it is; processes but the first say which they are."""
    say(f"error: {message}" if is_first_process() else f"(process {_process()}: {message})")


def is_first_process() -> bool:
    """Tell whether this is the process that speaks and writes: the only one, or the first of a distributed run."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def json_line(value: Any) -> None:
    """Write one JSON value to stdout, on one line."""
    sys.stdout.write(json.dumps(value) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Write a table to stdout: aligned, with the first column to the left; plain text when piped.

    Parameters
    ----------
    columns
        Headings.
    rows
        Cells as text, one sequence a row.
    title
        A line above the table.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if title:
        sys.stdout.write(f"\n{title}\n")
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        # In a narrow terminal long texts are broken into lines, names never cut.
        is_text = position in (0, len(columns) - 1)
        grid.add_column(column, justify="left" if is_text else "right", overflow="fold", no_wrap=position == 0)
    for row in rows:
        grid.add_row(*row)
    # A pipe has no width: give the table what it needs instead of cutting it at 80 columns.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    if not sys.stdout.isatty():
        console.width = console.measure(grid).maximum
    console.print(grid)


def configure_logging(*, verbose: bool = False) -> None:
    """Send the package's log messages to stderr as plain lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("scmodelforge")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO if is_first_process() else logging.ERROR)
    logger.propagate = False
    if not verbose:
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def _process() -> str:
    """Return the number of this process, which is not the first, as its launcher tells it."""
    return next(os.environ[name] for name in _RANKS if os.environ.get(name, "0") != "0")
