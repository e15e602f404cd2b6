"""Writing small .h5ad files and reading them back."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

from scmodelforge.data.sources.local import LocalDataConfig, LocalSource
from scmodelforge.data.types import CellBlock


def open_files(*paths: Path | str, **settings) -> LocalSource:
    return LocalSource(LocalDataConfig(paths=[str(path) for path in paths], **settings))


def write(folder: Path, adata: ad.AnnData, name: str = "cells.h5ad", **options) -> Path:
    adata.write_h5ad(folder / name, **options)
    return folder / name


def log_normalised(counts: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix(np.log1p(counts.toarray() / counts.sum(axis=1).A1[:, None] * 1e4), dtype=np.float32)


def dense(block: CellBlock) -> np.ndarray:
    shape = (len(block), len(block.panel.gene_ids))
    return sp.csr_matrix((block.data, block.indices, block.indptr), shape=shape).toarray()
