"""The run's metrics: ``metrics.jsonl``, and TensorBoard files when wanted."""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import math
from pathlib import Path
from types import TracebackType
from typing import Any

from scmodelforge._optional import require
from scmodelforge.training._files import write_text

__all__ = ["MetricsLog"]

_log = logging.getLogger(__name__)


class MetricsLog:
    """One JSON object a line, in the order of logging. Nothing is written before the first record.

    In a run of several processes only the first one may log.

    Parameters
    ----------
    folder
        Folder of ``metrics.jsonl``; made when absent.
    tensorboard
        Whether to write TensorBoard files too; ``None`` does so when the package is installed.
    log_dir
        Folder of the TensorBoard files; ``None`` is ``folder``.

    Raises
    ------
    ImportError
        If ``tensorboard`` is true and the package is not installed.
    """

    def __init__(self, folder: Path, *, tensorboard: bool | None = None, log_dir: Path | None = None) -> None:
        if tensorboard:
            require("tensorboard", extra="log", why="output.tensorboard: true")
        elif tensorboard is None:
            tensorboard = importlib.util.find_spec("tensorboard") is not None
        self.path = Path(folder) / "metrics.jsonl"
        self._log_dir = Path(log_dir or folder)
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._purge_step: int | None = None
        self._unwritten = ""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Append a record; it is in the file when this returns.

        On a full disk it is kept and written with the next one, so that training can go on.

        Parameters
        ----------
        step
            Optimiser steps done.
        values
            Figures by name. Not-a-number and infinity are written as ``null``. Names with a slash (``train/loss``)
            go to TensorBoard too.
        """
        record = {"step": step, **{name: _as_json(value) for name, value in values.items()}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._append(json.dumps(record) + "\n")
        if self._tensorboard:
            self._write_events(step, values)

    def truncate(self, step: int) -> None:
        """Drop all records past a step, so that a resumed run has each step once. A torn last line is dropped too."""
        self.close()
        self._purge_step = step + 1
        if not self.path.exists():
            return
        kept = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                is_kept = json.loads(line)["step"] <= step
            except (json.JSONDecodeError, KeyError, TypeError):
                _log.warning(f"{self.path}: line {number} is not a record and is dropped")
                continue
            if is_kept:
                kept.append(f"{line}\n")
        write_text(self.path, "".join(kept))

    def close(self) -> None:
        """Close the TensorBoard file. A later record opens another one."""
        if self._unwritten:
            self._append("")
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, text: str) -> None:
        """Write what is waiting and a text, or keep both if there is no room."""
        is_first, text = not self._unwritten, self._unwritten + text
        with self.path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                is_written = file.write(text.encode()) == len(text.encode())
            except OSError as problem:
                if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                is_written = False
            if not is_written:
                file.truncate(size)  # no half a line
        self._unwritten = "" if is_written else text
        if is_first and not is_written:
            _log.warning(f"{self.path}: the disk is full; metrics are kept in memory until there is room")

    def _write_events(self, step: int, values: dict[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._log_dir), purge_step=self._purge_step)
        for name, value in values.items():
            if "/" in name:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()


def _as_json(value: float) -> float | None:
    return value if math.isfinite(value) else None
