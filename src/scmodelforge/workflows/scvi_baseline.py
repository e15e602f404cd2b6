"""scVI as a baseline: trained by this package's own loop on the training cells of an evaluation, and on no others."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from scmodelforge._optional import require
from scmodelforge.config.files import write_yaml
from scmodelforge.data.sources.local import LocalDataConfig
from scmodelforge.eval.baselines import variable_genes
from scmodelforge.eval.embed import embed_cells
from scmodelforge.hub.bundle import load_bundle
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows.prepare import Readable, open_source, sequential_loader

__all__ = ["FittedCells", "check_scvi", "scvi_embedding"]

_log = logging.getLogger(__name__)
_BATCH_SIZE = 128
_LATENT = 10


class FittedCells(Protocol):
    """Cells of which the first ones are fitted on."""

    @property
    def num_train(self) -> int:
        """How many are fitted on."""

    @property
    def batches(self) -> np.ndarray | None:
        """Batch of each cell, shape (n,), if it is known."""

    @property
    def seed(self) -> int:
        """Seed of what is drawn."""


def check_scvi() -> None:
    """Make sure that scvi-tools is there.

    Raises
    ------
    ImportError
        If it is not; the message has the command that installs it.
    """
    require("scvi", extra="scvi", why="The baseline 'scvi'")


def scvi_embedding(cells: FittedCells, counts: Any) -> np.ndarray:
    """Train scVI on the training cells and return the latent means of all cells.

    The 2000 most variable genes of the training cells, the batch as a covariate of the decoder, the settings and the
    number of epochs of scvi-tools (Lopez et al. 2018, doi:10.1038/s41592-018-0229-2; Gayoso et al. 2022).

    Parameters
    ----------
    cells
        The cells.
    counts
        Their counts, CSR (n, G), training cells first.

    Returns
    -------
    Shape (n, 10), float32. A cell without any of the genes gets zeros, the mean of the prior.
    """
    check_scvi()
    counts = counts[:, variable_genes(counts[: cells.num_train])].tocsr()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root / "train.h5ad", cells, counts, slice(None, cells.num_train))
        _write(root / "all.h5ad", cells, counts, slice(None))
        _train(root, cells, num_genes=counts.shape[1])
        return _embed(root, np.flatnonzero(np.diff(counts.indptr)), num_cells=counts.shape[0])


def _write(path: Path, cells: FittedCells, counts: Any, rows: slice) -> None:
    import anndata as ad
    import pandas as pd

    matrix = counts[rows].astype(np.float32)
    obs = pd.DataFrame(index=[f"cell{number}" for number in range(matrix.shape[0])])
    if cells.batches is not None:
        obs["batch"] = pd.Categorical(cells.batches[rows])
    # Names of no gene of any species: they are not to be translated.
    var = pd.DataFrame(index=[f"column{number}" for number in range(matrix.shape[1])])
    ad.AnnData(X=matrix, obs=obs, var=var).write_h5ad(path)


def _train(root: Path, cells: FittedCells, *, num_genes: int) -> None:
    from scmodelforge.workflows.pretrain import start_training  # it makes evaluators, which use this module

    epochs = _epochs(cells.num_train)
    uses_batches = cells.batches is not None and bool((cells.batches[: cells.num_train] != "").all())
    data: dict[str, Any] = {"paths": [str(root / "train.h5ad")], "gene_vocab": "from_data"}
    data["split"] = {"by": "cells", "validation_fraction": 0.0}
    if uses_batches:
        data["batch_column"] = "batch"
    settings = {
        "data": data,
        "tokenizer": {
            "strategy": "continuous_projection",
            "value_transform": "counts",
            "max_genes": num_genes + 1,
        },
        "model": {"architecture": "scvi", "latent_dim": _LATENT, "use_batches": uses_batches},
        "training": {
            "batch_size": _BATCH_SIZE,
            "max_epochs": epochs,
            "optimizer": {"lr": 1e-3, "weight_decay": 1e-6, "eps": 0.01},
            "scheduler": {"name": "constant"},
            "gradient_clip": None,
            "precision": "32-true",
            "seed": cells.seed,
        },
        "output": {"run_dir": str(root / "run"), "save_top_k": 0, "tensorboard": False},
    }
    (root / "scvi.yaml").write_text(write_yaml(settings))
    _log.info(f"baseline scvi: trained on {cells.num_train:,} cells, {num_genes:,} genes, {epochs} epochs")
    package = logging.getLogger("scmodelforge")
    level = package.level
    package.setLevel(logging.WARNING)
    try:
        start_training(root / "scvi.yaml")
    finally:
        package.setLevel(level)


def _epochs(num_cells: int) -> int:
    """Return how many epochs scvi-tools would train for."""
    return max(1, min(round(20_000 / num_cells * 400), 400))


def _embed(root: Path, positions: np.ndarray, *, num_cells: int) -> np.ndarray:
    bundle = load_bundle(root / "run" / "model")
    config = LocalDataConfig(paths=[str(root / "all.h5ad")])
    source = open_source(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with sequential_loader(
        Readable(source, bundle.tokenizer, bundle.preprocessor.fitted(source)),
        positions,
        collate=lambda tokens: collate_for_encoding(tokens, pad_id=bundle.vocab.pad_id),
        config=config,
        batch_size=_BATCH_SIZE,
        seed=0,
    ) as loader:
        batches = (batch for group in loader.one_pass() for batch in group)
        vectors = embed_cells(bundle.model.to(device), batches, positions=positions, device=device)
    source.close()
    found = np.zeros((num_cells, vectors.shape[1]), dtype=np.float32)
    found[positions] = vectors
    return found
