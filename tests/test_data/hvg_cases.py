"""Cells of which scanpy's choice of genes is stored in ``tests/fixtures/hvg_scanpy.json``.

The file was made with scanpy 1.11.5 and scikit-misc 0.5.3 from ``counts()``, as float64, and ``BATCHES``, genes named
``g0000``, ``g0001``, ...: ``normalize_total(target_sum=1e4)`` and ``log1p`` for ``seurat`` and ``cell_ranger``, then
``highly_variable_genes(n_top_genes=n, flavor=flavor, batch_key=...)``, numpy's ``argsort`` stable. ``loess`` are
scikit-misc's fitted values of log10 variance over log10 mean (``loess(x, y, span=0.3, degree=2)``), every 15th gene.
"""

from __future__ import annotations

import numpy as np

NUM_CELLS, NUM_GENES = 240, 300
BATCHES = (np.arange(NUM_CELLS) * 7 // 3) % 3


def counts() -> np.ndarray:
    """Return whole counts, shape (240, 300), many of them equal, some genes without any."""
    rng = np.random.default_rng(5)
    means = 10 ** (3.2 * rng.random(NUM_GENES) - 1.8)
    spread = 0.2 + rng.random((1, NUM_GENES))
    depth = 0.5 + rng.random((NUM_CELLS, 1))
    shift = 1 + 2 * (rng.random((3, NUM_GENES)) < 0.1)
    drawn = -np.log(1 - rng.random((NUM_CELLS, NUM_GENES)))
    found = np.floor(means * depth * shift[BATCHES] * drawn**spread + rng.random(drawn.shape))
    found[:, :4] = 0
    found[BATCHES == 1, 4:9] = 0
    return found
