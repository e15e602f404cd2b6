"""``scmodelforge hub import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder as it was published, hf://owner/name or scmodelforge://name.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")],
    dictionaries: Annotated[
        Path | None,
        typer.Option(help="Folder with the gene dictionaries it came with. Default: those that 'tokenizer fetch' got."),
    ] = None,
    importer: Annotated[
        str | None,
        typer.Option(help="Format it was published in, such as geneformer or scgpt. Default: recognised by its files."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model in FOLDER, if one is there.")] = False,
) -> None:
    """Convert a published model (Geneformer, scGPT, ...) into a model folder of scModelForge.

    Example: scmodelforge hub import scmodelforge://geneformer-v2 models/geneformer
    """
    from scmodelforge.workflows.import_model import import_model

    for line in import_model(source, out, dictionaries=dictionaries, importer=importer, force=force):
        _console.say(line)
