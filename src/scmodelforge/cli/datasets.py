"""``scmodelforge datasets``: real data sets known by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from scmodelforge import _console

app = typer.Typer(help="Real data sets known by name.", no_args_is_help=True)


@app.callback()
def datasets() -> None:
    """Real data sets known by name."""


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """List the data sets; a settings file names one as dataset://NAME.

    Example: scmodelforge datasets list
    """
    from scmodelforge.datasets import info, list_datasets

    rows = [asdict(info(name)) for name in list_datasets()]
    if as_json:
        _console.json_line(rows)
        return
    columns = ["name", "cells", "genes", "description"]
    _console.table(columns, [[str(row[column]) for column in columns] for row in rows])
