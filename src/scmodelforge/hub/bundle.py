"""The model folder: everything a trained model needs to be used on new data, in files that hold no code.

=============================  ====================================================================
``config.json``                format version, model settings, objective, plugins
``model.safetensors``          weights
``tokenizer.json``             settings and fitted state of the tokenizer
``tokenizer.safetensors``      arrays of the tokenizer, if it has any
``vocab.json``                 genes and special tokens
``preprocessing.json``         what is done to counts before tokens are made of them
``labels.json``                label column and categories seen in training
``fingerprint.json``           the data, split and settings the weights come from
``trained_cells.safetensors``  what tells which cells it was trained on, if that is known
``README.md``                  model card
=============================  ====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError
from scmodelforge._json_files import read_json_object
from scmodelforge._registry import MODELS, OBJECTIVES, TOKENIZERS
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import FORMAT_VERSION
from scmodelforge.data.cell_sketch import CellSketch
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub.folder_settings import check_objective, read_folder_settings, read_model_settings
from scmodelforge.hub.plugin_files import copy_plugins, find_plugins, require_inside
from scmodelforge.hub.sketch_file import load_sketch, save_sketch
from scmodelforge.hub.weights import check_depth, load_weights
from scmodelforge.models.components.given import apply_embedding_spec
from scmodelforge.models.components.special_tokens import apply_special_tokens
from scmodelforge.models.registry import get_model
from scmodelforge.tokenizers.saved import (
    load_preprocessor,
    load_tokenizer,
    save_preprocessor,
    save_tokenizer,
    saved_strategy,
)

__all__ = ["FILES", "Bundle", "BundleParts", "build_model", "load_bundle", "load_parts", "save_bundle"]

#: Files that every model folder has.
FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.json", "preprocessing.json", "fingerprint.json")

#: Files whose content goes on as it is to whoever the model is passed on to: a link must not bring in another file.
_TEXTS = (
    "config.json",
    "tokenizer.json",
    "vocab.json",
    "preprocessing.json",
    "labels.json",
    "fingerprint.json",
    "README.md",
)

_AGAIN = "copy or export the model again"


@dataclass
class Bundle:
    """A model with all it needs: what a model folder holds.

    Attributes
    ----------
    model
        The model, in evaluation mode when loaded.
    model_config
        Its settings, ``vocab_size`` included.
    tokenizer
        The fitted tokenizer.
    vocab
        The vocabulary the token ids belong to.
    preprocessor
        What is done to counts before tokens are made of them.
    objective
        Registered name of the objective the model was trained with.
    labels
        ``{"column": ..., "categories": [...]}`` of the training cells, or empty; of a model that knows batches also
        theirs, as ``batch_labels``. The order of categories is that of a model's outputs.
    fingerprint
        What the weights come from: data, split, settings, step.
    plugins
        Python files (paths) or modules that register the model's own parts.
    trained_cells
        What tells which cells the model was trained on; ``None`` if that is not known.
    origin
        Address that :func:`~scmodelforge.hub.load.load_model` loaded it from, or empty. It is not saved.
    folder
        Model folder of ours that it was read from; ``None`` for any other. It is not saved.
    """

    model: nn.Module
    model_config: ModelConfig
    tokenizer: Any
    vocab: GeneVocab
    preprocessor: Preprocessor
    objective: str
    labels: dict[str, Any] = field(default_factory=dict)
    fingerprint: dict[str, Any] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)
    trained_cells: CellSketch | None = None
    origin: str = ""
    folder: Path | None = field(default=None, init=False)  # a changed copy is not what the folder holds

    def __post_init__(self) -> None:
        self.vocab.is_fixed = True  # messages on cells advise what can be done about them, and that is no setting

    @property
    def model_id(self) -> str:
        """Short identity of the weights' origin, for results: hash of the run, or of what was imported, and step."""
        return f"{self.fingerprint.get('config_hash', 'unknown')[:12]}@{self.fingerprint.get('step', 0)}"


@dataclass
class BundleParts:
    """What a model folder holds beside the model; the attributes are those of :class:`Bundle`."""

    model_config: ModelConfig
    tokenizer: Any
    vocab: GeneVocab
    preprocessor: Preprocessor
    objective: str
    labels: dict[str, Any]
    fingerprint: dict[str, Any]
    plugins: list[str]
    trained_cells: CellSketch | None


def build_model(model_config: ModelConfig, tokenizer: Any) -> nn.Module:
    """Make a model with fresh weights, given what its tokenizer brings for the embedding layer and its tokens."""
    model = get_model(model_config.architecture, model_config)
    spec = tokenizer.embedding_spec()
    if spec is not None:
        apply_embedding_spec(model, spec)
    apply_special_tokens(model, tokenizer.vocab)
    return model


def save_bundle(folder: Path, bundle: Bundle, *, card: str, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a model folder. The folder may exist; its files are replaced.

    Parameters
    ----------
    folder
        Folder to write to; made when absent.
    bundle
        What to write.
    card
        Text of the model card.
    weights
        The weights to write, tied ones once; ``None`` takes the model's own.
    """
    from safetensors.torch import save_file, save_model

    folder.mkdir(parents=True, exist_ok=True)
    _write_json(
        folder / "config.json",
        {
            "format_version": FORMAT_VERSION,
            "scmodelforge_version": __version__,
            "objective": bundle.objective,
            "vocab_digest": bundle.vocab.digest(),
            "plugins": copy_plugins(bundle.plugins, folder),
            "model": bundle.model_config.model_dump(mode="json"),
        },
    )
    save_tokenizer(bundle.tokenizer, folder)
    save_preprocessor(bundle.preprocessor, folder)
    _write_json(folder / "labels.json", bundle.labels)
    _write_json(folder / "fingerprint.json", bundle.fingerprint)
    save_sketch(bundle.trained_cells, folder)
    (folder / "README.md").write_text(card)
    path = str(folder / "model.safetensors")
    if weights is None:
        save_model(bundle.model, path)
    else:
        save_file(dict(weights), path)


def load_bundle(folder: str | Path, *, trust_plugins: bool = False) -> Bundle:
    """Read a model folder.

    Parameters
    ----------
    folder
        The model folder.
    trust_plugins
        Import the Python files the folder names. They can run anything; without this they are refused.

    Raises
    ------
    DataError
        If the folder is missing, incomplete, damaged, of a newer format, or its parts do not belong together.
    ConfigError
        If it needs Python files of its own, and these are not trusted, or cannot be imported.
    """
    parts = load_parts(folder, trust_plugins=trust_plugins)
    model = _built(parts, Path(folder))
    load_weights(model, Path(folder) / "model.safetensors")
    bundle = Bundle(model=model.eval(), **vars(parts))
    bundle.folder = Path(folder)
    return bundle


def load_parts(folder: str | Path, *, trust_plugins: bool = False) -> BundleParts:
    """Read all of a model folder but the weights: no model is made.

    The arguments and errors are those of :func:`load_bundle`.
    """
    folder = Path(folder)
    _check_files(folder)
    settings = read_folder_settings(folder)
    plugins = find_plugins(folder, settings.plugins)
    is_known = all(name in MODELS for name in settings.architectures) and saved_strategy(folder) in TOKENIZERS
    is_whole = is_known and (settings.objective in OBJECTIVES or not trust_plugins)  # to embed it needs none
    if plugins and not is_whole:
        _import_plugins(settings.plugins, folder, trusted=trust_plugins)
    check_objective(settings, folder, is_own_possible=bool(plugins) and not trust_plugins)
    model_config = read_model_settings(settings, folder)
    tokenizer = load_tokenizer(folder)
    vocab = tokenizer.vocab
    if model_config.vocab_size != len(vocab) or settings.vocab_digest not in (None, vocab.digest()):
        its = f"{model_config.vocab_size} tokens" if model_config.vocab_size != len(vocab) else "other genes"
        msg = (
            f"{folder}: the model was made for {its}, not for the {len(vocab)} tokens in vocab.json; "
            "the folder's files do not belong together. Export the model again."
        )
        raise DataError(msg)
    return BundleParts(
        model_config=model_config,
        tokenizer=tokenizer,
        vocab=vocab,
        preprocessor=load_preprocessor(folder),
        objective=settings.objective,
        labels=read_json_object(folder / "labels.json", _AGAIN) if (folder / "labels.json").exists() else {},
        fingerprint=read_json_object(folder / "fingerprint.json", _AGAIN),
        plugins=plugins,
        trained_cells=load_sketch(folder),
    )


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        msg = f"{folder} is not a folder; give the folder of a model (it holds config.json and model.safetensors)."
        raise DataError(msg)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        is_run = (folder / "model" / "config.json").is_file()
        advice = f"Did you mean {folder / 'model'}?" if is_run else "Export the model again."
        msg = f"{folder} is not a complete model folder: {', '.join(missing)} missing. {advice}"
        raise DataError(msg)
    for name in _TEXTS:
        require_inside(folder, folder / name)


def _import_plugins(plugins: list[str], folder: Path, *, trusted: bool) -> None:
    if not trusted:
        msg = (
            f"{folder}: the model needs Python code of its own ({', '.join(plugins)}), which is not run unasked. "
            "If you trust it, use --trust-plugins (in Python: trust_plugins=True)."
        )
        raise ConfigError(msg)
    from scmodelforge.config.load import load_plugins

    load_plugins(plugins, folder)


def _built(parts: BundleParts, folder: Path) -> nn.Module:
    """Make the model of a folder, whose settings may be right each by itself and not together."""
    check_depth(parts.model_config.model_dump(), folder / "model.safetensors")
    try:
        return build_model(parts.model_config, parts.tokenizer)
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        msg = f"{folder / 'config.json'}: no model can be made of its settings ({reason}); {_AGAIN}."
        raise DataError(msg) from problem


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
