"""Small brains for the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scmodelforge.connectome import RegionPairDataset

_BESIDE = Path(__file__).parents[2].parent / "shared" / "data" / "connectome"
SCHAEFER = Path(os.environ.get("SCMODELFORGE_CONNECTOME") or _BESIDE) / "schaefer114.npz"
needs_schaefer = pytest.mark.skipif(not SCHAEFER.is_file(), reason=f"the real connectome is not here: no {SCHAEFER}")


def arguments(num_regions: int = 12, num_genes: int = 5, seed: int = 0, *, directed: bool = False) -> dict[str, Any]:
    """Return what RegionPairDataset takes: half of the regions left, their twins right, three networks."""
    random = np.random.default_rng(seed)
    half = (num_regions + 1) // 2
    left = np.column_stack([-random.uniform(5, 60, half), random.uniform(-80, 80, half), random.uniform(-40, 60, half)])
    coords = np.concatenate([left, left * (-1, 1, 1) + random.normal(size=left.shape)])[:num_regions]
    y = random.normal(size=(num_regions, num_regions))
    return {
        "X": random.uniform(size=(num_regions, num_genes)),
        "Y": y if directed else (y + y.T) / 2,
        "coords": coords,
        "valid2true_mapping": {row: 10 + row for row in range(num_regions)},
        "dataset": "toy",
        "parcellation": f"T{num_regions}",
        "valid_genes": [f"G{gene}" for gene in range(num_genes)],
        "networks": [("Vis", "Mot", "Sub")[row % half % 3] for row in range(num_regions)],
    }


def brain(num_regions: int = 12, num_genes: int = 5, seed: int = 0, **changes: Any) -> RegionPairDataset:
    """Return pairs of regions, with other arguments where some are given."""
    directed = changes.pop("directed", False)
    return RegionPairDataset(**{**arguments(num_regions, num_genes, seed, directed=directed), **changes})
