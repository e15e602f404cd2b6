"""Metrics as TensorBoard files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes scalars; the file is made with the first of them.

    Parameters
    ----------
    folder
        Folder of the files.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._writer: Any = None
        self._purge_step: int | None = None

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write the values whose names have a slash (``train/loss``)."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge_step)
        for name, value in values.items():
            if "/" in name:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def truncate(self, step: int) -> None:
        """Have readers forget what is past a step."""
        self.close()
        self._purge_step = step + 1

    def close(self) -> None:
        """Close the file. A later value opens another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
