"""Baselines on embeddings: the linear model Y = G K P + b, and the nearest training perturbation.

Y are changes from control (genes x training perturbations), G vectors of genes, P those of perturbations: of a
combination the sum over its genes. Without given vectors both are the principal components of the training means
with genes as observations, as in Ahlmann-Eltze, Huber & Anders (2025, doi:10.1038/s41592-025-02772-6), who also set
lambda = 0.1 and K = 10; a control column of zeros stands beside the training perturbations. It differs from theirs in
that combinations are fitted too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scmodelforge.data.draws import mix, uniforms
from scmodelforge.eval.perturbation.conditions import Group, gene_key

__all__ = ["GeneFactors", "linear", "nearest", "solve_gkp"]

_RIDGE = 0.1
_NUM_COMPONENTS = 10


@dataclass(frozen=True)
class GeneFactors:
    """Vectors of genes and of perturbed genes.

    Attributes
    ----------
    of_genes
        Vector of each gene, shape (G, K): the matrix G.
    of_perturbed
        Vector of a perturbed gene by its name, shape (L,): the columns of P.
    """

    of_genes: np.ndarray
    of_perturbed: Mapping[str, np.ndarray]

    @classmethod
    def named(
        cls,
        name: str,
        genes: Sequence[str],
        means: Mapping[Group, np.ndarray],
        *,
        seed: int = 0,
        given: GeneFactors | None = None,
    ) -> GeneFactors:
        """Return what the baseline ``name`` uses: principal components, noise, or given vectors of perturbed genes."""
        if name.endswith("_random"):
            noise = _Noise(seed)
            return cls(np.array([noise[gene] for gene in genes]), noise)
        components = _components(means)
        if name.endswith("_given"):
            assert given is not None
            return cls(components, given.of_perturbed)
        return cls(components, dict(zip(genes, components, strict=True)))

    @classmethod
    def given(cls, names: Sequence[str], vectors: np.ndarray) -> GeneFactors:
        """Return vectors of genes by their names, for perturbed genes."""
        rows = np.asarray(vectors, dtype=np.float64)
        return cls(np.zeros((0, 0)), {gene_key(str(name)): row for name, row in zip(names, rows, strict=True)})

    def of(self, group: Group) -> np.ndarray | None:
        """Return the sum of the vectors of a perturbation's genes, ``None`` if no gene has one."""
        found = [self.of_perturbed[gene] for gene in group.targets if gene in self.of_perturbed]
        return np.sum(found, axis=0) if found else None


def linear(
    genes: Sequence[str], changes: Mapping[Group, np.ndarray], scored: Sequence[Group], vectors: GeneFactors
) -> dict[Group, np.ndarray]:
    """Fit the linear model to training changes and return the predicted changes of other perturbations, shape (G,).

    Training perturbations none of whose genes has a vector are skipped. Scored ones without one get the mean change,
    which the offset is not: that is a mean over the column of control too.
    """
    mean = np.asarray(np.mean(list(changes.values()), axis=0))
    fitted = {group: vector for group in changes if (vector := vectors.of(group)) is not None}
    if not fitted:
        return dict.fromkeys(scored, mean)
    columns = np.array([*fitted.values(), np.zeros(len(next(iter(fitted.values()))))]).T  # the last one is control
    truth = np.array([*(changes[group] for group in fitted), np.zeros(len(genes))]).T
    solution, offset = solve_gkp(truth, vectors.of_genes, columns, ridge=_RIDGE)
    found = {}
    for group in scored:
        vector = vectors.of(group)
        found[group] = mean if vector is None else offset + vectors.of_genes @ (solution @ vector)
    return found


def solve_gkp(y: np.ndarray, g: np.ndarray, p: np.ndarray, *, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return K and b of Y = G K P + b, with b the row means and K = (G'G + rI)^-1 G'(Y - b)P'(PP' + rI)^-1.

    Parameters
    ----------
    y
        Shape (genes, perturbations).
    g, p
        Shapes (genes, K) and (L, perturbations).
    ridge
        The r above.
    """
    offset = y.mean(axis=1)
    left = np.linalg.solve(g.T @ g + ridge * np.eye(g.shape[1]), g.T @ (y - offset[:, None]))
    right = np.linalg.solve(p @ p.T + ridge * np.eye(len(p)), (left @ p.T).T)
    return right.T, offset


def nearest(
    genes: Sequence[str], changes: Mapping[Group, np.ndarray], scored: Sequence[Group], vectors: GeneFactors
) -> dict[Group, np.ndarray]:
    """Return the change of the training perturbation with the largest cosine; without a vector the mean change."""
    known = [(group, vector) for group in sorted(changes) if (vector := vectors.of(group)) is not None]
    mean = np.mean(list(changes.values()), axis=0)
    found = {}
    for group in scored:
        vector = vectors.of(group)
        if vector is None or not known:
            found[group] = mean
            continue
        alike = [_cosine(vector, other) for _, other in known]
        found[group] = changes[known[int(np.argmax(alike))][0]]
    return found


class _Noise(Mapping[str, np.ndarray]):
    """A vector of noise for every name."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __getitem__(self, gene: str) -> np.ndarray:
        return _noise(gene, self._seed)

    def __contains__(self, gene: object) -> bool:
        return isinstance(gene, str)

    def __iter__(self):
        return iter(())

    def __len__(self) -> int:
        return 0


def _noise(gene: str, seed: int) -> np.ndarray:
    """Return normal draws that depend on the gene's name and the seed alone."""
    key = mix(seed, "random embedding", gene)
    counters = np.arange(_NUM_COMPONENTS)
    radius = np.sqrt(-2 * np.log1p(-uniforms(key, "radius", counters)))
    return np.asarray(radius * np.cos(2 * np.pi * uniforms(key, "angle", counters)))


def _components(means: Mapping[Group, np.ndarray]) -> np.ndarray:
    """Return principal components of the training means with genes as observations, shape (G, K)."""
    table = np.array([means[group] for group in sorted(means)]).T
    table = table - table.mean(axis=0)
    sizes, axes = np.linalg.eigh(table.T @ table)  # as many rows as perturbations, not as genes
    kept = min(_NUM_COMPONENTS, int((sizes > sizes[-1] * 1e-12).sum()))
    return table @ axes[:, ::-1][:, :kept]


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    length = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / length) if length else 0.0
