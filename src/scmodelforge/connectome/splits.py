"""Which regions are held out. Pairs of held-out regions are what a model is scored on.

A random split of *pairs* puts both regions of nearly every test pair into training as well, and often the mirrored pair
itself. So regions are split: pairs of two training regions are for fitting, pairs of two held-out regions ("inner") for
the score, and pairs of one of each ("cross") stand apart, because they are easier.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from scmodelforge._errors import ConfigError, DataError, nearest, require_whole
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.geometry import required_coords, twin_groups
from scmodelforge.data.draws import generator, mix

__all__ = [
    "STRATEGIES",
    "RegionSplit",
    "folds_of_regions",
    "pair_wise_split",
    "region_folds",
    "region_wise_split",
    "split_regions",
]

_log = logging.getLogger(__name__)

STRATEGIES = ("random", "spatial", "homotopic", "network")
"""How regions are chosen to be held out; see :func:`split_regions`."""

_CROSS = ("drop", "train", "test")


@dataclass(frozen=True)
class RegionSplit:
    """Regions to train on and regions held out, and the pairs that follow.

    Attributes
    ----------
    train_regions, test_regions
        Rows of X, ascending.
    train, inner, cross
        Items of the data set, ascending: both regions of training, both held out, one of each. A pair and its mirror
        image are always in the same one.
    strategy, seed
        How the regions were chosen.
    name
        What was held out, for tables.
    """

    train_regions: np.ndarray
    test_regions: np.ndarray
    train: np.ndarray
    inner: np.ndarray
    cross: np.ndarray
    strategy: str
    seed: int
    name: str = ""

    @classmethod
    def holding_out(
        cls, data: RegionPairDataset, regions: np.ndarray, *, strategy: str, seed: int, name: str = ""
    ) -> RegionSplit:
        """Return the split that holds out some rows of X."""
        is_test = np.zeros(data.num_regions, dtype=bool)
        is_test[regions] = True
        held = is_test[data.pairs()].sum(axis=1)  # of the two regions of each pair
        train, cross, inner = (np.flatnonzero(held == count) for count in range(3))
        kept, out = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        return cls(kept, out, train, inner, cross, strategy, seed, name)


def region_wise_split(
    dataset: RegionPairDataset, test_size: float = 0.25, strategy: str = "random", seed: int = 0, cross: str = "drop"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the items to train on and those to score, by regions: no region of a scored inner pair is trained on.

    Parameters
    ----------
    dataset
        Pairs of regions.
    test_size
        Share of the regions that is held out, or about so many: groups stay whole.
    strategy
        One of :data:`STRATEGIES`; see :func:`split_regions`.
    seed
        Base of the draws.
    cross
        What becomes of pairs of a training and a held-out region: ``drop`` leaves them out, ``train`` trains on them
        (then the model sees connectivity of held-out regions), ``test`` scores them with the others.

    Raises
    ------
    ConfigError
        (a ``ValueError``) If an argument is wrong, or too few regions are on one side.
    """
    if cross not in _CROSS:
        msg = f"cross is {cross!r};{nearest(str(cross), _CROSS)} one of {', '.join(_CROSS)} is needed."
        raise ConfigError(msg)
    split = split_regions(dataset, test_size, strategy, seed)
    train, test = split.train, split.inner
    if cross == "train":
        _log.warning("cross='train': the connectivity of held-out regions with others is trained on.")
        train = np.sort(np.concatenate([train, split.cross]))
    elif cross == "test":
        test = np.sort(np.concatenate([test, split.cross]))
    return train, test


def split_regions(
    dataset: RegionPairDataset, test_size: float = 0.25, strategy: str = "random", seed: int = 0
) -> RegionSplit:
    """Hold out a share of the regions.

    ``random`` draws regions. ``homotopic`` draws a region and its twin in the other hemisphere together: donors rarely
    have samples of both, so twins are alike in expression for reasons of processing. ``spatial`` takes a drawn region
    and those closest to it. ``network`` draws networks, whole ones, the first that bring the share closest to what is
    asked for.

    Raises
    ------
    ConfigError
        If an argument is wrong, or fewer than two regions are on one side.
    DataError
        If the data set lacks coordinates or networks that the strategy needs.
    """
    _check(strategy, STRATEGIES)
    if not 0 < test_size < 1:
        msg = f"test_size is {test_size!r}; a share of the regions is needed, above 0 and below 1."
        raise ConfigError(msg)
    wanted = max(round(test_size * dataset.num_regions), 2)
    if strategy == "spatial":
        coords = required_coords(dataset, "a spatial split")
        centre = coords[_shuffled(np.arange(len(coords)), seed, strategy)[0]]
        chosen = np.argsort(((coords - centre) ** 2).sum(axis=1), kind="stable")[:wanted]
    else:
        groups = _groups(dataset, strategy)
        chosen = _whole_groups(groups, wanted, seed, strategy)
    name = ", ".join(sorted(set(dataset.networks[chosen]))) if strategy == "network" else f"seed {seed}"  # type: ignore[index]
    return _checked(RegionSplit.holding_out(dataset, chosen, strategy=strategy, seed=seed, name=name))


def region_folds(
    dataset: RegionPairDataset, num_folds: int = 4, strategy: str = "random", seed: int = 0
) -> list[RegionSplit]:
    """Hold out every region once, in folds of about the same number of regions.

    Strategies are those of :func:`split_regions`, but ``spatial`` cuts the brain into ``num_folds`` blocks of
    neighbours, and ``network`` holds out one network a fold, whatever ``num_folds``.

    Raises
    ------
    ConfigError
        If an argument is wrong, or a fold has fewer than two regions on one side.
    DataError
        If the data set lacks coordinates or networks that the strategy needs.
    """
    _check(strategy, STRATEGIES)
    require_whole("num_folds", num_folds, 2)

    def holding_out(is_held: np.ndarray, name: str) -> RegionSplit:
        rows = np.flatnonzero(is_held)
        return _checked(RegionSplit.holding_out(dataset, rows, strategy=strategy, seed=seed, name=name))

    if strategy == "network":
        networks = _networks(dataset)
        return [holding_out(networks == name, str(name)) for name in sorted(set(networks.tolist()))]
    every = np.arange(dataset.num_regions)
    fold_of = folds_of_regions(dataset, every, num_folds, strategy=strategy, seed=seed)
    return [holding_out(fold_of == fold, f"fold {fold + 1}") for fold in range(num_folds)]


def folds_of_regions(
    dataset: RegionPairDataset, regions: np.ndarray, num_folds: int, *, strategy: str, seed: int
) -> np.ndarray:
    """Return the fold of each of some regions, shape (n,): what the strategy holds out together is in one fold.

    Raises
    ------
    ConfigError
        If there is no such strategy.
    DataError
        If the data set lacks coordinates or networks that the strategy needs.
    """
    _check(strategy, STRATEGIES)
    if strategy == "spatial":
        return _blocks(required_coords(dataset, "a spatial split")[regions], num_folds, seed)
    return _balanced_folds(_groups(dataset, strategy)[regions], num_folds, seed)


def pair_wise_split(
    dataset: RegionPairDataset, test_size: float = 0.25, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return items to train on and to score, drawn pair by pair, mirrored pairs together; and warn.

    Nearly every region of a scored pair is trained on. Only to compare with results that were made so.

    Raises
    ------
    ConfigError
        If ``test_size`` is no share.
    """
    if not 0 < test_size < 1:
        msg = f"test_size is {test_size!r}; a share of the pairs is needed, above 0 and below 1."
        raise ConfigError(msg)
    _log.warning(
        "a split by pairs trains on both regions of nearly every scored pair, and its scores say little about regions "
        "never seen; region_wise_split holds regions out."
    )
    order = _shuffled(np.arange(len(dataset) // 2), seed, "pairs")
    held = np.zeros(len(order), dtype=bool)
    held[order[: max(round(test_size * len(order)), 1)]] = True
    is_test = np.repeat(held, 2)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _check(strategy: str, known: tuple[str, ...]) -> None:
    if strategy not in known:
        msg = f"strategy is {strategy!r};{nearest(str(strategy), known)} one of {', '.join(known)} is needed."
        raise ConfigError(msg)


def _checked(split: RegionSplit) -> RegionSplit:
    sizes = len(split.train_regions), len(split.test_regions)
    if min(sizes) < 2:
        msg = (
            f"a {split.strategy} split ({split.name}) leaves {sizes[0]} regions to train on and {sizes[1]} held out; "
            "each side needs two for a pair. Choose another test_size, number of folds or strategy."
        )
        raise ConfigError(msg)
    return split


def _groups(data: RegionPairDataset, strategy: str) -> np.ndarray:
    """Return the code of what stays together with each region, shape (R,)."""
    if strategy == "homotopic":
        return twin_groups(data)
    if strategy == "network":
        return np.unique(_networks(data), return_inverse=True)[1]
    return np.arange(data.num_regions)


def _networks(data: RegionPairDataset) -> np.ndarray:
    if data.networks is None:
        msg = "a split by network needs networks, and the data set has none; give it the network of each region."
        raise DataError(msg)
    if len(set(data.networks.tolist())) < 2:
        msg = f"a split by network needs two networks at least; all regions are of '{data.networks[0]}'."
        raise DataError(msg)
    return data.networks


def _shuffled(values: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    return generator(seed, "regions held out", purpose).permutation(values)


def _whole_groups(groups: np.ndarray, wanted: int, seed: int, purpose: str) -> np.ndarray:
    """Return the rows of the first groups of a shuffled order whose number of regions is closest to what is wanted."""
    order = _shuffled(np.unique(groups), seed, purpose)
    totals = np.cumsum([(groups == group).sum() for group in order])
    enough = int(np.argmin(np.abs(totals - wanted))) + 1
    return np.flatnonzero(np.isin(groups, order[:enough]))


def _balanced_folds(groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each region: groups in a shuffled order, each to the fold with the fewest regions so far."""
    sizes = np.zeros(num_folds, dtype=np.int64)
    folds = np.zeros(len(groups), dtype=np.int64)
    for group in _shuffled(np.unique(groups), seed, "folds"):
        fold = int(np.argmin(sizes))
        folds[groups == group] = fold
        sizes[fold] += (groups == group).sum()
    return folds


def _blocks(coords: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the block of each region: k-means, with as many places in each block as needed for equal sizes."""
    if num_folds > len(coords):
        msg = f"num_folds is {num_folds} and there are {len(coords)} regions; fewer folds are needed."
        raise ConfigError(msg)
    start = int(mix(seed, "spatial folds")) % 2**32
    centres = KMeans(num_folds, n_init=10, random_state=start).fit(coords).cluster_centers_
    places = np.sort(np.arange(len(coords)) % num_folds)
    _, assigned = linear_sum_assignment(cdist(coords, centres[places], "sqeuclidean"))
    return places[assigned]
