"""What makes a checkpoint the best of a run: a figure of the validation, or the score of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scmodelforge.eval.records import read_scores
from scmodelforge.training._checkpoint_files import Scores, step_of, validated

__all__ = ["checkpoint_scores", "why_best"]


def checkpoint_scores(metric: str, results: Path) -> Scores:
    """Return what ranks checkpoints.

    Parameters
    ----------
    metric
        ``val/...``, where lower is better, or the key of a record, whose direction the record knows.
    results
        The run's ``results.jsonl``. What counts is the evaluation at a checkpoint's own step.
    """
    if metric.startswith("val/"):
        return validated(metric)

    def scores(paths: Iterable[Path]) -> dict[Path, float]:
        found = read_scores(results, metric)
        at = {path: found[step_of(path)] for path in paths if step_of(path) in found}
        return {path: -value if is_high else value for path, (value, is_high) in at.items()}

    return scores


def why_best(metric: str) -> str:
    """Return in words why a checkpoint is the best one."""
    what = {"val/loss": "lowest validation loss"}.get(metric)
    if what is None:
        what = f"lowest {metric}" if metric.startswith("val/") else f"best {metric}"
    return f"the {what} of the checkpoints kept"
