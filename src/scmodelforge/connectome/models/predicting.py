"""Predictions of a model, each region encoded once where the result is the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.connectome.data import RegionPairDataset, region_pair_collate
from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.models._utils import evaluation

__all__ = ["predict_loader", "predict_pairs"]

_REGIONS = 256  # that are encoded at once


def predict_pairs(model: ConnectomeModel, dataset: RegionPairDataset, indices: np.ndarray) -> np.ndarray:
    """Return the predicted connectivity of some pairs of a data set, shape (n,), float32."""
    device, size = next(model.parameters()).device, model.training_settings.batch_size
    expression = dataset.X.to(device)
    places = None if dataset.coords is None else dataset.coords.to(device)
    pairs = torch.from_numpy(dataset.pairs(indices)).to(device)
    if not len(pairs):
        return np.empty(0, dtype=np.float32)
    with evaluation(model), torch.no_grad():
        if not model.scores_codes:
            found = [model.score_pairs(expression, places, part) for part in pairs.split(size)]
        else:
            regions, where = torch.unique(pairs, return_inverse=True)
            codes = torch.cat([model.encode(expression[part]) for part in regions.split(_REGIONS)])
            at = None if places is None else places[regions]
            found = [model.score(codes, at, part[:, 0], part[:, 1]) for part in where.split(size)]
    return torch.cat(found).float().cpu().numpy()


def predict_loader(model: ConnectomeModel, loader: DataLoader[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and targets of the pairs of a loader; see :meth:`ConnectomeModel.predict`."""
    if not isinstance(loader, DataLoader):
        msg = f"predict was given {type(loader).__name__}; a DataLoader over region pairs is needed."
        raise ConfigError(msg)
    dataset = _base(loader)
    if dataset is None:
        return _predict_batches(model, loader)
    model.take_genes(dataset)
    indices = np.concatenate([np.empty(0, dtype=np.int64), *_numbers(loader)])
    return predict_pairs(model, dataset, indices), dataset.targets(indices).astype(np.float32)


def _base(loader: DataLoader[Any]) -> RegionPairDataset | None:
    """Return the data set whose items a loader gives as they are, ``None`` if it makes something else of them."""
    base: Any = loader.dataset
    while isinstance(base, Subset):
        base = base.dataset
    is_plain = loader.batch_sampler is not None and loader.collate_fn in (default_collate, region_pair_collate)
    return base if isinstance(base, RegionPairDataset) and is_plain else None


def _numbers(loader: DataLoader[Any]) -> Iterator[np.ndarray]:
    """Yield the numbers of the pairs of each batch."""
    assert loader.batch_sampler is not None
    for batch in loader.batch_sampler:
        found, part = np.asarray(batch, dtype=np.int64), loader.dataset
        while isinstance(part, Subset):
            found, part = np.asarray(part.indices, dtype=np.int64)[found], part.dataset
        yield found


def _predict_batches(model: ConnectomeModel, loader: DataLoader[Any]) -> tuple[np.ndarray, np.ndarray]:
    device = next(model.parameters()).device
    found, targets = [np.empty(0, dtype=np.float32)], [np.empty(0, dtype=np.float32)]
    with evaluation(model), torch.no_grad():
        for batch in loader:
            x, y, coords = _tensors(batch)
            found.append(model(x.to(device), coords.to(device)).float().cpu().numpy())
            targets.append(y.float().cpu().numpy())
    return np.concatenate(found), np.concatenate(targets)


def _tensors(batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if isinstance(batch, dict) and {"x", "y", "coords"} <= set(batch):
        return batch["x"], batch["y"], batch["coords"]
    if (
        isinstance(batch, tuple | list)
        and len(batch) >= 3
        and all(isinstance(part, torch.Tensor) for part in batch[:3])
    ):
        return batch[0], batch[1], batch[2]
    msg = f"the loader gives {type(batch).__name__}; batches of (x, y, coords, idx) are needed."
    raise DataError(msg)
