"""A model in a folder: ``model.safetensors``, and ``model.json`` with what it is made from again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.connectome.models.registry import get_connectome_model
from scmodelforge.hub.weights import load_weights
from scmodelforge.training._files import write_text

__all__ = ["FORMAT_VERSION", "load_model", "save_model"]

FORMAT_VERSION = 1

_WEIGHTS, _FACTS = "model.safetensors", "model.json"
_ADVICE = "save the model again with save(path)"

M = TypeVar("M", bound=ConnectomeModel)


def save_model(model: ConnectomeModel, path: str | os.PathLike[str]) -> None:
    """Write a model into a folder.

    Raises
    ------
    ConfigError
        If there is a file of that name.
    """
    from safetensors.torch import save_file

    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; give the name of a folder for the model."
        raise ConfigError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    temporary = folder / f".{_WEIGHTS}.writing"
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(folder / _WEIGHTS)
    facts = {
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "input_dim": model.input_dim,
        "arguments": model.arguments,
        "genes": model.valid_genes,
        **model.extra_facts(),
    }
    write_text(folder / _FACTS, json.dumps(facts, indent=1, default=_plain) + "\n")


def load_model(cls: type[M], path: str | os.PathLike[str], dataset: RegionPairDataset | None) -> M:
    """Return the model of a folder; see :meth:`ConnectomeModel.load`."""
    folder = Path(path)
    facts = read_json_object(folder / _FACTS, _ADVICE)
    lacking = sorted({"format_version", "model", "input_dim", "arguments", "genes"} - set(facts))
    if lacking:
        msg = f"{folder / _FACTS}: has no {', '.join(lacking)}; {_ADVICE}."
        raise DataError(msg)
    if facts["format_version"] != FORMAT_VERSION:
        msg = (
            f"{folder / _FACTS}: of format {facts['format_version']}, this version reads {FORMAT_VERSION}; use the "
            "version of scmodelforge that wrote it."
        )
        raise DataError(msg)
    found = get_connectome_model(facts["model"])
    if not issubclass(found, cls):
        msg = f"{folder} has a {found.__name__}, not a {cls.__name__}; load it with {found.__name__}.load."
        raise DataError(msg)
    try:
        model: Any = found.from_facts(facts)
    except (TypeError, KeyError) as problem:
        msg = f"{folder / _FACTS}: not what {found.__name__} is made from ({problem}); {_ADVICE}."
        raise DataError(msg) from problem
    model.valid_genes = facts["genes"]
    if dataset is not None:
        model.take_genes(dataset)
    load_weights(model, folder / _WEIGHTS)
    model.eval()
    return model


def _plain(value: Any) -> Any:
    """Return a number of numpy, or a path, as a plain value."""
    return value.item() if hasattr(value, "item") else str(value)
