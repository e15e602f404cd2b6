"""Settings of a run that no file holds as they are, such as those of a recipe with the options of a command put in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["GivenSettings", "path_of"]


@dataclass(frozen=True)
class GivenSettings:
    """Settings in the place of a file.

    Attributes
    ----------
    values
        The settings, as a file would hold them.
    path
        What messages begin with, what plugins lie beside, and whose name the run has; it need not be there.
    """

    values: Mapping[str, Any]
    path: Path


def path_of(settings: str | Path | GivenSettings) -> Path:
    """Return the path of a settings file, or of what stands in its place."""
    return settings.path if isinstance(settings, GivenSettings) else Path(settings)
