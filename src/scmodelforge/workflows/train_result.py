"""What a finished run leaves."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from scmodelforge.eval.base import Record
from scmodelforge.eval.tables import Tables
from scmodelforge.workflows.runfolder import RunFolder
from scmodelforge.workflows.views import CellViews

__all__ = ["TrainResult"]


@dataclass
class TrainResult:
    """What a finished run leaves.

    Attributes
    ----------
    folder
        The run's folder.
    records
        Evaluation of the exported model and its baselines.
    views
        The held-out cells as the model and PCA see them, if they have labels.
    table
        Headings and rows of the metrics.
    notes
        Further lines for the user.
    next
        The command that uses the model.
    """

    folder: RunFolder
    records: list[Record]
    views: CellViews | None
    table: Tables
    notes: list[str] = field(default_factory=list)
    next: str = "embed YOUR.h5ad embedded.h5ad"

    def closing_lines(self) -> list[str]:
        """Return where the results lie and the next command to type."""
        lines = [*self.notes, f"model:   {self.folder.model}"]
        return [
            *lines,
            f"next:    scmodelforge {self.next} --model {shlex.quote(str(self.folder.root))}",
        ]
