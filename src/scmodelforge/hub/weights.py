"""Weights of a model folder: read whole, and none of them NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import DataError, listed

__all__ = ["check_depth", "load_weights", "require_finite"]

_MOST = 3
#: As many layers as no file is looked at for.
_FEW_LAYERS = 1000


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a model.

    Parameters
    ----------
    model
        The model, of the settings beside the file.
    path
        The safetensors file.

    Raises
    ------
    DataError
        If it is damaged, of another model, or has NaN or infinite numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(model, str(path), strict=True)
    except SafetensorError as problem:
        msg = f"{path}: damaged or not a safetensors file ({problem}). Copy or export the model again."
        raise DataError(msg) from problem
    except OSError as problem:
        msg = f"{path}: cannot be read ({problem.strerror or problem}). Copy or export the model again."
        raise DataError(msg) from problem
    except RuntimeError as problem:
        msg = f"{path}: the weights do not fit the model of config.json: {' '.join(str(problem).split())}"
        raise DataError(msg) from problem
    require_finite(model, str(path))


def check_depth(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse settings with more layers than a file could have weights of, before these are made.

    Parameters
    ----------
    settings
        Settings of a model, as plain values.
    path
        The safetensors file beside them.

    Raises
    ------
    DataError
        If there are more, or the file is damaged.
    """
    depth = max(_depths(settings), default=0)
    if depth <= _FEW_LAYERS:
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as found:
            num_tensors = len(found.keys())
    except (OSError, SafetensorError) as problem:
        msg = f"{path}: damaged or not a safetensors file ({problem}). Copy or export the model again."
        raise DataError(msg) from problem
    if depth > num_tensors:
        msg = f"{path}: it has {num_tensors:,} tensors, and config.json says {depth:,} layers; export the model again."
        raise DataError(msg)


def _depths(settings: Mapping[str, Any]) -> Iterator[int]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _depths(value)
        elif name.endswith("layers") and isinstance(value, int):
            yield value


def require_finite(model: nn.Module, origin: str) -> None:
    """Refuse a model with NaN or infinite weights, whose output means nothing.

    Parameters
    ----------
    model
        The model.
    origin
        What the message calls its weights.

    Raises
    ------
    DataError
        If it has some; the message names the tensors.
    """
    wrong = [name for name, tensor in model.state_dict().items() if not _is_finite(tensor)]
    if wrong:
        msg = (
            f"{origin}: NaN or infinite numbers in {len(wrong):,} tensors ({listed(wrong, _MOST)}); take a copy of the "
            "model from before they were there."
        )
        raise DataError(msg)


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    # A sum passes over the numbers once and needs no memory. One that is not finite may still be of finite numbers.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
