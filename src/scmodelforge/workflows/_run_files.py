"""The files of a run folder, read as they are: whole, being written, or damaged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from scmodelforge._errors import DataError
from scmodelforge.eval.base import Record

__all__ = [
    "CheckpointFacts",
    "checkpoint_folder",
    "moment",
    "read_checkpoints",
    "read_lines",
    "read_plain_settings",
    "read_results",
]

_CHECKPOINT = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class CheckpointFacts:
    """A checkpoint of a run.

    Attributes
    ----------
    step, epoch
        Where training was.
    val_loss
        The validation loss at that step, ``None`` if there was no validation then.
    is_best, is_last
        Whether the run calls it so.
    """

    step: int
    epoch: int | None
    val_loss: float | None
    is_best: bool
    is_last: bool


def read_plain_settings(path: Path) -> dict[str, Any]:
    """Return the sections of a settings file as plain values."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        msg = f"{path}: cannot be read ({' '.join(str(problem).split())}); restore it, or start a new run."
        raise DataError(msg) from problem
    if not isinstance(found, dict):
        msg = f"{path}: holds no settings; restore it, or start a new run."
        raise DataError(msg)
    return {name: {} if section is None else section for name, section in found.items()}


def read_lines(path: Path, damage: list[str], *, needs: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a file's lines; a last line without an end is being written."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    found, bad = [], 0
    for line in text[: text.rfind("\n") + 1].splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and needs in value:
            found.append(value)
        else:
            bad += 1
    if bad:
        damage.append(f"{path.name}: {bad:,} lines are not records and are left out")
    return found


def read_results(path: Path, damage: list[str]) -> list[Record]:
    """Return the records of an evaluation; a file may be there or not, and its last line may be cut off."""
    found = []
    for line in read_lines(path, damage, needs="metric"):
        try:
            found.append(Record.from_dict(line))
        except DataError as problem:
            note = f"{path.name}: {problem}"
            if note not in damage:
                damage.append(note)
    return found


def checkpoint_folder(root: Path, settings: dict[str, Any]) -> Path:
    """Return where the checkpoints are; a run folder may have been moved with those inside it."""
    output = settings.get("output", {})
    folder = Path(output.get("checkpoint_dir") or root / "checkpoints")
    old_root = Path(output.get("run_dir") or root)
    return root / folder.relative_to(old_root) if folder.is_relative_to(old_root) else folder


def read_checkpoints(folder: Path) -> list[CheckpointFacts]:
    """Return the checkpoints of a folder, by step."""
    if not folder.is_dir():
        return []
    best, last = (_word(folder / name) for name in ("best", "last"))
    found = []
    for path in sorted(folder.iterdir()):
        if not _CHECKPOINT.fullmatch(path.name):
            continue
        step = int(path.name.removeprefix("step_"))
        epoch = loss = None
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            epoch = state["progress"]["epoch"]
            if state["validation"]["step"] == step:
                loss = state["validation"]["metrics"].get("val/loss")
        except (OSError, ValueError, KeyError, TypeError):
            pass  # damaged, or removed by the run meanwhile: listed without figures
        found.append(CheckpointFacts(step, epoch, loss, path.name == best, path.name == last))
    return sorted(found, key=lambda each: each.step)


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def moment(text: Any) -> float | None:
    """Return the seconds since 1970 of a time as runs write it, or ``None`` if it is none."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (TypeError, ValueError):
        return None
