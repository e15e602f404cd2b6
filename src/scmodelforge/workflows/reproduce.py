"""One score of a model, computed again with a copy of it: by which a user trusts what came back from elsewhere."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.eval.base import Record
from scmodelforge.eval.records import read_records
from scmodelforge.workflows.evaluate import Choices, evaluate_models

__all__ = ["Reproduction", "on_other_cells", "on_own_cells"]

_log = logging.getLogger(__name__)

_BENCHMARK = "cell_type_annotation"
_BASELINES = ("random",)
_FILES_OF_A_RUN = ("run.json", "config.yaml", "splits.json")
#: What another device or number of threads may move a score by: so much, or this share of half its interval.
_LEAST, _SHARE = 1e-3, 0.1


@dataclass
class Reproduction:
    """A score that is to be reached again.

    Attributes
    ----------
    wanted
        The record with it.
    score
        Computes the records of a model folder.
    found
        The value that was reached, once it is.
    """

    wanted: Record
    score: Callable[[Path], list[Record]]
    found: float | None = None

    def differences(self, folder: Path) -> list[str]:
        """Score a model folder, and return in words what is not as it was; nothing if the score is reached.

        Raises
        ------
        ConfigError, DataError
            If it cannot be scored.
        """
        again = _of_model(self.score(folder), self.wanted.key)
        self.found = None if again is None else again.value
        wanted = self.wanted.value
        assert wanted is not None
        if self.found is not None and abs(self.found - wanted) <= tolerance(self.wanted):
            return []
        return [f"{self.wanted.key} ({'none' if self.found is None else f'{self.found:.4f}'}, not {wanted:.4f})"]

    def describe(self) -> str:
        """Return in words what was reached."""
        return f"{self.wanted.key} is {self.found:.4f} ({self.wanted.value:.4f} here)"


def on_own_cells(run: Path) -> Reproduction | None:
    """Return the first score of a run's exported model on the cells that it held out; ``None`` if there is none.

    The copy is scored in the run's place: with its settings, on its cells, split as they were.
    """
    results = run / "exported_results.jsonl"
    records = read_records(results) if results.is_file() else []
    wanted = next((each for each in records if each.dataset == OWN_CELLS and _is_score(each)), None)
    if wanted is None:
        return None

    def score(folder: Path) -> list[Record]:
        with tempfile.TemporaryDirectory(prefix="scmodelforge-") as name:
            copy = Path(name)
            for each in _FILES_OF_A_RUN:
                shutil.copyfile(run / each, copy / each)
            if (run / "plugins").is_dir():
                shutil.copytree(run / "plugins", copy / "plugins")
            shutil.copytree(folder, copy / "model", ignore=shutil.ignore_patterns(".cache"))
            return _scored(copy, Choices(benchmarks=[wanted.benchmark], baselines=_BASELINES))

    return Reproduction(wanted, score)


def on_other_cells(model: Path, data: Path, label: str, *, trust_plugins: bool) -> Reproduction:
    """Score a model on some cells, and return the first score to be reached again.

    Parameters
    ----------
    model
        Model folder.
    data
        AnnData file; that the model may have been trained on its cells does not matter here.
    label
        obs column with the cell types.
    trust_plugins
        Import the Python files the model folder names.

    Raises
    ------
    ConfigError, DataError
        If the cells cannot be used.
    """

    def score(folder: Path) -> list[Record]:
        choices = Choices(
            data=data,
            label=label,
            benchmarks=[_BENCHMARK],
            baselines=_BASELINES,
            trust_plugins=trust_plugins,
            allow_trained_cells=True,
        )
        return _scored(folder, choices)

    wanted = next((each for each in score(model) if _is_score(each)), None)
    if wanted is None:
        msg = f"{data}: no score of '{_BENCHMARK}' is defined on these cells; name others with --data."
        raise DataError(msg)
    return Reproduction(wanted, score)


def tolerance(record: Record) -> float:
    """Return how far a score may be from a record on another device: 0.001, or a tenth of half its interval."""
    half = 0.0 if record.interval is None else (record.interval[1] - record.interval[0]) / 2
    return max(_LEAST, _SHARE * half)


def _scored(model: Path, choices: Choices) -> list[Record]:
    _log.info("scoring " + ("the run's held-out cells" if choices.data is None else str(choices.data)))
    try:
        return evaluate_models([model], choices).records
    except (ConfigError, DataError) as problem:
        msg = f"the score cannot be computed again: {problem}"
        raise DataError(msg) from problem


def _of_model(records: Iterable[Record], key: str) -> Record | None:
    return next((each for each in records if each.key == key and _is_score(each)), None)


def _is_score(record: Record) -> bool:
    return record.representation == "model" and record.value is not None and not record.is_detail
