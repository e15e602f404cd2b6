"""Genes of which it is known what regulates them, shared by the tests of gene benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from scmodelforge.eval.base import BenchmarkInputs, Cells
from scmodelforge.eval.genes.vectors import GeneVectors

NUM_GENES, NUM_TFS = 80, 8
GENES = tuple(f"gene{number:03d}" for number in range(NUM_GENES))


def modules() -> np.ndarray:
    """Return the module of each gene; the first genes are its factors."""
    return np.arange(NUM_GENES) % NUM_TFS


def write_network(path: Path) -> Path:
    """Write edges from each factor to the other genes of its module."""
    rows = [
        f"{GENES[tf]}\t{GENES[gene]}"
        for tf in range(NUM_TFS)
        for gene in range(NUM_TFS, NUM_GENES)
        if modules()[gene] == tf
    ]
    path.write_text("\n".join(["tf\ttarget", *rows, "unknown\tgene001", ""]))
    return path


def vectors(*, spread: float = 0.05, counts: bool = True, seed: int = 0) -> GeneVectors:
    """Return vectors near those of the factor of the module, and counts that know nothing of modules."""
    rng = np.random.default_rng(seed)
    rows = np.eye(NUM_TFS)[modules()] + spread * rng.normal(size=(NUM_GENES, NUM_TFS))
    drawn = sp.csr_matrix(rng.poisson(1.5, size=(50, NUM_GENES)).astype(np.float32))
    return GeneVectors(GENES, rows.astype(np.float32), counts=drawn if counts else None)


def inputs(genes, **fields) -> BenchmarkInputs:
    """Return inputs in which only genes matter."""
    cells = Cells(np.zeros((2, 1)), positions=np.arange(2)), Cells(np.zeros((2, 1)), positions=np.arange(2, 4))
    return BenchmarkInputs("cells", *cells, gene_embeddings=genes, **{"seed": 3, **fields})
