"""The file of a model folder that tells which cells the model was trained on."""

from __future__ import annotations

from pathlib import Path

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
    facts = {"is_whole": str(sketch.is_whole).lower(), "num_genes": str(sketch.num_genes)}
    save_file({"identities": sketch.identities}, path, metadata=facts)


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
            identities = found.get_tensor("identities")
        return CellSketch(identities, facts["is_whole"] == "true", int(facts["num_genes"]))
    except (SafetensorError, KeyError, ValueError) as problem:
        msg = f"{path}: damaged or not a sketch of cells ({problem}). Copy or export the model again."
        raise DataError(msg) from problem
