"""The held-out cells as the model sees them, kept at each evaluation so that a report can draw them later.

``views/cells.json`` has the labels and batches of the cells, ``views/step_*.safetensors`` what the model made of them
at a step, ``views/baselines.safetensors`` what PCA and the untrained model make of them, ``views/model.safetensors``
what the exported model does. Embeddings wider than 50 are kept as their first 50 principal components, in 16 bits:
2,000 cells take 0.2 MB.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.eval.harness import stratified_subsample
from scmodelforge.training._files import write_text

__all__ = ["CellViews", "KeptCells", "SeenCells", "ViewFolder"]

_log = logging.getLogger(__name__)

_MAX_CELLS = 2000
_MAX_WIDTH = 50
_LARGEST = 60_000.0  # that 16 bits hold
_BASELINES = ("pca", "untrained")
_STEP = re.compile(r"step_(\d+)\.safetensors")


@dataclass
class CellViews:
    """Embeddings of the same cells, to be drawn side by side.

    Attributes
    ----------
    title
        What the cells are.
    embeddings
        By name, each shape (n, H).
    labels
        Shape (n,), str.
    """

    title: str
    embeddings: dict[str, np.ndarray]
    labels: np.ndarray


@dataclass
class SeenCells:
    """The scored cells of one data set, as last evaluated.

    Attributes
    ----------
    dataset
        Name of the data set in the results.
    model
        The model's embeddings, shape (n, H).
    baselines
        Those of the baselines, by name.
    labels, batches
        Shape (n,), str, empty where missing; ``None`` without such a column.
    label_key, batch_key
        The columns.
    """

    dataset: str
    model: np.ndarray
    baselines: dict[str, np.ndarray]
    labels: np.ndarray | None
    batches: np.ndarray | None
    label_key: str | None
    batch_key: str | None

    def views(self) -> CellViews | None:
        """Return the model's view beside that of PCA, or ``None`` without labels."""
        if self.labels is None:
            return None
        embeddings = {"model": self.model}
        if "pca" in self.baselines:
            embeddings["PCA of the counts"] = self.baselines["pca"]
        return CellViews(f"{self.dataset} cells, by {self.label_key}", embeddings, self.labels)


@dataclass
class KeptCells:
    """What a run kept of its held-out cells.

    Attributes
    ----------
    dataset, label_key, batch_key, labels, batches
        As in :class:`SeenCells`.
    num_scored
        Cells that were scored; those kept are a sample, where there are fewer.
    steps
        The model's embeddings by step, ascending, each shape (n, up to 50).
    others
        Those of the baselines, and of the exported model as ``model``.
    """

    dataset: str
    label_key: str | None
    batch_key: str | None
    labels: np.ndarray | None
    batches: np.ndarray | None
    num_scored: int
    steps: dict[int, np.ndarray]
    others: dict[str, np.ndarray]


class ViewFolder:
    """The folder ``views`` of a run.

    Parameters
    ----------
    folder
        The folder; made when something is kept.
    seed
        Seed of the sample of cells.
    """

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self.folder, self._seed = Path(folder), seed

    def keep(self, seen: SeenCells | None, *, step: int | None) -> None:
        """Write the model's view after a step (``None``: of the exported model), and the cells if not there yet."""
        if seen is None or len(seen.model) < 2:
            return
        try:
            self._keep(seen, step)
        except OSError as problem:  # pictures of a report are not worth a run
            _log.warning(f"{self.folder}: the held-out cells of this evaluation cannot be kept ({problem.strerror})")

    def _keep(self, seen: SeenCells, step: int | None) -> None:
        codes = np.zeros(len(seen.model), dtype=np.int64) if seen.labels is None else seen.labels
        rows = stratified_subsample(codes, _MAX_CELLS, self._seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "cells.json").exists():
            baselines = {name: seen.baselines[name][rows] for name in _BASELINES if name in seen.baselines}
            self._write("baselines", baselines)
            write_text(self.folder / "cells.json", json.dumps(_described(seen, rows)) + "\n")
        self._write("model" if step is None else f"step_{step:08d}", {"model": seen.model[rows]})

    def truncate(self, step: int) -> None:
        """Forget the views of later steps, and that of the exported model, when a run goes on from ``step``."""
        for path in self.folder.glob("*.safetensors"):
            found = _STEP.fullmatch(path.name)
            if path.name == "model.safetensors" or (found and int(found[1]) > step):
                path.unlink()

    def read(self) -> KeptCells | None:
        """Return what was kept, or ``None`` if nothing was.

        Raises
        ------
        DataError
            If a file is damaged.
        """
        path = self.folder / "cells.json"
        if not path.is_file():
            return None
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            size = about["num_kept"]
            steps = {int(m[1]): p for p in sorted(self.folder.iterdir()) if (m := _STEP.fullmatch(p.name))}
            others = [self.folder / f"{name}.safetensors" for name in ("baselines", "model")]
            return KeptCells(
                about["dataset"],
                about["label_key"],
                about["batch_key"],
                _text(about["labels"], size),
                _text(about["batches"], size),
                about["num_scored"],
                {step: _load(path, size)["model"] for step, path in sorted(steps.items())},
                {name: rows for path in others if path.is_file() for name, rows in _load(path, size).items()},
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError, _safetensors_error()) as problem:
            msg = f"{self.folder}: the views of the cells cannot be read ({problem}); remove the folder to go without."
            raise DataError(msg) from problem

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        from safetensors.numpy import save_file

        temporary = self.folder / f".{name}.tmp"
        save_file({key: _narrowed(rows) for key, rows in arrays.items()}, str(temporary))
        temporary.replace(self.folder / f"{name}.safetensors")


def _described(seen: SeenCells, rows: np.ndarray) -> dict[str, Any]:
    def coded(column: np.ndarray | None) -> dict[str, Any] | None:
        if column is None:
            return None
        categories, codes = np.unique(column[rows], return_inverse=True)
        return {"categories": categories.tolist(), "codes": codes.ravel().tolist()}

    return {
        "format_version": 1,
        "dataset": seen.dataset,
        "label_key": seen.label_key,
        "batch_key": seen.batch_key,
        "num_scored": len(seen.model),
        "num_kept": len(rows),
        "labels": coded(seen.labels),
        "batches": coded(seen.batches),
    }


def _narrowed(rows: np.ndarray) -> np.ndarray:
    """Return the first principal components of wide rows, in 16 bits where these hold them."""
    rows = np.asarray(rows, dtype=np.float64)
    if rows.shape[1] > _MAX_WIDTH:
        centred = rows - rows.mean(axis=0)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        rows = centred @ vectors[:, ::-1][:, :_MAX_WIDTH]
    kind = np.float16 if np.abs(rows).max(initial=0.0) < _LARGEST else np.float32
    return np.ascontiguousarray(rows.astype(kind))


def _text(column: dict[str, Any] | None, size: int) -> np.ndarray | None:
    if column is None:
        return None
    codes = np.asarray(column["codes"], dtype=np.int64)
    if codes.shape != (size,):
        msg = f"{codes.shape} labels of {size:,} cells"
        raise ValueError(msg)
    values: np.ndarray = np.asarray(column["categories"], dtype=str)[codes]
    return values


def _load(path: Path, size: int) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    arrays = {name: rows.astype(np.float32) for name, rows in load_file(str(path)).items()}
    if any(rows.ndim != 2 or len(rows) != size or not np.isfinite(rows).all() for rows in arrays.values()):
        msg = f"{path.name} does not fit the {size:,} cells of cells.json"
        raise ValueError(msg)
    return arrays


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError
