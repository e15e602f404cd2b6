"""``scmodelforge hub push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scmodelforge import _console
from scmodelforge.cli.hub.pull import quiet_unless_terminal


def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, or the folder of a finished run.")],
    repository: Annotated[
        str,
        typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face hub. It is made if there is none."),
    ],
    private: Annotated[
        bool,
        typer.Option("--private", help="Make the new repository private. One that is there and public is refused."),
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to upload to; made if there is none. Default: main.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, such as apache-2.0. Default: the one in its card.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="AnnData file (.h5ad) of labelled cells to score the model on. Default: the held-out cells of the run."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="With --data: obs column that has the cell types.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also replace a model that is not of scModelForge.")] = False,
    trust_plugins: Annotated[
        bool,
        typer.Option(
            help="Run the Python files that come with the model; without this it is refused if it needs them."
        ),
    ] = False,
) -> None:
    """Upload a model to the Hugging Face hub, download it again, and check that it is the same and scores the same.

    It is scored here first: nothing is uploaded if that fails. Log in once with 'hf auth login', or set HF_TOKEN.

    Example: scmodelforge hub push runs/lung owner/lung
    """
    from scmodelforge.workflows.push_model import push_model

    quiet_unless_terminal()
    lines = push_model(
        model,
        repository,
        private=private,
        revision=revision,
        licence=licence,
        data=data,
        label=label,
        force=force,
        trust_plugins=trust_plugins,
    )
    for line in lines:
        _console.say(line)
