"""Cell embeddings of a trained model, written into a copy of an AnnData file. Cells are streamed, never held whole."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scmodelforge import __version__
from scmodelforge._errors import DataError, Interrupted
from scmodelforge.data.coverage import Coverage
from scmodelforge.data.inspect import describe_gene_ids
from scmodelforge.data.protocols import CellSource
from scmodelforge.data.scan import ScanReport, scan
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.data.types import Panel
from scmodelforge.eval.embed import embed_batches
from scmodelforge.hub.bundle import Bundle, load_bundle
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows.outputs import check_output
from scmodelforge.workflows.prepare import Readable, open_source, sequential_loader
from scmodelforge.workflows.progress import Countdown

__all__ = ["OBSM_KEY", "ReadyCells", "embed_file", "embedded", "find_model_folder", "ready_cells"]

_log = logging.getLogger(__name__)

OBSM_KEY = "X_scmodelforge"
_CELLS_BETWEEN_SAVES = 10_000


def find_model_folder(path: Path) -> Path:
    """Return the model folder at a path: the folder itself, or the exported model of a run folder.

    Raises
    ------
    DataError
        If there is neither.
    """
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    what = "no such folder" if not path.exists() else "no config.json in it or in its folder 'model'"
    msg = f"{path} is neither a model folder nor a run folder with an exported model ({what})."
    raise DataError(msg)


def embed_file(
    data: Path,
    out: Path,
    *,
    model: Path,
    batch_size: int,
    layer: str | None = None,
    gene_id_column: str | None = None,
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
    check_output(out, force=force)
    if out.exists() and data.exists() and out.samefile(data):
        msg = f"{out} is the input itself; choose another name for the output."
        raise DataError(msg)
    bundle = load_bundle(find_model_folder(model), trust_plugins=trust_plugins)
    cells = ready_cells(bundle, data, layer=layer, gene_id_column=gene_id_column)
    report, coverage = cells.report, cells.coverage
    part = _Partial.open(out, identity=_identity(cells.source, bundle, cells.config), num_cells=report.num_cells)
    remaining = cells.positions[cells.positions >= part.done]
    countdown = Countdown("embed", total=len(remaining))
    try:
        for rows, vectors in embedded(bundle, cells, remaining, batch_size=batch_size):
            part.write(rows, vectors)
            if countdown.done // _CELLS_BETWEEN_SAVES != (countdown.done + len(rows)) // _CELLS_BETWEEN_SAVES:
                part.flush()
            countdown.advance(len(rows))
    except KeyboardInterrupt as stop:
        part.flush()
        msg = f"stopped after {part.done:,} of {report.num_cells:,} cells; the same command goes on from there."
        raise Interrupted(msg) from stop
    finally:
        countdown.close()
        cells.source.close()
    _write_copy(data, out, part.finish(), bundle=bundle, coverage=(coverage.known, coverage.total))
    part.remove()
    return [
        f"{coverage.known:,} of {coverage.total:,} genes are in the model's vocabulary; "
        f"{len(report.empty):,} of {report.num_cells:,} cells have none of them (NaN rows)",
        f"embeddings: {out} obsm['{OBSM_KEY}'] ({report.num_cells:,} x {part.width})",
        f'next: python -c "import anndata; print(anndata.read_h5ad({str(out)!r}))"',
    ]


@dataclass(frozen=True)
class ReadyCells:
    """The cells of a file as a model takes them.

    Attributes
    ----------
    source, config
        Where the cells are, and how they are read.
    coverage
        The genes the model knows.
    report
        The number of cells, and those without any of these genes.
    """

    source: Any
    config: LocalDataConfig
    coverage: Coverage
    report: ScanReport

    @property
    def positions(self) -> np.ndarray:
        """The cells that can be embedded, ascending."""
        return np.setdiff1d(np.arange(self.report.num_cells), self.report.empty)


def ready_cells(bundle: Bundle, data: Path, *, layer: str | None, gene_id_column: str | None) -> ReadyCells:
    """Open a file and check that a model can embed its cells; the caller closes the source.

    Raises
    ------
    DataError
        If the file cannot be read, has values a model cannot take, or none of the model's genes.
    """
    config = LocalDataConfig(paths=[str(data)], layer=layer, gene_id_column=gene_id_column)
    source = open_source(config)
    panel = source.panels[0]
    for line in getattr(source, "describe", list)():
        _log.info(line)
    _require_known_genes(bundle, panel)
    report = scan(source, bundle.vocab, expects=bundle.tokenizer.expects)
    return ReadyCells(source, config, bundle.vocab.coverage(panel), report)


def embedded(
    bundle: Bundle, cells: ReadyCells, positions: np.ndarray, *, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions, shape (B,), and embeddings, shape (B, H), of some of the cells in order of position."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with sequential_loader(
        Readable(cells.source, bundle.tokenizer, bundle.preprocessor.fitted(cells.source)),
        positions,
        collate=lambda tokens: collate_for_encoding(tokens, pad_id=bundle.vocab.pad_id),
        config=cells.config,
        batch_size=batch_size,
        seed=0,
    ) as loader:
        batches = (batch for group in loader.one_pass() for batch in group)
        yield from embed_batches(bundle.model.to(device), batches, device=device)


def _require_known_genes(bundle: Bundle, panel: Panel) -> None:
    if (bundle.vocab.map_panel(panel) >= 0).any():
        return
    msg = (
        f"None of the {len(panel.gene_ids):,} genes of {panel.name} are in the model's vocabulary. They look like "
        f"{describe_gene_ids(panel.gene_ids)}, the model's like {describe_gene_ids(bundle.vocab.genes)}; if another "
        "var column has ids of the model's kind, name it with --gene-id-column."
    )
    raise DataError(msg)


def _identity(source: CellSource, bundle: Bundle, config: LocalDataConfig) -> str:
    """Return a hash of all that embeddings depend on: the cells, how they are read, and the model."""
    found = hashlib.sha256()
    for tensor in bundle.model.state_dict().values():
        found.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    facts = [
        source.fingerprint(),
        [config.layer, config.gene_id_column],
        bundle.vocab.digest(),
        bundle.tokenizer.to_dict(),
        bundle.preprocessor.to_dict(),
    ]
    found.update(json.dumps(facts, sort_keys=True).encode())
    return found.hexdigest()


class _Partial:
    """Embeddings on their way to a file: a folder beside the output that a repeated call finds again."""

    def __init__(self, folder: Path, identity: str, num_cells: int, done: int, width: int | None) -> None:
        self.folder = folder
        self.identity = identity
        self.num_cells = num_cells
        self.done = done
        self.width = width
        self._rows: np.ndarray | None = None

    @classmethod
    def open(cls, out: Path, *, identity: str, num_cells: int) -> _Partial:
        """Find the unfinished embeddings of the same cells and model, or begin new ones."""
        folder = out.with_name(out.name + ".partial")
        try:
            found = json.loads((folder / "state.json").read_text())
        except (OSError, ValueError):  # none, or killed before the first state was complete
            found = {}
        if found.get("identity") == identity:
            return cls(folder, identity, num_cells, found["done"], found["width"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return cls(folder, identity, num_cells, 0, None)

    def write(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Keep the embeddings of some cells, which come in order of position."""
        if self.width is None:
            self.width = vectors.shape[1]
            self._array("w+")[:] = np.nan
        self._array("r+")[rows] = vectors
        self.done = int(rows[-1]) + 1

    def flush(self) -> None:
        """Make what was written safe on disk and say how far it goes."""
        if self._rows is not None:
            self._rows.flush()  # type: ignore[attr-defined]
        state = {"identity": self.identity, "done": self.done, "width": self.width}
        temporary = self.folder / "state.json.writing"
        temporary.write_text(json.dumps(state))
        temporary.replace(self.folder / "state.json")

    def finish(self) -> np.ndarray:
        """Return all rows; cells never written are NaN."""
        if self.width is None:
            msg = "no cell of the file has a gene of the model's vocabulary; nothing to embed."
            raise DataError(msg)
        return self._array("r+")

    def remove(self) -> None:
        """Delete the folder."""
        self._rows = None
        shutil.rmtree(self.folder)

    def _array(self, mode: str) -> np.ndarray:
        if self._rows is None:
            path = self.folder / "rows.f32"
            self._rows = np.memmap(path, dtype=np.float32, mode=mode, shape=(self.num_cells, self.width))  # type: ignore[call-overload]
        return self._rows


def _write_copy(data: Path, out: Path, rows: np.ndarray, *, bundle: Bundle, coverage: tuple[int, int]) -> None:
    import h5py
    from anndata.io import write_elem

    temporary = out.with_name(out.name + ".writing")
    provenance = {
        "scmodelforge_version": __version__,
        "model_id": bundle.model_id,
        "architecture": bundle.model_config.architecture,
        "genes_known": coverage[0],
        "genes_total": coverage[1],
        "preprocessing": json.dumps(bundle.preprocessor.to_dict()),
    }
    try:
        shutil.copyfile(data, temporary)
        with h5py.File(temporary, "r+") as file:
            group = file["obsm"] if "obsm" in file else file.create_group("obsm")
            if OBSM_KEY in group:
                del group[OBSM_KEY]
            write_elem(group, OBSM_KEY, np.asarray(rows))
            if "uns" not in file:
                write_elem(file, "uns", {})
            write_elem(file["uns"], "scmodelforge", provenance)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
