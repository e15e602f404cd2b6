"""``scmodelforge hub card``."""

from __future__ import annotations

from typing import Annotated

import typer


def card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Address of a model.")],
) -> None:
    """Print or renew the card of a model.

    Example: scmodelforge hub card runs/lung
    """
    raise NotImplementedError
