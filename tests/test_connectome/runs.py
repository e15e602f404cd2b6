"""Small runs of ``scmodelforge connectome``, as a stranger types them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from scmodelforge.cli.main import app
from scmodelforge.workflows.connectome.train import ConnectomeResult, default_settings, start_connectome
from tests.test_connectome.brains import arguments

#: A model that is trained in a moment, three folds, and one baseline.
SMALL = (
    "split.folds=3",
    "model.d_model=8",
    "model.nhead=2",
    "model.deep_hidden_dims=[6]",
    "training.epochs=1",
    "training.batch_size=32",
    "training.accelerator=cpu",
    "baselines=[cge]",
)


def ask(*words: object) -> Any:
    """Run ``scmodelforge connectome`` and return what came of it."""
    return CliRunner().invoke(app, ["connectome", *(str(word) for word in words)])


def says(*words: object) -> str:
    """Return what a command that succeeds writes, its table before its talk."""
    result = ask(*words)
    assert result.exit_code == 0, result.output
    return f"{result.stdout}{result.stderr}"


def fails(*words: object) -> str:
    """Return the one error of a command that a user can mend."""
    result = ask(*words)
    assert result.exit_code == 2, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert line == result.stderr.splitlines()[-1]
    return line


def starts(*settings: str) -> ConnectomeResult:
    """Run what ``train`` does, but for the report, with settings after those of a small run."""
    return start_connectome(default_settings(), [*SMALL, *settings])


def sets(*settings: str) -> list[str]:
    """Return settings as a command takes them, after those of a small run."""
    return [word for each in (*SMALL, *settings) for word in ("--set", each)]


def regions_file(path: Path, **changes: Any) -> Path:
    """Write regions as npz, with other arrays where some are given; ``None`` leaves an array out."""
    made = arguments(num_regions=18, num_genes=6)
    arrays = {
        "expression": made["X"],
        "fc": made["Y"],
        "coords": made["coords"],
        "genes": np.asarray(made["valid_genes"]),
        "regions": np.asarray([f"R{row}" for row in range(18)]),
        "network": np.asarray(made["networks"]),
        **changes,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path
