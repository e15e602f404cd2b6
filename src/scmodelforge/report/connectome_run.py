"""What a run of connectome models left in its folder, read and checked."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scmodelforge._errors import DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.report.connectome_tables import (
    ADVICE,
    GenePair,
    Score,
    fault,
    read_comparisons,
    read_gene_pairs,
    read_scores,
)
from scmodelforge.workflows.connectome.standing import Comparison, Standing, standings

__all__ = ["ConnectomeRun", "read_connectome_run"]


@dataclass(frozen=True)
class ConnectomeRun:
    """The files of a run.

    Attributes
    ----------
    root
        The folder.
    true, predicted
        Connectivity, shape (R, R), float64; ``predicted`` is NaN where there is no prediction.
    coords
        Places in mm, shape (R, 3), or ``None``.
    regions, networks
        Names, one for each region; ``networks`` may be ``None``.
    scores, comparisons
        Rows of the files, in their order.
    gene_pairs
        By attention, the largest first; ``None`` where the run has none.
    config, record
        What was set, and what the run says of itself.
    """

    root: Path
    true: np.ndarray
    predicted: np.ndarray
    coords: np.ndarray | None
    regions: list[str]
    networks: list[str] | None
    scores: list[Score]
    comparisons: list[Comparison]
    gene_pairs: list[GenePair] | None
    config: dict[str, Any]
    record: dict[str, Any]

    @cached_property
    def standings(self) -> list[Standing]:
        """All predictors, the best first."""
        return standings([vars(score) for score in self.scores])

    @property
    def predictor(self) -> str:
        """What the predictions are of, in words: the model, whoever is best."""
        names = list(dict.fromkeys(score.name for score in self.scores if score.kind == "model"))
        return f"the model {names[0]}" if len(names) == 1 else "the model"


def read_connectome_run(folder: Path) -> ConnectomeRun:
    """Read the folder of a connectome run.

    Raises
    ------
    DataError
        If it is no folder, or a file is missing, broken, or does not fit the others.
    """
    root = Path(folder)
    if not root.is_dir():
        msg = f"{root}: is no folder; {ADVICE}."
        raise DataError(msg)
    scores = read_scores(root / "scores.json")
    return ConnectomeRun(
        root=root,
        **_read_predictions(root / "predictions.npz"),
        scores=scores,
        comparisons=read_comparisons(root / "comparison.json", {score.name for score in scores}),
        gene_pairs=read_gene_pairs(root / "gene_pairs.csv"),
        config=_read_config(root / "config.yaml"),
        record=read_json_object(root / "record.json", ADVICE),
    )


def _read_predictions(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as problem:
        raise fault(path, f"cannot be read ({problem.strerror or problem})") from problem
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
        raise fault(path, f"not readable as arrays ({problem})") from problem
    missing = [name for name in ("true", "predicted", "regions") if name not in arrays]
    if missing:
        raise fault(path, f"has no array '{missing[0]}'")
    regions = arrays["regions"]
    count = len(regions) if regions.ndim == 1 else 0
    if count < 2:
        raise fault(path, f"regions has the shape {regions.shape}, needs the names of two regions or more")
    shapes = {"true": (count, count), "predicted": (count, count), "coords": (count, 3), "network": (count,)}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise fault(path, f"{name} has the shape {arrays[name].shape}, needs {shape} as there are {count} regions")
    numbers = {name: _numeric(path, name, arrays[name]) for name in ("true", "predicted", "coords") if name in arrays}
    if not np.isfinite(numbers["true"][~np.eye(count, dtype=bool)]).all():
        raise fault(path, "true has NaN between regions")
    if "coords" in numbers and not np.isfinite(numbers["coords"]).all():
        raise fault(path, "coords has NaN")
    return {
        "true": numbers["true"],
        "predicted": numbers["predicted"],
        "coords": numbers.get("coords"),
        "regions": [str(name) for name in regions],
        "networks": [str(name) for name in arrays["network"]] if "network" in arrays else None,
    }


def _numeric(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiu":
        raise fault(path, f"{name} holds {values.dtype}, needs numbers")
    if np.isinf(values).any():
        raise fault(path, f"{name} has infinite values")
    return values.astype(np.float64)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise fault(path, f"cannot be read ({problem.strerror})") from problem
    except (yaml.YAMLError, ValueError) as problem:
        raise fault(path, f"not readable as YAML ({problem})") from problem
    if not isinstance(found, dict):
        raise fault(path, f"holds {type(found).__name__}, needs settings")
    return found
