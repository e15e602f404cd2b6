"""What a run that stops says of going on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scmodelforge._errors import Interrupted, RunError
from scmodelforge.workflows.runfolder import RunFolder

__all__ = ["saying_how_to_go_on"]


@contextmanager
def saying_how_to_go_on(folder: RunFolder, can_go_on: Callable[[], bool]) -> Iterator[None]:
    """Add the command that goes on with a run to what it says when it is stopped, or breaks.

    Parameters
    ----------
    folder
        Of the run.
    can_go_on
        Tells, once it was stopped, whether there is anything to go on from.
    """
    resume = f"scmodelforge train --resume {shlex.quote(str(folder.root))}"
    try:
        yield
    except Interrupted as stop:
        if not can_go_on():
            raise
        msg = f"{stop}\ncontinue with: {resume}"
        raise Interrupted(msg) from stop
    except RunError as broken:
        config = shlex.quote(str(folder.root / "config.yaml"))
        may = "training.batch_size, training.gradient_accumulation and training.guards may be changed"
        msg = f"{broken}\ngo on from the last checkpoint, before which {may} in {config}: {resume}"
        raise RunError(msg) from broken
