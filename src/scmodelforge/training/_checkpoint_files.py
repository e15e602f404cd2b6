"""The folders of checkpoints: written beside their place and renamed into it, listed, ranked, removed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from scmodelforge.training._files import sync_folder, write_manifest, write_text
from scmodelforge.training._snapshot import Snapshot
from scmodelforge.training._space import check_space, size_of

__all__ = [
    "Scores",
    "by_score",
    "list_checkpoints",
    "remove_superseded",
    "step_of",
    "validated",
    "write_checkpoint",
]

#: Returns the scores of those of some checkpoints that have one; lower is better.
Scores = Callable[[Iterable[Path]], dict[Path, float]]

_NAME = re.compile(r"step_(\d{8,})")
_WRITING = ".writing_"
_NUM_RECENT = 2


def write_checkpoint(target: Path, snapshot: Snapshot, save_model: Callable[[Path, Snapshot], None]) -> None:
    """Write a checkpoint that is whole when it has its name.

    Parameters
    ----------
    target
        Its folder.
    snapshot
        What it holds.
    save_model
        Writes the model folder.

    Raises
    ------
    OSError
        If there is too little room, before anything is written; or if writing fails, which leaves nothing behind.
    """
    from safetensors.torch import save_file

    folder = target.parent
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    before = list_checkpoints(folder)[-1:]
    check_space(folder, max([snapshot.num_bytes, *map(size_of, before)]))  # a model folder has more than tensors
    writing = folder / f"{_WRITING}{target.name}"
    try:
        writing.mkdir()
        save_model(writing / "model", snapshot)
        save_file(snapshot.tensors, str(writing / "state.safetensors"))
        write_text(writing / "state.json", json.dumps(snapshot.state, indent=1) + "\n")
        write_manifest(writing)
        if target.exists():  # a damaged one of the same step, left behind by a resumed run
            target.rename(folder / f"{_WRITING}old_{target.name}")
        writing.rename(target)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    sync_folder(folder)
    _remove_leftovers(folder)


def remove_superseded(folder: Path, step: int, *, save_top_k: int, scores: Scores) -> None:
    """Write ``last`` and ``best``, and keep the recent and the best checkpoints up to a step only.

    Later ones were damaged when the run was resumed from before them; the run has taken another way since.

    Parameters
    ----------
    folder
        Folder of the checkpoints.
    step
        The step of the latest one.
    save_top_k
        Number kept for their score.
    scores
        What says how good they are.
    """
    existing = list_checkpoints(folder)
    current = [path for path in existing if step_of(path) <= step]
    write_text(folder / "last", f"{current[-1].name}\n")
    best = by_score(current, scores)[:save_top_k]
    if best:
        write_text(folder / "best", f"{best[0].name}\n")
    kept = {*current[-_NUM_RECENT:], *best}
    for path in existing:
        if path not in kept:
            # Renamed first, so that no half-deleted folder looks like a checkpoint.
            path.rename(folder / f"{_WRITING}old_{path.name}")
    _remove_leftovers(folder)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the folders named as checkpoints, by step."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the step of a checkpoint."""
    return int(path.name.removeprefix("step_"))


def by_score(paths: Iterable[Path], scores: Scores) -> list[Path]:
    """Return those that have a score, the best first; of equal ones, the earlier."""
    found = scores(list(paths))
    return sorted(found, key=lambda path: (found[path], step_of(path)))


def validated(metric: str) -> Scores:
    """Return scores by a metric of the validation, of the checkpoints that were validated at their own step."""

    def scores(paths: Iterable[Path]) -> dict[Path, float]:
        found = {}
        for path in paths:
            try:
                validation = json.loads((path / "state.json").read_text(encoding="utf-8"))["validation"]
            except (OSError, ValueError, KeyError):  # damaged: never the best
                continue
            value = validation["metrics"].get(metric)
            if value is not None and validation["step"] == step_of(path):
                found[path] = value
        return found

    return scores


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(path)
