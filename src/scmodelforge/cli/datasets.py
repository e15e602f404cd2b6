"""``scmodelforge datasets``: real data sets known by name."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scmodelforge import _console

if TYPE_CHECKING:
    from scmodelforge.datasets.entries import DatasetInfo

app = typer.Typer(help="Real data sets known by name: list, fetch and split them.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set; `datasets list` has them.")]


@app.callback()
def datasets() -> None:
    """Real data sets known by name: list, fetch and split them."""


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list with everything known of each.")] = False,
) -> None:
    """List the data sets; a settings file names one as dataset://NAME.

    Example: scmodelforge datasets list
    """
    from scmodelforge.datasets import info, list_datasets
    from scmodelforge.datasets.store import data_folder

    rows = [_row(info(name)) for name in list_datasets()]
    if as_json:
        _console.json_line(rows)
        return
    columns = ["name", "here", "cells", "genes", "checksum"]
    _console.table(columns, [["" if row[each] is None else str(row[each]) for each in columns] for row in rows])
    for row in rows:
        sys.stdout.write(f"{row['name']}: {row['description']}. {row['licence']}\n")
    _console.say(f"fetched data sets lie in {data_folder()} (SCMODELFORGE_DATASETS names another folder)")
    _console.say(
        "checksum 'when fetched': none is known here; it is pinned on the first fetch and held to from then on"
    )


@app.command()
def fetch(
    name: _Name,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL|FILE|DIR",
            help="Where the file is; default: the mirror in SCMODELFORGE_DATASETS_MIRROR, else the known address.",
        ),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Checksum the file must have, if you know it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Bring a data set to this machine, check it and pin its checksum; a broken download goes on.

    Example: scmodelforge datasets fetch norman --from ~/Downloads/NormanWeissman2019_filtered.h5ad
    """
    from scmodelforge.datasets import fetch as fetch_data
    from scmodelforge.datasets import info

    data = info(name)
    if not data.is_shipped:
        _console.say(f"{name}: {data.description} ({data.organism})")
    with _Bar(name) as bar:
        lines = fetch_data(name, origin=origin, sha256=sha256, force=force, progress=bar.update)
    for line in lines:
        _console.say(line)


@app.command()
def split(
    name: _Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; data.split.file names it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write which cells of a data set are held out in evaluations, so that a run can hold out the same.

    Example: scmodelforge datasets split pbmc68k_reduced -o split.json
    """
    from scmodelforge.workflows.split_recipes import write_recipe

    for line in write_recipe(name, out, force=force):
        _console.say(line)


def _row(data: DatasetInfo) -> dict[str, Any]:
    """Return everything known of a data set, and whether it is on this machine. Nothing large is read."""
    from scmodelforge.datasets.store import data_folder, read_pin

    file = data_folder() / f"{data.name}.h5ad"
    pin = read_pin(file.with_name(f"{data.name}.pin.json"))
    here = "shipped" if data.is_shipped else "fetched" if file.is_file() else "no"
    pinned = pin.sha256 if pin is not None else None
    checksum = "published" if data.sha256 else f"pinned {pin.pinned}" if pin is not None else "when fetched"
    limit = " (not for commercial use)" if data.is_non_commercial else ""
    return {
        **asdict(data),
        "licence": data.licence + limit,
        "sha256": data.sha256 or pinned,
        "here": here,
        "checksum": checksum,
        "path": str(file) if here == "fetched" else None,
    }


class _Bar:
    """Bytes that have arrived: a moving bar on a terminal, else a line at each tenth."""

    def __init__(self, name: str) -> None:
        self._name, self._tenth = name, 0
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            figures = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            console = Console(stderr=True)
            self._bar = Progress("{task.description}", BarColumn(), *figures, console=console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None)
        elif total and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            _console.say(f"{self._name}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB")
