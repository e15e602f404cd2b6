"""The file of a model folder that tells which cells the model was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.cell_sketch import CellSketch

__all__ = ["SKETCH_FILE", "load_sketch", "save_sketch"]

SKETCH_FILE = "trained_cells.safetensors"


def save_sketch(sketch: CellSketch | None, folder: Path) -> None:
    """Write the sketch into a model folder, or take away one that is there if nothing is known."""
    from safetensors.numpy import save_file

    path = folder / SKETCH_FILE
    if sketch is None:
        path.unlink(missing_ok=True)
        return
    facts = {"is_whole": str(sketch.is_whole).lower(), "num_genes": str(len(sketch.genes))}
    if not sketch.is_complete:
        facts["is_complete"] = "false"
    save_file({"identities": sketch.identities, "genes": np.packbits(sketch.genes)}, path, metadata=facts)


def load_sketch(folder: Path) -> CellSketch | None:
    """Read the sketch of a model folder, ``None`` if it has none.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / SKETCH_FILE
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="numpy") as found:
            facts = found.metadata() or {}
            identities, bits = found.get_tensor("identities"), found.get_tensor("genes")
        genes = np.unpackbits(bits, count=int(facts["num_genes"])).astype(bool)
        sketch = CellSketch(identities, facts["is_whole"] == "true", genes, facts.get("is_complete") != "false")
        _check(sketch)
    except (SafetensorError, KeyError, TypeError, ValueError) as problem:
        msg = f"{path}: damaged or not a sketch of cells ({problem}). Copy or export the model again."
        raise DataError(msg) from problem
    return sketch


def _check(sketch: CellSketch) -> None:
    found = sketch.identities
    if found.dtype != np.uint64 or found.ndim != 1 or bool((found[1:] <= found[:-1]).any()):
        msg = f"identities are {found.dtype} {found.shape}, ascending uint64 are needed"
        raise ValueError(msg)
    if not sketch.is_whole and not len(found):
        msg = "a part of no identities"
        raise ValueError(msg)
