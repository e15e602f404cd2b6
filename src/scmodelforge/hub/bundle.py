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
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError
from scmodelforge._json_files import read_json_object
from scmodelforge._registry import MODELS, TOKENIZERS
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import FORMAT_VERSION
from scmodelforge.data.cell_sketch import CellSketch
from scmodelforge.data.preprocess import Preprocessor
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.hub.sketch_file import load_sketch, save_sketch
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

__all__ = ["Bundle", "BundleParts", "build_model", "copy_plugins", "load_bundle", "load_parts", "save_bundle"]

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.json", "preprocessing.json", "fingerprint.json")

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
        If its model is of an architecture that is not registered.
    """
    parts = load_parts(folder, trust_plugins=trust_plugins)
    model = build_model(parts.model_config, parts.tokenizer)
    _load_weights(model, Path(folder) / "model.safetensors")
    return Bundle(model=model.eval(), **vars(parts))


def load_parts(folder: str | Path, *, trust_plugins: bool = False) -> BundleParts:
    """Read all of a model folder but the weights: no model is made.

    The arguments and errors are those of :func:`load_bundle`.
    """
    folder = Path(folder)
    _check_files(folder)
    settings = read_json_object(folder / "config.json", _AGAIN)
    if settings.get("format_version") != FORMAT_VERSION:
        msg = (
            f"{folder}: model folder of format {settings.get('format_version')}, this version reads format "
            f"{FORMAT_VERSION}; install the version that wrote it, scmodelforge {settings.get('scmodelforge_version')}."
        )
        raise DataError(msg)
    plugins = settings.get("plugins", [])
    architectures = {part["architecture"] for part in (settings["model"], settings["model"].get("backbone")) if part}
    is_known = architectures <= {*MODELS.names()} and saved_strategy(folder) in TOKENIZERS.names()
    if plugins and not is_known:
        _import_plugins(plugins, folder, trusted=trust_plugins)
    architecture = MODELS.get(settings["model"]["architecture"])
    model_config = getattr(architecture, "config_class", ModelConfig).model_validate(settings["model"])
    tokenizer = load_tokenizer(folder)
    vocab = tokenizer.vocab
    if model_config.vocab_size != len(vocab) or settings.get("vocab_digest", vocab.digest()) != vocab.digest():
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
        objective=settings["objective"],
        labels=read_json_object(folder / "labels.json", _AGAIN) if (folder / "labels.json").exists() else {},
        fingerprint=read_json_object(folder / "fingerprint.json", _AGAIN),
        plugins=[str(folder / plugin) if plugin.endswith(".py") else plugin for plugin in plugins],
        trained_cells=load_sketch(folder),
    )


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        msg = f"{folder} is not a folder; give the folder of a model (it holds config.json and model.safetensors)."
        raise DataError(msg)
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        is_run = (folder / "model" / "config.json").is_file()
        advice = f"Did you mean {folder / 'model'}?" if is_run else "Export the model again."
        msg = f"{folder} is not a complete model folder: {', '.join(missing)} missing. {advice}"
        raise DataError(msg)


def _import_plugins(plugins: list[str], folder: Path, *, trusted: bool) -> None:
    if not trusted:
        msg = (
            f"{folder}: the model needs Python code of its own ({', '.join(plugins)}), which is not run unasked. "
            "If you trust it, use --trust-plugins (in Python: trust_plugins=True)."
        )
        raise ConfigError(msg)
    from scmodelforge.config.load import load_plugins

    load_plugins(plugins, folder)


def copy_plugins(plugins: list[str], folder: Path) -> list[str]:
    """Copy plugin files into a folder, so that it can be moved, and return their names in it; modules stay names."""
    names = []
    for plugin in plugins:
        source = Path(plugin)
        if source.suffix != ".py":
            names.append(plugin)
            continue
        target = folder / "plugins" / source.name
        target.parent.mkdir(exist_ok=True)
        if source.resolve() != target.resolve():
            shutil.copyfile(source, target)
        names.append(f"plugins/{source.name}")
    return names


def _load_weights(model: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(model, str(path), strict=True)
    except SafetensorError as problem:
        msg = f"{path}: damaged or not a safetensors file ({problem}). Copy or export the model again."
        raise DataError(msg) from problem
    except RuntimeError as problem:
        msg = f"{path}: the weights do not fit the model of config.json: {' '.join(str(problem).split())}"
        raise DataError(msg) from problem


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
