"""A screen whose truth is known: effects of single genes, and of pairs what neither gene does alone."""

from __future__ import annotations

from itertools import combinations

import anndata as ad
import numpy as np
import pandas as pd

CONTROL = "control"


def planted(
    num_perturbed: int = 10,
    num_genes: int = 40,
    *,
    cells: int = 20,
    controls: int = 60,
    interaction: float = 1.0,
    covariates: tuple[str, ...] = (),
    seed: int = 0,
) -> ad.AnnData:
    """Return counts of cells under every single perturbation of some genes and every pair of these.

    The log of a gene's rate changes by the sum of the effects of the perturbed genes, and for a pair by a vector that
    both genes' hidden kinds choose, times ``interaction``. In another covariate all effects are 0.8 of the first's.
    """
    rng = np.random.default_rng(seed)
    names = [f"GENE{number:03d}" for number in range(num_genes)]
    base = rng.normal(1.0, 0.7, num_genes)
    effects = rng.normal(0, 0.35, (num_perturbed, num_genes)) * (rng.random((num_perturbed, num_genes)) < 0.4)
    kinds = rng.normal(size=(num_perturbed, 2))
    of_kinds = rng.normal(0, 0.4, (2, num_genes))
    conditions: list[tuple[int, ...]] = [(), *((one,) for one in range(num_perturbed))]
    conditions += list(combinations(range(num_perturbed), 2))
    rows, labels, places = [], [], []
    for place, covariate in enumerate(covariates or ("",)):
        for genes in conditions:
            change = effects[list(genes)].sum(axis=0)
            if len(genes) == 2:
                change = change + interaction * (kinds[genes[0]] * kinds[genes[1]]) @ of_kinds
            count = cells if genes else controls
            depth = rng.lognormal(0, 0.2, (count, 1))
            rows.append(rng.poisson(depth * np.exp(base + change * 0.8**place)))
            labels += ["+".join(names[gene] for gene in genes) or CONTROL] * count
            places += [covariate] * count
    obs = pd.DataFrame({"condition": labels}, index=[f"cell{number}" for number in range(len(labels))])
    if covariates:
        obs["cell_line"] = places
    return ad.AnnData(np.concatenate(rows).astype(np.float32), obs=obs, var=pd.DataFrame(index=names))
