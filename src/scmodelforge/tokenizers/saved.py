"""Tokenizers in a folder: ``tokenizer.json`` has settings and fitted state, ``vocab.json`` the genes they are for.

Arrays too large for JSON, if there are any, are in ``tokenizer.safetensors``, and what is done to cells first is in
``preprocessing.json``. A model folder has these files
(:mod:`scmodelforge.hub.bundle`), and so has what ``scmodelforge tokenizer fit`` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge._registry import TOKENIZERS
from scmodelforge.config.schema import PreprocessingConfig
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.vocab import GeneVocab

if TYPE_CHECKING:
    from scmodelforge.tokenizers.base import BaseTokenizer

__all__ = ["load_preprocessor", "load_tokenizer", "save_preprocessor", "save_tokenizer", "saved_strategy"]

_TOKENIZER, _VOCAB, _ARRAYS = "tokenizer.json", "vocab.json", "tokenizer.safetensors"
_PREPROCESSING = "preprocessing.json"


def save_tokenizer(tokenizer: BaseTokenizer, folder: str | Path) -> None:
    """Write a tokenizer and its vocabulary to a folder, which is made when absent; its other files stay.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    folder = Path(folder)
    state = json.dumps({"strategy": tokenizer.strategy, **tokenizer.to_dict()}, indent=1, sort_keys=True) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"{_VOCAB}.writing"
        tokenizer.vocab.save(new)
        new.replace(folder / _VOCAB)
        _save_arrays(tokenizer.arrays(), folder)
        new = folder / f"{_TOKENIZER}.writing"
        new.write_text(state, encoding="utf-8")
        new.replace(folder / _TOKENIZER)
    except OSError as error:
        msg = f"{folder}: the tokenizer cannot be written ({error.strerror}); name another folder."
        raise DataError(msg) from error


def saved_strategy(folder: str | Path) -> str:
    """Return the registered name of the tokenizer in a folder.

    Raises
    ------
    DataError
        If there is none, or it is damaged.
    """
    return str(_state(Path(folder))["strategy"])


def load_tokenizer(folder: str | Path) -> BaseTokenizer:
    """Read what :func:`save_tokenizer` wrote, or the tokenizer of a model folder.

    Raises
    ------
    DataError
        If the files are missing or damaged, or do not belong together.
    ConfigError
        If the tokenizer is of a kind that is not registered.
    """
    folder = Path(folder)
    state = _state(folder)
    tokenizer_class: Any = TOKENIZERS.get(state.pop("strategy"))
    vocab, arrays = GeneVocab.load(folder / _VOCAB), _load_arrays(folder / _ARRAYS)
    vocab.is_fixed = True
    try:
        tokenizer: BaseTokenizer = tokenizer_class.from_dict(state, vocab, **arrays)
    except (ConfigError, DataError) as problem:
        msg = f"{folder}: {problem}"
        raise type(problem)(msg) from problem
    return tokenizer


def save_preprocessor(preprocessor: Preprocessor, folder: str | Path) -> None:
    """Write what is done to cells before tokens are made of them to a folder, which must exist."""
    content = json.dumps(preprocessor.to_dict(), indent=1, sort_keys=True) + "\n"
    (Path(folder) / _PREPROCESSING).write_text(content, encoding="utf-8")


def load_preprocessor(folder: str | Path) -> Preprocessor:
    """Read what :func:`save_preprocessor` wrote; of a folder without it, what changes nothing.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = Path(folder) / _PREPROCESSING
    return Preprocessor.from_dict(_read(path)) if path.exists() else Preprocessor(PreprocessingConfig())


def _save_arrays(arrays: dict[str, np.ndarray], folder: Path) -> None:
    from safetensors.numpy import save_file

    if not arrays:
        (folder / _ARRAYS).unlink(missing_ok=True)  # of a tokenizer that was here before
        return
    new = folder / f"{_ARRAYS}.writing"
    save_file(arrays, str(new))
    new.replace(folder / _ARRAYS)


def _load_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of a tokenizer as the argument its ``from_dict`` takes, if it has any."""
    if not path.is_file():
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {"arrays": load_file(str(path))}
    except SafetensorError as problem:
        msg = f"{path}: damaged or not a safetensors file ({problem}). Copy or save the tokenizer again."
        raise DataError(msg) from problem


def _state(folder: Path) -> dict[str, Any]:
    path = folder / _TOKENIZER
    state = _read(path)
    if not isinstance(state, dict) or not isinstance(state.get("strategy"), str):
        msg = f"{path}: it does not say which tokenizer it is ('strategy'). Copy or save the tokenizer again."
        raise DataError(msg)
    return state


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give a folder with tokenizer.json and vocab.json."
        raise DataError(msg) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not readable as JSON ({error}). Copy or save the tokenizer again."
        raise DataError(msg) from error
