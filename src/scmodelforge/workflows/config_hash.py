"""The settings that make a run what it is, as one number."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from scmodelforge.config.schema import RunConfig
from scmodelforge.data.sources.mixture import MixtureDataConfig

__all__ = ["config_hash"]

_PLACEMENT = (
    ("data", "paths"),
    ("data", "uri"),
    ("data", "remote"),
    ("data", "num_workers"),
    ("training", "accelerator"),
    ("training", "devices"),
    ("training", "num_nodes"),
    ("training", "strategy"),
    ("training", "fsdp"),
    ("training", "log_every_n_steps"),
    ("training", "guards"),
)


def config_hash(config: RunConfig) -> str:
    """Return the sha256 of the settings that make a run what it is.

    Left out are where it runs and where things lie: output, paths (the data have a hash of their own), plugins'
    places, devices, threads, how often is logged, and what ends a run that went wrong. What counts of the batch is its
    size over all devices.
    """
    # Without what is at its default, so that a later version's new settings do not make another run of it.
    settings = config.model_dump(mode="json", exclude_defaults=True)
    settings.pop("output", None)
    settings["plugins"] = [name.rpartition("/")[2] for name in config.plugins]
    finetune = settings.get("finetune", {})
    for name in (
        "base_model",
        "dictionaries",
        "trust_plugins",
        "gene_labels",
    ):  # which model it is stands in the fingerprint
        finetune.pop(name, None)
    for section in ("data", "tokenizer", "model", "training", "eval"):
        settings.setdefault(section, {})
    for section, key in _PLACEMENT:
        settings[section].pop(key, None)
    training = config.training
    for name in ("batch_size", "gradient_accumulation"):
        settings["training"].pop(name, None)
    if training.batch_size != "auto":  # else the global size is given
        over_devices = training.devices * training.num_nodes * training.gradient_accumulation
        settings["training"]["global_batch_size"] = training.batch_size * over_devices
    settings["data"].get("split", {}).pop("file", None)
    settings["data"].get("preprocessing", {}).pop("cache", None)
    if isinstance(config.data, MixtureDataConfig):
        for entry in settings["data"]["sources"]:
            entry.pop("paths", None)
            entry.pop("uri", None)
            entry.pop("remote", None)
    return hashlib.sha256(json.dumps(_without_empty(settings), sort_keys=True).encode()).hexdigest()


def _without_empty(settings: Any) -> Any:
    """Return settings without sections that have none left."""
    if not isinstance(settings, dict):
        return settings
    kept = {name: _without_empty(value) for name, value in settings.items()}
    return {name: value for name, value in kept.items() if value != {}}
