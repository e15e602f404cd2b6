"""Where a run comes from: the state of the working directory's code, and the versions of the packages used."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge.config.schema import RunConfig

if TYPE_CHECKING:
    from scmodelforge.workflows.prepare import PreparedData

__all__ = ["data_facts", "git_state", "package_versions"]

_PACKAGES = ("anndata", "lightning-fabric", "numba", "numpy", "pandas", "safetensors", "scikit-learn", "scipy", "torch",
             "zarr")  # fmt: skip
_SECONDS = 10
_MOST_CATEGORIES = 200


def git_state(folder: Path | None = None) -> dict[str, Any] | None:
    """Return the revision checked out in a folder and whether files differ from it, or ``None`` outside of git.

    Parameters
    ----------
    folder
        ``None`` is the working directory.
    """
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a run's numbers depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an installation without metadata
            continue
    return found


def data_facts(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Return what is known of a run's data beside its files: vocabulary, genes found, cells of each label and batch."""
    panels = data.source.panels
    return {
        "vocabulary": {"name": data.vocab.name, "genes": len(data.vocab.genes), "tokens": len(data.vocab)},
        "overlap": [
            {
                "name": panel.name,
                "genes": len(panel.gene_ids),
                "known": int((data.vocab.map(panel.gene_ids) >= 0).sum()),
            }
            for panel in panels
        ],
        "columns": {
            kind: _counts(data, column)
            for kind, column in (("label", config.data.label_column), ("batch", config.data.batch_column))
            if column is not None
        },
    }


def _counts(data: PreparedData, column: str) -> dict[str, Any]:
    """Return the cells of each category that are trained on and held out, the largest categories first."""
    codes, categories = data.source.obs(column)
    names = [*map(str, categories), ""]  # code -1, a missing value, is the last
    parts = [np.bincount(codes[part] % len(names), minlength=len(names)) for part in (data.split.train,
             data.split.validation)]  # fmt: skip
    order = np.argsort(-(parts[0] + parts[1]), kind="stable")
    present = [code for code in order if parts[0][code] + parts[1][code]]
    return {
        "column": column,
        "num_categories": len(present),
        "categories": [[names[code], int(parts[0][code]), int(parts[1][code])] for code in present[:_MOST_CATEGORIES]],
    }


def _git(folder: Path | None, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no answer
        return None
    return done.stdout.strip()
