"""The run's metrics: ``metrics.jsonl``, which is the truth, and what is made of it for eyes and other programs."""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from scmodelforge._errors import DataError
from scmodelforge._optional import require
from scmodelforge.config.schema import WandbConfig
from scmodelforge.training._csv import as_csv
from scmodelforge.training._files import write_text
from scmodelforge.training._tensorboard import TensorBoard
from scmodelforge.training._wandb import WeightsAndBiases

__all__ = ["MetricsLog", "Sink"]

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where metrics go beside the file. Its errors end it, not the run."""

    name: str

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the values of a step."""
        ...

    def truncate(self, step: int) -> None:
        """Forget what is past a step, as far as that can be."""
        ...

    def close(self) -> None:
        """Bring everything to where it belongs. Values may come later."""
        ...


class MetricsLog:
    """One JSON object a line, in the order of logging, and copies of it elsewhere.

    ``metrics.csv`` is made of it when the log is closed or truncated. Nothing is written before the first record. In
    a run of several processes only the first one may log. If the lines cannot be written the run stops: a disk that
    has no room for them has none for a checkpoint. Whatever else breaks is left out from there on, with a warning.

    Parameters
    ----------
    folder
        Folder of ``metrics.jsonl``; made when absent.
    tensorboard
        Whether to write TensorBoard files too; ``None`` does so when the package is installed.
    log_dir
        Folder of the TensorBoard files; ``None`` is ``folder``.
    wandb
        Settings of Weights & Biases; ``None`` does not log there.
    settings
        The settings of the run, for Weights & Biases.

    Raises
    ------
    ImportError
        If a package that is asked for is not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tensorboard: bool | None = None,
        log_dir: Path | None = None,
        wandb: WandbConfig | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        if tensorboard:
            require("tensorboard", extra="log", why="output.tensorboard: true")
        elif tensorboard is None:
            tensorboard = importlib.util.find_spec("tensorboard") is not None
        self.path = Path(folder) / "metrics.jsonl"
        self.table = self.path.with_suffix(".csv")
        self._sinks: list[Sink] = [TensorBoard(Path(log_dir or folder))] if tensorboard else []
        if wandb is not None and wandb.mode != "disabled":
            self._sinks.append(WeightsAndBiases(wandb, Path(folder), settings or {}))
        self._has_news = False  # for the table
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
            go elsewhere too.

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        record = {"step": step, **{name: _as_json(value) for name, value in values.items()}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append(json.dumps(record) + "\n")
        except OSError as problem:
            msg = f"{self.path}: metrics cannot be written ({problem.strerror}). Make room or mend access, then resume."
            raise DataError(msg) from problem
        self._has_news = True
        self._each(lambda sink: sink.log(step, values))

    def truncate(self, step: int) -> None:
        """Drop all records past a step, so that a resumed run has each step once. A torn last line is dropped too."""
        self._each(lambda sink: sink.truncate(step))
        self._keep(lambda record: record["step"] <= step)

    def reopen(self, step: int) -> None:
        """Drop, of the records of the last step, those of callbacks: only the loop's own have the clock (``epoch``)."""
        self._keep(lambda record: record["step"] < step or (record["step"] == step and "epoch" in record))

    def close(self) -> None:
        """Write the table and close what is open. A later record opens it again."""
        if self._unwritten:
            self._append("")
        if self._has_news:
            self._write_table()
        self._each(lambda sink: sink.close())

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self, is_wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Write the file anew with some of its records; a torn line is dropped."""
        if not self.path.exists():
            return
        kept = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                is_kept = is_wanted(json.loads(line))
            except (json.JSONDecodeError, KeyError, TypeError):
                _log.warning(f"{self.path}: line {number} is not a record and is dropped")
                continue
            if is_kept:
                kept.append(f"{line}\n")
        write_text(self.path, "".join(kept))
        self._write_table()

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

    def _each(self, act: Callable[[Sink], None]) -> None:
        """Let each sink do something, and leave out from there on those that fail."""
        for sink in list(self._sinks):
            try:
                act(sink)
            except Exception as problem:  # of any kind: they come from other packages, and from the network
                self._sinks.remove(sink)
                reason = " ".join(str(problem).split()) or type(problem).__name__
                _log.warning(
                    f"{sink.name} failed and gets no more metrics ({reason}); the run goes on, and {self.path} has "
                    "them all"
                )

    def _write_table(self) -> None:
        self._has_news = False
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            write_text(self.table, as_csv(json.loads(line) for line in lines))
        except (OSError, ValueError) as problem:  # the run may be ending for the same reason: that is the one to tell
            _log.warning(f"{self.table} cannot be written ({problem}); {self.path} has the metrics")


def _as_json(value: float) -> float | None:
    return value if math.isfinite(value) else None
