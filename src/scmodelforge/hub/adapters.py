"""Low-rank adapters of a fine-tuned model: in a folder of their own, or merged into the weights.

The folder is as ``peft`` writes and reads it, and has beside the adapters what else was trained:

==============================  ============================================================
``adapter_config.json``         settings of the adapters, as of ``peft``
``adapter_model.safetensors``   their weights
``head.safetensors``            weights of the head
``scmodelforge.json``           settings of the model, labels, and which base model it needs
``README.md``                   model card
==============================  ============================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmodelforge import __version__
from scmodelforge._errors import ConfigError, DataError
from scmodelforge._json_files import read_json_object
from scmodelforge.constants import FORMAT_VERSION
from scmodelforge.hub.bundle import Bundle, build_model
from scmodelforge.hub.weight_copies import copy_weights
from scmodelforge.models.components.adapters import merged_copy, require_peft
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.fine_tuned_config import FineTunedConfig

__all__ = ["ADAPTER_FILES", "bare_backbone", "load_adapter", "merge_adapter", "save_adapter"]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "head.safetensors", "scmodelforge.json")
_PREFIX = "base_model.model."  # of names in the files of peft
_AGAIN = "export the adapter again"


def save_adapter(folder: Path, bundle: Bundle, *, card: str) -> None:
    """Write the adapters and the head of a model, without its base model.

    Parameters
    ----------
    folder
        Folder to write to; made when absent.
    bundle
        The model.
    card
        Text of the model card.

    Raises
    ------
    ConfigError
        If it has no adapters.
    """
    from safetensors.torch import save_file

    model, config = _adapted(bundle)
    peft = require_peft()
    model.backbone.peft_config["default"].save_pretrained(str(folder))
    found = peft.get_peft_model_state_dict(model.backbone, save_embedding_layers=False)
    weights = {f"{_PREFIX}{name}": tensor.detach().cpu().contiguous() for name, tensor in found.items()}
    save_file(weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    head = {} if model.head is None else model.head.state_dict()
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.items()}, folder / "head.safetensors")
    about = {
        "format_version": FORMAT_VERSION,
        "scmodelforge_version": __version__,
        "objective": bundle.objective,
        "vocab_digest": bundle.vocab.digest(),
        "model": config.model_dump(mode="json"),
        "labels": bundle.labels,
        "fingerprint": bundle.fingerprint,
    }
    (folder / "scmodelforge.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    (folder / "README.md").write_text(card)


def load_adapter(folder: str | Path, base: Bundle) -> Bundle:
    """Put saved adapters and their head on the base model, which is not changed.

    Parameters
    ----------
    folder
        What :func:`save_adapter` wrote.
    base
        The model that they were trained on.

    Raises
    ------
    DataError
        If the folder is no such folder, its weights are not those of its settings, or the adapters are of another base
        model.
    ImportError
        If ``peft`` is not installed.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        msg = f"{folder} is not the folder of an adapter: {', '.join(missing)} missing; {_AGAIN}."
        raise DataError(msg)
    about = read_json_object(folder / "scmodelforge.json", _AGAIN)
    needed = about["fingerprint"].get("fine_tuned_from")
    if needed != base.model_id or about["vocab_digest"] != base.vocab.digest():
        msg = f"{folder}: the adapter is of base model {needed}, and this is {base.model_id}; give that model."
        raise DataError(msg)
    peft = require_peft()
    config = FineTunedConfig.model_validate(about["model"])
    model: Any = build_model(config.model_copy(update={"adapter": None}), base.tokenizer)
    copy_weights(bare_backbone(base.model), model.backbone)
    assert config.adapter is not None
    model.add_adapter(config.adapter)
    weights = load_file(folder / "adapter_model.safetensors")
    own = {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items()}
    # peft leaves an adapter without weights at zero, and passes over those of no layer, in silence
    own_names = peft.get_peft_model_state_dict(model.backbone, save_embedding_layers=False)
    _require_whole(own, own_names, folder / "adapter_model.safetensors")
    peft.set_peft_model_state_dict(model.backbone, own)
    head = load_file(folder / "head.safetensors")
    _require_whole(head, model.head.state_dict(), folder / "head.safetensors")
    model.head.load_state_dict(head)
    return replace(
        base,
        model=model.eval(),
        model_config=config,
        objective=about["objective"],
        labels=about["labels"],
        fingerprint=about["fingerprint"],
        plugins=list(base.plugins),
    )


def merge_adapter(bundle: Bundle) -> Bundle:
    """Return a model whose adapters are added to the weights of their layers; the given one is not changed.

    Raises
    ------
    ConfigError
        If it has no adapters.
    """
    model, config = _adapted(bundle)
    merged: Any = merged_copy(model)
    plain = config.model_copy(update={"adapter": None})
    merged.config = plain
    return replace(bundle, model=merged.eval(), model_config=plain, plugins=list(bundle.plugins))


def bare_backbone(model: nn.Module) -> nn.Module:
    """Return a model's backbone if it is one with a head, else the model; adapters are merged, in a copy."""
    found: nn.Module = model.backbone if isinstance(model, FineTuneModel) else model
    is_adapted = isinstance(model, FineTuneModel) and model.config.adapter is not None
    return merged_copy(found) if is_adapted else found


def _require_whole(given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse weights that are not, name by name, those of a model."""
    missing, foreign = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    other = sorted(name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape)
    faults = ((missing, "not there"), (foreign, "of no layer of the model"), (other, "of another shape"))
    found = [f"{len(names)} weights are {what} ({names[0]})" for names, what in faults if names]
    if found:
        raise DataError(f"{path}: {', '.join(found)}; {_AGAIN}.")


def _adapted(bundle: Bundle) -> tuple[FineTuneModel, FineTunedConfig]:
    model, config = bundle.model, bundle.model_config
    if not isinstance(model, FineTuneModel) or not isinstance(config, FineTunedConfig) or config.adapter is None:
        msg = (
            f"model {bundle.model_id} has no adapters; they are of models fine-tuned with finetune.adaptation 'lora' "
            "or 'dora'. Export it as a folder."
        )
        raise ConfigError(msg)
    return model, config
