"""A model in a folder: ``model.safetensors``, and ``model.json`` with what it is made from again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.connectome.models.registry import get_connectome_model
from scmodelforge.hub.weights import load_weights
from scmodelforge.training._files import put_folder, write_text

__all__ = ["FORMAT_VERSION", "load_model", "save_model"]

FORMAT_VERSION = 1

_WEIGHTS, _FACTS = "model.safetensors", "model.json"
_OURS = {_WEIGHTS, _FACTS}  # what a run says beside them of the model's inputs would be lost
_ADVICE = "save the model again with save(path)"

M = TypeVar("M", bound=ConnectomeModel)


def save_model(model: ConnectomeModel, path: str | os.PathLike[str]) -> None:
    """Write a model into a folder, in the place of the model that may be there: afterwards it is one or the other.

    Raises
    ------
    ConfigError
        If there is a file of that name, or a folder that holds something else.
    """
    from safetensors.torch import save_file

    folder = Path(path).absolute()
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; give the name of a folder for the model."
        raise ConfigError(msg)
    foreign = sorted({each.name for each in folder.iterdir()} - _OURS) if folder.is_dir() else []
    if foreign:
        msg = f"{folder} holds '{foreign[0]}', which is no part of a model; give it a folder of its own."
        raise ConfigError(msg)
    folder = folder.resolve()
    writing = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, writing / _WEIGHTS, metadata={"format": "pt"})
    facts = {
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "input_dim": model.input_dim,
        "arguments": model.arguments,
        "genes": model.valid_genes,
        **model.extra_facts(),
    }
    write_text(writing / _FACTS, json.dumps(facts, indent=1, default=_plain) + "\n")
    put_folder(writing, folder)


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
