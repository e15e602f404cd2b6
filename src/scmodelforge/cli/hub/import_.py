"""``scmodelforge hub import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder as published, hf://owner/name, or scmodelforge://name.")
    ],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Model folder to write.")],
    dictionaries: Annotated[
        Path | None, typer.Option(help="Folder with the dictionaries of its tokens; default those that were fetched.")
    ] = None,
    importer: Annotated[str | None, typer.Option(help="What reads it; default what recognises the folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model folder that is there.")] = False,
) -> None:
    """Write a published model as a model folder of ours.

    Example: scmodelforge hub import scmodelforge://geneformer-v2 models/geneformer
    """
    from scmodelforge.workflows.import_model import import_model

    for line in import_model(source, out, dictionaries=dictionaries, importer=importer, force=force):
        _console.say(line)
