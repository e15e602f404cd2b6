"""Where the outputs of official codes are kept: SCMODELFORGE_GOLDEN, or shared/golden beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2].parent / "shared" / "golden"


def golden_folder(name: str) -> Path:
    """Return the folder of a model's outputs; it need not exist."""
    return Path(os.environ.get("SCMODELFORGE_GOLDEN") or _BESIDE) / name


def needs(folder: Path) -> pytest.MarkDecorator:
    """Return the mark that skips tests where the folder is absent."""
    reason = f"the outputs of the official code are not here: no folder {folder}"
    return pytest.mark.skipif(not folder.is_dir(), reason=reason)
