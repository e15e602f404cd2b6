"""What a run does, known before anything is trained: its data, its folds, its baselines."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._wording import in_words_of
from scmodelforge.config.connectome_sections import ConnectomeConfig, PlantedConfig
from scmodelforge.connectome.baselines import get_baseline, list_baselines
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.files import read_regions
from scmodelforge.connectome.splits import RegionSplit, folds_of_regions, region_folds, split_regions
from scmodelforge.connectome.synthetic import planted_regions
from scmodelforge.data.draws import mix
from scmodelforge.hub.checksums import digest_of
from scmodelforge.workflows.connectome.inputs import is_scaled, quiet

__all__ = ["Fold", "Plan", "TrainingPairs", "training_pairs"]

_log = logging.getLogger(__name__)

_FOLDS = 4
_FEWEST_TO_TRAIN = 3  # of two there is one pair, and a step needs two
_IN_SETTINGS = {  # arguments of functions, as a command takes them
    "directed=True": "--set data.directed=true",
    "missing='drop'": "--set data.missing=drop",
    "target='NAME'": "--set data.target=NAME",
    "target='FILE.csv'": "--set data.target=FILE.csv",
    "coords='FILE.csv'": "--set data.coords=FILE.csv",
}
_COORDINATES = "kronecker_ridge_coords"


@dataclass(frozen=True)
class Fold:
    """Regions held out once: the seed they were drawn by, which fold of it, and the pairs that follow."""

    seed: int
    number: int
    split: RegionSplit

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"seed{self.seed}_fold{self.number}"


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes
    ----------
    config
        Its settings.
    data
        Pairs of regions.
    folds
        What is held out.
    baselines
        Names of the baselines.
    """

    config: ConnectomeConfig
    data: RegionPairDataset
    folds: list[Fold]
    baselines: list[str]

    @classmethod
    def of(cls, config: ConnectomeConfig) -> Plan:
        """Read the data and draw the folds.

        Raises
        ------
        ConfigError, DataError
            For everything a user can get wrong about data, folds and baselines.
        """
        data = _read(config)
        return cls(config, data, _folds(data, config), _baselines(data, config.baselines))

    @property
    def test_share(self) -> float:
        """Share of the regions that a fold holds out, the mean over folds."""
        return float(np.mean([len(fold.split.test_regions) / self.data.num_regions for fold in self.folds]))

    def facts(self) -> dict[str, Any]:
        """Return what identifies the data and the gene vectors, and how much of what there is.

        Raises
        ------
        DataError
            If the file of gene vectors cannot be read.
        """
        digest = hashlib.sha256()
        parts = [self.data.X, self.data.Y.clone().fill_diagonal_(0), self.data.coords]
        labels = [self.data.networks, self.data.hemispheres]
        for part in parts:
            digest.update(b"none" if part is None else part.numpy().tobytes())
        digest.update("\n".join([*self.data.valid_genes, *self.data.region_names]).encode())
        digest.update(json.dumps([None if each is None else each.tolist() for each in labels]).encode())
        vectors = getattr(self.config.model, "gene_embeddings", None)
        if vectors is not None:
            digest.update(_digest(vectors).encode())
        return {
            "dataset": self.data.dataset,
            "num_regions": self.data.num_regions,
            "num_genes": self.data.num_genes,
            "num_pairs": len(self.data) // (1 if self.data.is_directed else 2),
            "has_coordinates": self.data.coords is not None,
            "is_directed": self.data.is_directed,
            "sha256": digest.hexdigest(),
        }


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs to train on, and those by which the epoch is chosen, if any."""

    train: np.ndarray
    validation: np.ndarray | None


def training_pairs(data: RegionPairDataset, regions: np.ndarray, config: ConnectomeConfig, seed: int) -> TrainingPairs:
    """Take regions for validation out of those of training, held out as the strategy of the split does.

    Parameters
    ----------
    data
        Pairs of regions.
    regions
        Rows that may be trained on.
    config
        Settings, of which the share and the strategy are read.
    seed
        Base of the draw.

    Raises
    ------
    ConfigError
        If fewer than two regions are left to choose the epoch, or fewer than three to train on.
    """
    share = config.training.validation_share
    num_held = np.zeros(data.num_regions, dtype=np.int64)
    num_held[np.setdiff1d(np.arange(data.num_regions), regions)] = 9  # neither side
    held = np.empty(0, dtype=np.int64)
    if share:
        seed = int(mix(seed, "validation regions")) % 2**32
        num_folds = max(2, round(1 / share))
        held = regions[folds_of_regions(data, regions, num_folds, strategy=config.split.strategy, seed=seed) == 0]
        if len(held) < 2 or len(regions) - len(held) < _FEWEST_TO_TRAIN:
            msg = (
                f"training.validation_share is {share:g}: of {len(regions)} training regions, {len(held)} would be "
                "left to choose the epoch by; two at least are needed, and three to train on. Set it to 0, which keeps "
                "the last epoch, or hold out fewer regions."
            )
            raise ConfigError(msg)
    elif len(regions) < _FEWEST_TO_TRAIN:
        msg = f"{len(regions)} regions would be left to train on; three at least are needed. Hold out fewer regions."
        raise ConfigError(msg)
    num_held[held] = 1
    of_pairs = num_held[data.pairs()].sum(axis=1)
    return TrainingPairs(np.flatnonzero(of_pairs == 0), np.flatnonzero(of_pairs == 2) if share else None)


def _read(config: ConnectomeConfig) -> RegionPairDataset:
    given = config.data
    if given.path is None:
        planted = given.planted or PlantedConfig()
        made = planted_regions(
            planted.num_regions,
            planted.num_genes,
            num_rules=planted.num_rules,
            signal_share=planted.signal_share,
            distance_share=planted.distance_share,
            seed=planted.seed,
        )
        return made.regions.pairs()
    how = given.model_dump(include={"coords", "missing", "directed"})
    with in_words_of(_IN_SETTINGS):
        table = read_regions(given.path, given.target, **how)
    with quiet():
        data = table.pairs()
    if not is_scaled(data):
        _log.info(
            f"expression ranges from {float(data.X.min()):.3g} to {float(data.X.max()):.3g}: for the model each gene "
            "is scaled to [0, 1] over the regions of training"
        )
    if data.is_directed:
        _log.info("connectivity has a direction, from row to column")
    return data


def _digest(path: str) -> str:
    try:
        return digest_of(Path(path))
    except OSError as problem:
        msg = f"{path}: the gene vectors cannot be read ({problem.strerror}); restore the file, or start a new run."
        raise DataError(msg) from problem


def _folds(data: RegionPairDataset, config: ConnectomeConfig) -> list[Fold]:
    split, found = config.split, []
    for seed in split.seeds:
        if split.test_share is not None:
            parts = [split_regions(data, split.test_share, split.strategy, seed)]
        else:
            parts = region_folds(data, split.folds or _FOLDS, split.strategy, seed)
        found += [Fold(seed, number, part) for number, part in enumerate(parts, start=1)]
    return found


def _baselines(data: RegionPairDataset, named: list[str] | None) -> list[str]:
    """Return the baselines to fit; without coordinates those that need them only if they are named."""
    names = list(dict.fromkeys(list_baselines() if named is None else named))
    inputs = {name: get_baseline(name).inputs for name in names}
    if data.coords is None:
        lost = [name for name in names if inputs[name] in ("coords", "both")]
        if named is not None and lost:
            msg = f"baselines names {lost[0]}, which needs coordinates, and the regions have none; leave it out."
            raise ConfigError(msg)
        if lost:
            _log.warning(f"the regions have no coordinates: {', '.join(lost)} are left out.")
            names = [name for name in names if name not in lost]
    elif _COORDINATES not in names:  # the best of those that know places alone: what any other must be held against
        names.append(_COORDINATES)
    return names
