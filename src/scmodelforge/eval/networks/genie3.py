"""Edges by regression: how much each factor's expression helps to predict that of a gene (GENIE3).

Huynh-Thu et al. 2010, doi:10.1371/journal.pone.0012776.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scmodelforge.data.draws import generator
from scmodelforge.eval.biology import sklearn_seed
from scmodelforge.eval.genes.expression import log_normalized

__all__ = ["genie3_scores"]


def genie3_scores(
    counts: sp.csr_matrix, tfs: np.ndarray, names: tuple[str, ...], *, trees: int, max_cells: int, seed: int
) -> np.ndarray:
    """Return the importance of each factor in a random forest that predicts the gene, shape (T, G).

    For each gene, scaled to unit variance, a forest is fitted on the logged expression of all factors but the gene
    itself, a square root of their number being tried at each split. Importances are sums of reduced variance, not
    scaled within the gene, as the authors have them. Genes that do not vary get zeros.

    Parameters
    ----------
    counts
        Counts of cells, CSR (n, G).
    tfs
        Numbers of the factors, shape (T,).
    names
        Names of the genes, G of them; they seed the forests, and sort the factors.
    trees
        Trees of a forest; the authors grow 1000.
    max_cells
        Most cells to fit on; more are drawn from.
    seed
        Seed of the forests.
    """
    from sklearn.ensemble import RandomForestRegressor

    logged = log_normalized(counts)
    if logged.shape[0] > max_cells:
        chosen = generator(seed, "genie3 cells").choice(logged.shape[0], max_cells, replace=False)
        logged = logged[np.sort(chosen)]
    tfs = np.asarray(tfs, dtype=np.int64)
    by_name = np.array(sorted(range(len(tfs)), key=lambda row: names[tfs[row]]), dtype=np.int64)
    columns = logged.tocsc()
    inputs = np.asarray(columns[:, tfs[by_name]].todense(), dtype=np.float32)
    found = np.zeros((len(tfs), len(names)))
    for gene, name in enumerate(names):
        target = np.asarray(columns[:, [gene]].todense()).ravel()
        is_other = tfs[by_name] != gene
        if np.ptp(target) == 0 or not is_other.any():
            continue
        forest = RandomForestRegressor(trees, max_features="sqrt", random_state=sklearn_seed(seed, f"genie3 {name}"))
        forest.fit(inputs[:, is_other], (target - target.mean()) / target.std())
        each = [tree.tree_.compute_feature_importances(normalize=False) for tree in forest.estimators_]
        found[by_name[is_other], gene] = np.mean(each, axis=0)
    return found
