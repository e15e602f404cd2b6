"""Weights as others publish them. No code in a file is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from scmodelforge._errors import DataError

__all__ = ["AS_PUBLISHED", "FoundWeights", "check_shapes", "fresh_weights", "read_tensors"]

#: What to do with a file that is not what it should be.
AS_PUBLISHED = "take the file as it was published"


@dataclass(frozen=True)
class FoundWeights:
    """What of a model's weights a file has. Names are the published ones, but for those of ``weights``.

    Attributes
    ----------
    weights
        The weights by the names of our model.
    matched
        Names in the file that they are from.
    missing
        Names that the file lacks.
    unexpected
        Names in the file that the model has no place for.
    reshaped
        Those of ``matched`` whose numbers were split or put together.
    """

    weights: dict[str, torch.Tensor]
    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]


@contextmanager
def fresh_weights() -> Iterator[None]:
    """Make models with the same first weights each time, and leave random draws elsewhere as they are.

    What a file has is written over them; a head that it lacks keeps them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, by name: ``.safetensors``, or what ``torch.save`` wrote of a state.

    Raises
    ------
    DataError
        If the file is damaged or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return _checked(load_file(str(path)), path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except Exception as problem:
        words = " ".join(str(problem).split())
        msg = f"{path}: damaged, or no weights ({type(problem).__name__}: {words:.200}); {AS_PUBLISHED}."
        raise DataError(msg) from problem
    if not isinstance(content, Mapping) or not all(isinstance(each, torch.Tensor) for each in content.values()):
        msg = f"{path}: holds {type(content).__name__}, needs tensors by name; {AS_PUBLISHED}."
        raise DataError(msg)
    return _checked(dict(content), path)


def _checked(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Refuse numbers that no training gives; whole numbers are places of tokens, which some files have."""
    for name, tensor in tensors.items():
        is_places = name.endswith("position_ids") and not tensor.is_floating_point()
        if is_places or (tensor.is_floating_point() and bool(tensor.isfinite().all())):
            continue
        fault = "has numbers that are infinite or none" if tensor.is_floating_point() else f"is {tensor.dtype}"
        msg = f"{path}: '{name}' {fault}, needs finite floating-point numbers; {AS_PUBLISHED}."
        raise DataError(msg)
    return tensors


def check_shapes(
    weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], *, origin: str, settings: str
) -> None:
    """Refuse weights whose shapes are not those of a model's.

    Parameters
    ----------
    weights
        The weights by the model's names.
    wanted
        The state of the model.
    origin, settings
        What messages call the weights, and what the model was made of.

    Raises
    ------
    DataError
        If there are some.
    """
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            msg = (
                f"{origin}: '{name}' has shape {tuple(weight.shape)}, {settings} asks for {tuple(wanted[name].shape)}; "
                "take both files from one model."
            )
            raise DataError(msg)
