"""A head for cell types on a model there is: what fine-tuning begins with."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from scmodelforge._errors import DataError, listed
from scmodelforge.hub.adapters import bare_backbone
from scmodelforge.hub.bundle import Bundle, build_model
from scmodelforge.hub.weight_copies import copy_weights
from scmodelforge.models.fine_tuned import FineTuneModel
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig, FineTunedConfig

__all__ = ["fine_tuned_from"]


def fine_tuned_from(
    bundle: Bundle,
    categories: Sequence[str],
    *,
    column: str = "cell_type",
    head: CellTypeHeadConfig | None = None,
    seed: int = 0,
) -> Bundle:
    """Return a model with a new head on the weights of another one, which is not changed.

    The backbone has the weights of the model bit for bit, but for those that only its pretraining needed, and embeds
    cells as the model does. Of a model that has a head already the backbone is taken.

    Parameters
    ----------
    bundle
        The model with all it needs.
    categories
        The cell types, in the order of the head's scores.
    column
        obs column that they are from.
    head
        Settings of the head; ``None`` is the usual one.
    seed
        Seed of the head's first weights.

    Raises
    ------
    ConfigError
        If the settings of the head do not fit the model, or the model has other weights than its settings make.
    DataError
        If there are fewer than two cell types, or one is named twice.
    """
    names = [str(name) for name in categories]
    if len(names) < 2 or len({*names}) < len(names):
        told = f"{len(names)} cell types, of which {len({*names})} differ ({listed(names, 3)})"
        msg = f"{told}; give two or more, each once."
        raise DataError(msg)
    is_around, source = isinstance(bundle.model, FineTuneModel), bare_backbone(bundle.model)
    settings = bundle.model_config.backbone_settings() if is_around else bundle.model_config  # type: ignore[attr-defined]
    config = FineTunedConfig(
        backbone=settings, vocab_size=len(bundle.vocab), head=head or CellTypeHeadConfig(), num_cell_types=len(names)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config, bundle.tokenizer)
    backbone: Any = model.backbone
    copy_weights(source, backbone)
    return replace(
        bundle,
        model=model.to(next(source.parameters()).device).eval(),
        model_config=config,
        objective=FineTuneModel.default_objective,
        labels={"column": column, "categories": names},
        fingerprint=_fingerprint(bundle, config, names, column=column, seed=seed),
        plugins=list(bundle.plugins),
        origin="",  # it was not loaded from there
    )


def _fingerprint(
    bundle: Bundle, config: FineTunedConfig, names: list[str], *, column: str, seed: int
) -> dict[str, Any]:
    """Return the fingerprint of the model with an identity of the new one: results of both must not be mixed up."""
    own = [bundle.fingerprint.get("config_hash"), bundle.model_id, config.model_dump(mode="json"), names, column, seed]
    found = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    base = copy.deepcopy(bundle.fingerprint)
    return {**base, "config_hash": found, "step": 0, "fine_tuned_from": bundle.model_id}
