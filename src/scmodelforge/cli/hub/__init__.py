"""``scmodelforge hub``: download, upload, import and export models. One file for each command."""

from __future__ import annotations

import typer

from scmodelforge.cli.hub import card, export, import_, pull, push

app = typer.Typer(help="Download, upload, import and export models.", no_args_is_help=True)


@app.callback()
def hub() -> None:
    """Download, upload, import and export models."""


app.command("pull")(pull.pull)
app.command("push")(push.push)
app.command("import")(import_.import_)
app.command("export")(export.export)
app.command("card")(card.card)
