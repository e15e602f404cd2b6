"""The folder of a run on brain regions: see :mod:`scmodelforge.workflows.connectome` for what is in it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.config.connectome import dump_connectome_config, load_connectome_config
from scmodelforge.config.connectome_sections import ConnectomeConfig
from scmodelforge.training._files import put_folder, write_text
from scmodelforge.workflows.connectome.fold import FittedModel, FoldResult
from scmodelforge.workflows.connectome.plan import Fold
from scmodelforge.workflows.runfolder import check_writable, facts_of_command, refuse_used

__all__ = ["ConnectomeFolder", "settings_hash", "write_arrays"]

_OURS = re.compile(
    r"config\.yaml|record\.json|sessions\.jsonl|folds|scores\.(json|csv)|metrics\.json|comparison\.json|"
    r"predictions\.npz|gene_pairs\.csv|model(\.writing)?|report\.html|.*\.png|plots|\..*\.(writing|old)"
)
_METRICS = ("inner", "cross")


@dataclass(frozen=True)
class ConnectomeFolder:
    """Paths of a run, and how its files are written: whole, or not at all."""

    root: Path

    @property
    def model(self) -> Path:
        """Folder of the model that was fitted on all regions."""
        return self.root / "model"

    @property
    def go_on(self) -> str:
        """The command that goes on with the run."""
        return f"scmodelforge connectome train --resume {self.root}"

    def check_free(self, *, force: bool) -> None:
        """Make sure that a new run can be written here, before any work is done.

        Raises
        ------
        ConfigError, DataError
            If the folder holds something that may not be replaced, or cannot be written to.
        """
        is_run = (self.root / "record.json").is_file()
        refuse_used(self.root, _OURS, go_on=self.go_on if is_run else None, force=force)
        check_writable(self.root)

    def create(self, config: ConnectomeConfig, facts: Mapping[str, Any]) -> None:
        """Make the folder of a new run, deleting the run it replaces, and write its settings and facts."""
        if self.root.is_dir():
            shutil.rmtree(self.root)
        (self.root / "folds").mkdir(parents=True)
        write_text(self.root / "config.yaml", dump_connectome_config(config))
        self.write_json("record.json", {**facts_of_command(), "config_hash": settings_hash(config), **facts})

    @classmethod
    def read(cls, root: Path) -> tuple[ConnectomeFolder, ConnectomeConfig, dict[str, Any]]:
        """Return the paths, settings and facts of a run.

        Raises
        ------
        DataError
            If the folder is not that of such a run.
        ConfigError
            If its settings were changed.
        """
        missing = [name for name in ("config.yaml", "record.json") if not (root / name).is_file()]
        if missing:
            what = f"{', '.join(missing)} missing" if root.is_dir() else "no such folder"
            msg = f"{root} is not a connectome run ({what}); give the folder that scmodelforge connectome train wrote."
            raise DataError(msg)
        config = load_connectome_config(root / "config.yaml")
        facts = read_json_object(root / "record.json", "start a new run")
        if settings_hash(config) != facts.get("config_hash"):
            msg = f"{root / 'config.yaml'} was changed since the run began; restore it, or start a new run with it."
            raise ConfigError(msg)
        return cls(root), config, facts

    def add_seconds(self, seconds: float) -> None:
        """Add to the time that the run took so far."""
        facts = read_json_object(self.root / "record.json", "start a new run")
        self.write_json("record.json", {**facts, "seconds": float(facts.get("seconds", 0.0)) + seconds})

    def write_fold(self, fold: Fold, result: FoldResult) -> None:
        """Keep what is known of a fold; the file that says it is done is written last."""
        assert result.predicted is not None
        arrays = {"items": fold.split.inner, "predicted": result.predicted}
        write_arrays(self.root / "folds" / f"{fold.name}.npz", arrays)
        split = {"train_regions": fold.split.train_regions.tolist(), "test_regions": fold.split.test_regions.tolist()}
        self.write_json(f"folds/{fold.name}.json", {"rows": result.rows, **split, **result.facts})

    def read_fold(self, fold: Fold) -> FoldResult | None:
        """Return what is known of a fold, ``None`` if it is not done."""
        path = self.root / "folds" / f"{fold.name}.json"
        if not path.is_file():
            return None
        found = read_json_object(path, "delete it, and the fold is done again")
        split = fold.split
        drawn = {"train_regions": split.train_regions.tolist(), "test_regions": split.test_regions.tolist()}
        if any(found.get(name) != regions for name, regions in drawn.items()):
            return None  # of other data, or drawn by another version
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            return FoldResult(found["rows"], arrays["predicted"], found)

    def write_model(self, fitted: FittedModel) -> None:
        """Keep the model and what it reads."""
        temporary = self.root / "model.writing"
        shutil.rmtree(temporary, ignore_errors=True)
        fitted.model.save(temporary)
        fitted.inputs.save(temporary)
        put_folder(temporary, self.model)

    def write_json(self, name: str, values: Any) -> None:
        """Write plain values."""
        write_text(self.root / name, json.dumps(values, indent=1) + "\n")

    def write_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table as CSV."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        write_text(self.root / name, text.getvalue())

    def write_scores(self, rows: list[dict[str, Any]]) -> None:
        """Write the scores of all folds, as values and as a table."""
        self.write_json("scores.json", rows)
        plain = [name for name in rows[0] if name not in _METRICS]
        columns = [*plain, *(f"{part}_{name}" for part in _METRICS for name in rows[0][part])]
        cells = [[row[name] for name in plain] + [row[p][name] for p in _METRICS for name in row[p]] for row in rows]
        self.write_table("scores.csv", columns, cells)


def settings_hash(config: ConnectomeConfig) -> str:
    """Return the sha256 of the settings that make a run what it is: not where it lies, nor on what it computes."""
    values = config.model_dump(mode="json", exclude={"output": True, "training": {"accelerator"}, "data": {"path"}})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as npz: afterwards the file has the old or the new ones."""
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)
