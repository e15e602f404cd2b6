"""A planted brain: connectivity that follows from pairs of genes by a rule that no linear or bilinear model can state.

Regions lie on both hemispheres of an ellipsoid, right ones opposite to left ones. Expression is spread over [0, 1] with
most values in the middle, as expression scaled by its extremes is; many genes follow few smooth maps, which are most of
what principal components see. Some genes are ligands and some receptors. Region i sends to region j through a pair of
them if the ligand in i *and* the receptor in j are in the window [0.4, 0.6): neither silent nor saturated. The rule is
a product of two conditions, and each condition is symmetric about the mean of the gene, so that neither a correlation
of profiles nor any form that is linear in the expression of each region is correlated with it. Distance decay, strong
and weak regions, and noise are added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm

from scmodelforge._errors import ConfigError, require_whole
from scmodelforge.connectome.geometry import distances
from scmodelforge.connectome.regions import Regions
from scmodelforge.data.draws import generator

__all__ = ["WINDOW", "PlantedRegions", "planted_regions"]

WINDOW = (0.4, 0.6)
"""Expression at which a ligand is sent and a receptor listens; the middle one of five equal bins."""

_PEAK = 3.0  # both parameters of the beta distribution of expression: 37 % of it lies in the window
_RADII = (65.0, 85.0, 55.0)  # mm, of the ellipsoid: left-right, front-back, down-up
_NUM_MAPS = 3
_NUM_NETWORKS = 6
_SMOOTH_MM = 35.0
_DECAY_MM = 30.0


@dataclass(frozen=True)
class PlantedRegions:
    """Regions with a planted rule, and what was planted.

    Attributes
    ----------
    regions
        The regions, as a file would give them.
    rules
        Names of the ligand and the receptor of each rule.
    signal
        Connectivity by the rules alone, scaled as it is in ``regions.Y``; shape (R, R).
    """

    regions: Regions
    rules: tuple[tuple[str, str], ...]
    signal: np.ndarray


def planted_regions(
    num_regions: int = 160,
    num_genes: int = 32,
    *,
    num_rules: int = 3,
    signal_share: float = 0.7,
    distance_share: float = 0.1,
    seed: int = 0,
) -> PlantedRegions:
    """Make regions whose connectivity follows from pairs of genes.

    Parameters
    ----------
    num_regions
        Regions, half of them on each side; an even number. The defaults are those of the figures in the docs; the
        command ``scmodelforge connectome train`` plants fewer, 120 regions with 24 genes.
    num_genes
        Genes.
    num_rules
        Pairs of a ligand and a receptor; no gene is in two.
    signal_share
        Share of the variance of connectivity that comes from the rules.
    distance_share
        Share that comes from distance decay. What is left over is half strong and weak regions, half noise.
    seed
        Base of all draws.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If an argument is out of range.
    """
    _check(num_regions, num_genes, num_rules, signal_share, distance_share)
    random = generator(seed, "planted regions")
    coords = _places(num_regions // 2, random)
    folded = np.column_stack([np.abs(coords[:, 0]), coords[:, 1:]])
    smooth = _smooth_maps(folded, random, num_genes)
    genes = [f"GENE{number:02d}" for number in range(num_genes)]
    of_rules = random.permutation(num_genes)[: 2 * num_rules].reshape(num_rules, 2)
    expression = _expression(smooth, of_rules.ravel(), random)
    signal = _standardised(_rule_strength(expression, of_rules))
    decay = _standardised(np.exp(-distances(coords, folded=True) / _DECAY_MM))
    hubs = random.normal(size=num_regions)
    rest = (1 - signal_share - distance_share) / 2
    y = np.sqrt(signal_share) * signal + np.sqrt(distance_share) * decay
    y += np.sqrt(rest) * (_standardised(np.add.outer(hubs, hubs)) + _symmetric_noise(num_regions, random))
    np.fill_diagonal(y, 0)
    table = Regions(
        X=expression,
        Y=y.astype(np.float32),
        coords=coords.astype(np.float32),
        genes=genes,
        regions=[f"{'L' if row < num_regions // 2 else 'R'}{row % (num_regions // 2)}" for row in range(num_regions)],
        valid2true_mapping={row: row for row in range(num_regions)},
        dataset="planted",
        parcellation=f"planted{num_regions}",
        networks=_networks(folded, random),
        hemispheres=np.where(coords[:, 0] < 0, "L", "R"),
    )
    rules = tuple((genes[ligand], genes[receptor]) for ligand, receptor in of_rules)
    return PlantedRegions(table, rules, np.sqrt(signal_share) * signal)


def _check(num_regions: int, num_genes: int, num_rules: int, signal_share: float, distance_share: float) -> None:
    require_whole("num_regions", num_regions, 8)
    require_whole("num_rules", num_rules, 1)
    require_whole("num_genes", num_genes, 2 * num_rules)
    if num_regions % 2:
        msg = f"num_regions is {num_regions}; an even number is needed, half on each side."
        raise ConfigError(msg)
    if min(signal_share, distance_share) < 0 or signal_share + distance_share > 1:
        msg = (
            f"signal_share is {signal_share} and distance_share {distance_share}; shares of the variance are needed, "
            "which sum to 1 at most."
        )
        raise ConfigError(msg)


def _places(num_left: int, random: np.random.Generator) -> np.ndarray:
    """Return places of regions, first left, then their twins, shape (R, 3), mm."""
    rays = random.normal(size=(num_left, 3))
    rays[:, 0] = -np.abs(rays[:, 0]) - 0.1
    left = rays / np.linalg.norm(rays, axis=1, keepdims=True) * _RADII
    right = left * (-1, 1, 1) + random.normal(scale=2.0, size=left.shape)
    right[:, 0] = np.maximum(right[:, 0], 1.0)
    return np.concatenate([left, right])


def _smooth_maps(folded: np.ndarray, random: np.random.Generator, num_genes: int) -> np.ndarray:
    """Return for each gene a mixture of the same few smooth maps, standardised, shape (R, G)."""
    kernel = np.exp(-((distances(folded) / _SMOOTH_MM) ** 2) / 2)
    values, vectors = np.linalg.eigh(kernel)
    root = vectors * np.sqrt(np.maximum(values, 0))
    maps = root @ random.normal(size=(len(folded), _NUM_MAPS))
    mixed = maps @ random.normal(size=(_NUM_MAPS, num_genes))
    return np.asarray((mixed - mixed.mean(axis=0)) / mixed.std(axis=0))


def _expression(smooth: np.ndarray, of_rules: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return expression: smooth maps with noise of each region, less smooth in genes of rules, spread over [0, 1]."""
    share = np.full(smooth.shape[1], 0.5)
    share[of_rules] = 0.1
    mixed = np.sqrt(share) * smooth + np.sqrt(1 - share) * random.normal(size=smooth.shape)
    return np.asarray(beta.ppf(norm.cdf(mixed), _PEAK, _PEAK), dtype=np.float32)


def _rule_strength(expression: np.ndarray, of_rules: np.ndarray) -> np.ndarray:
    """Return how strongly any two regions talk by the rules, either way, shape (R, R)."""
    is_open = ((expression >= WINDOW[0]) & (expression < WINDOW[1])).astype(np.float64)
    total = np.zeros((len(expression), len(expression)))
    for ligand, receptor in of_rules:
        sent = np.outer(is_open[:, ligand], is_open[:, receptor])
        total += sent + sent.T
    return total


def _symmetric_noise(num_regions: int, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(size=(num_regions, num_regions))
    return _standardised((noise + noise.T) / 2)


def _standardised(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix with mean 0 and variance 1 off its diagonal."""
    off_diagonal = ~np.eye(len(matrix), dtype=bool)
    values = matrix[off_diagonal]
    return np.asarray((matrix - values.mean()) / max(float(values.std()), 1e-12))


def _networks(folded: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the network of each region: that of the nearest of a few drawn places."""
    centres = folded[random.choice(len(folded), size=_NUM_NETWORKS, replace=False)]
    nearest = ((folded[:, None] - centres[None]) ** 2).sum(axis=-1).argmin(axis=1)
    return np.array([f"N{number + 1}" for number in nearest])
