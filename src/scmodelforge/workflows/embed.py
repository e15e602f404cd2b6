"""Cell embeddings of a trained model, written into a copy of an AnnData file. Cells are streamed, never held whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from scmodelforge._errors import DataError, Interrupted
from scmodelforge._wording import in_words_of
from scmodelforge.data.protocols import CellSource
from scmodelforge.hub.bundle import Bundle
from scmodelforge.hub.load import identity_of_weights, load_model
from scmodelforge.workflows.copies import check_copy, on_disk, put_rows, put_uns, write_copy
from scmodelforge.workflows.progress import Countdown
from scmodelforge.workflows.ready_cells import (
    COMMAND,
    ReadyCells,
    given,
    open_cells,
    provenance,
    ready_cells,
)

__all__ = ["OBSM_KEY", "embed_file"]

#: Name of the embeddings in ``obsm``, and of where they come from in ``uns``.
OBSM_KEY = "X_scmodelforge"
_CELLS_BETWEEN_SAVES = 10_000
#: Rows that are in memory at a time.
_ROWS_AT_ONCE = 4096


def embed_file(
    data: Path,
    out: Path,
    *,
    model: str | Path,
    batch_size: int,
    layer: str | None = None,
    gene_id_column: str | None = None,
    dictionaries: Path | None = None,
    trust_plugins: bool = False,
    force: bool = False,
) -> list[str]:
    """Write ``obsm['X_scmodelforge']`` and its provenance into a copy of an .h5ad file.

    Cells are aligned to the model by gene id and prepared as the model's own training cells were. Cells without any
    gene of the model's vocabulary get a row of NaN. An interrupted call goes on where it stopped when repeated.

    Returns
    -------
    Closing lines for the user.
    """
    check_copy(data, out, force=force)
    bundle = load_model(model, dictionaries=dictionaries, trust_plugins=trust_plugins)
    with in_words_of(COMMAND), closing(open_cells(data, layer=layer, gene_id_column=gene_id_column)) as source:
        cells = ready_cells(bundle, source)
        identity = _identity(source, bundle, [layer, gene_id_column])
        part = _embedded(bundle, cells, out, identity=identity, batch_size=batch_size)
    facts = provenance(bundle, cells)

    def change(file: object) -> None:
        put_rows(file, OBSM_KEY, part.rows(), (part.num_cells, part.num_columns))
        put_uns(file, OBSM_KEY, facts)

    write_copy(data, out, change)
    part.remove()
    return [
        f"{cells.coverage.known:,} of {cells.coverage.total:,} genes are in the model's vocabulary; "
        f"{len(cells.report.empty):,} of {part.num_cells:,} cells have none of them (NaN rows)",
        f"embeddings: {out} obsm['{OBSM_KEY}'] ({part.num_cells:,} x {part.width})",
        f'next: python -c "import anndata; print(anndata.read_h5ad({str(out)!r}))"',
    ]


def _embedded(bundle: Bundle, cells: ReadyCells, out: Path, *, identity: str, batch_size: int) -> _Partial:
    """Return the embeddings of all cells, in a file; what was done of them before is not done again."""
    num_cells = cells.report.num_cells
    with on_disk(out):
        part = _Partial.open(out, identity=identity, num_cells=num_cells)
    remaining = cells.positions[cells.positions >= part.done]
    countdown = Countdown("embed", total=len(remaining))
    try:
        with on_disk(out, kept=" What was done is kept, and the same command goes on from there."):
            for rows, vectors in given(bundle, cells, remaining, batch_size=batch_size):
                part.write(rows, vectors)
                if countdown.done // _CELLS_BETWEEN_SAVES != (countdown.done + len(rows)) // _CELLS_BETWEEN_SAVES:
                    part.flush()
                countdown.advance(len(rows))
            part.finish()
    except KeyboardInterrupt as stop:
        with on_disk(out):
            part.flush()
        msg = f"stopped after {part.done:,} of {num_cells:,} cells; the same command goes on from there."
        raise Interrupted(msg) from stop
    finally:
        part.close()
        countdown.close()
    return part


def _identity(source: CellSource, bundle: Bundle, read_as: list[str | None]) -> str:
    """Return a hash of all that embeddings depend on: the cells, how they are read, and the model."""
    facts = [
        identity_of_weights(bundle),
        bundle.model_config.model_dump(mode="json"),
        source.fingerprint(),
        read_as,
        bundle.vocab.digest(),
        bundle.tokenizer.to_dict(),
        bundle.preprocessor.to_dict(),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class _Partial:
    """Embeddings on their way to a file: a folder beside the output that a repeated call finds again.

    Rows are appended and read as from any file. If they were mapped into memory, they would count as the process's
    own, and a full disk would kill it.
    """

    def __init__(self, folder: Path, identity: str, num_cells: int, done: int, width: int | None) -> None:
        self.folder = folder
        self.identity = identity
        self.num_cells = num_cells
        self.done = done
        self.width = width
        self._file: BinaryIO | None = None

    @classmethod
    def open(cls, out: Path, *, identity: str, num_cells: int) -> _Partial:
        """Find the unfinished embeddings of the same cells and model, or begin new ones."""
        folder = out.with_name(out.name + ".partial")
        try:
            found = json.loads((folder / "state.json").read_text())
        except (OSError, ValueError):  # none, or killed before the first state was complete
            found = {}
        rows = folder / "rows.f32"
        size = 4 * (found.get("width") or 0) * found.get("done", 0)
        if found.get("identity") == identity and (not size or (rows.is_file() and rows.stat().st_size >= size)):
            return cls(folder, identity, num_cells, found["done"], found["width"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return cls(folder, identity, num_cells, 0, None)

    @property
    def num_columns(self) -> int:
        """Width of the embeddings, once there are some."""
        assert self.width is not None
        return self.width

    def write(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Keep the embeddings of some cells, which come in order of position; those left out are NaN."""
        self.width = vectors.shape[1]
        self._fill(int(rows[0]))
        between = np.full((int(rows[-1]) + 1 - self.done, self.width), np.nan, dtype=np.float32)
        between[rows - self.done] = vectors
        self._append(between)

    def flush(self) -> None:
        """Make what was written safe and say how far it goes."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        state = {"identity": self.identity, "done": self.done, "width": self.width}
        temporary = self.folder / "state.json.writing"
        temporary.write_text(json.dumps(state))
        temporary.replace(self.folder / "state.json")

    def finish(self) -> None:
        """Say that there are no more cells; those never written are NaN."""
        if self.width is None:
            msg = "no cell of the file has a gene of the model's vocabulary; nothing to embed."
            raise DataError(msg)
        self._fill(self.num_cells)
        self.flush()

    def rows(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, some at a time."""
        self.close()
        with (self.folder / "rows.f32").open("rb") as file:
            for part in iter(partial(file.read, 4 * self.num_columns * _ROWS_AT_ONCE), b""):
                yield np.frombuffer(part, dtype=np.float32).reshape(-1, self.num_columns)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete the folder."""
        self.close()
        shutil.rmtree(self.folder)

    def _fill(self, stop: int) -> None:
        while self.done < stop:
            missing = min(_ROWS_AT_ONCE, stop - self.done)
            self._append(np.full((missing, self.num_columns), np.nan, dtype=np.float32))

    def _append(self, rows: np.ndarray) -> None:
        if self._file is None:
            path = self.folder / "rows.f32"
            path.touch()
            self._file = path.open("r+b", buffering=0)  # what a full disk refuses must not wait to be refused again
            self._file.truncate(4 * self.num_columns * self.done)
            self._file.seek(0, 2)
        left = memoryview(rows.tobytes())
        while left:
            left = left[self._file.write(left) :]
        self.done += len(rows)
