"""What the command line writes: talk goes to stderr, results go to stdout."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Collection, Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any, Literal

__all__ = ["configure_logging", "error", "is_first_process", "json_line", "say", "table", "tables", "width"]

_LEAST, _MOST = 60, 100  # columns of the tables of scores
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
    if title:
        sys.stdout.write(f"\n{title}\n")
    _write(columns, rows, texts=(0, len(columns) - 1))


def _write(columns: Sequence[str], rows: Sequence[Sequence[str]], *, texts: Collection[int], most: int = 1000) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        # In a narrow terminal long texts are broken into lines, names never cut.
        justify: Literal["left", "right"] = "left" if position in texts else "right"
        grid.add_column(column, justify=justify, overflow="fold", no_wrap=position == 0)
    for row in rows:
        grid.add_row(*row)
    # A pipe has no width: give the table what it needs instead of cutting it at 80 columns.
    is_terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if is_terminal else most, highlight=False, markup=False)
    console.width = min(console.width, most) if is_terminal else min(console.measure(grid).maximum, most)
    console.print(grid)


def width() -> int:
    """Return how many columns tables of scores may have: those of the terminal, at most 100; of a pipe 100."""
    return max(_LEAST, min(_MOST, get_terminal_size().columns)) if sys.stdout.isatty() else _MOST


def tables(
    parts: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]], bool]], *, title: str, legend: Sequence[str] = ()
) -> None:
    """Write several tables to stdout under one title, no wider than :func:`width`, and what their signs mean.

    Parameters
    ----------
    parts
        Title, headings and rows of each, and whether all its columns are text.
    title
        Lines above all.
    legend
        Lines below all.
    """
    if title:
        sys.stdout.write("\n" + "\n".join(line for text in title.split("\n") for line in wrap(text, width())) + "\n")
    for name, columns, rows, is_text in parts:
        sys.stdout.write(f"\n{name}\n")
        _write(columns, rows, texts=range(len(columns)) if is_text else (0,), most=width())
    for line in legend:
        sys.stdout.write("\n".join(wrap(line, width(), subsequent_indent="    ")) + "\n")


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
