"""A head for cell types on a model there is: what fine-tuning begins with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from scmodelforge._errors import ConfigError, DataError, listed
from scmodelforge.hub.bundle import Bundle, build_model
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
    is_around = isinstance(bundle.model, FineTuneModel)
    source: nn.Module = bundle.model.backbone if isinstance(bundle.model, FineTuneModel) else bundle.model
    settings = bundle.model_config.backbone_settings() if is_around else bundle.model_config  # type: ignore[attr-defined]
    config = FineTunedConfig(
        backbone=settings, vocab_size=len(bundle.vocab), head=head or CellTypeHeadConfig(), num_cell_types=len(names)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config, bundle.tokenizer)
    _copy(source, model.backbone)  # type: ignore[arg-type]
    return replace(
        bundle,
        model=model.to(next(source.parameters()).device).eval(),
        model_config=config,
        objective=FineTuneModel.default_objective,
        labels={"column": column, "categories": names},
        fingerprint={**copy.deepcopy(bundle.fingerprint), "fine_tuned_from": bundle.model_id},
        plugins=list(bundle.plugins),
    )


def _copy(source: nn.Module, backbone: nn.Module) -> None:
    """Write the weights of a model into one of the same settings, of which parts were left out."""
    weights, wanted = source.state_dict(), backbone.state_dict()
    parts = tuple(f"{name}." for name in getattr(source, "pretraining_parts", ()))
    left = {name for name in weights.keys() - wanted.keys() if not f"{name}.".startswith(parts)}
    faults = {name for name in wanted if name not in weights or weights[name].shape != wanted[name].shape} | left
    if faults:
        msg = (
            f"the model has other weights than its settings make ({listed(sorted(faults), 3)}); give it as it was "
            "trained or loaded."
        )
        raise ConfigError(msg)
    backbone.load_state_dict({name: weights[name] for name in wanted})
