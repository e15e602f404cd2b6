"""The adapters of a fine-tuned model written for others: by themselves, or merged into its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scmodelforge._errors import RunError
from scmodelforge.hub.adapters import load_adapter, merge_adapter, save_adapter
from scmodelforge.hub.bundle import Bundle, load_bundle, save_bundle
from scmodelforge.hub.push_check import try_model

__all__ = ["write_adapter", "write_merged"]

_SAME = 1e-5


def write_adapter(bundle: Bundle, card: str, folder: Path, base: Bundle | None) -> list[str]:
    """Write adapters and head, and if the base model is at hand put them on it and compare.

    Returns
    -------
    Lines for the user.

    Raises
    ------
    RunError
        If what was written is not the model.
    """
    save_adapter(folder, bundle, card=card)
    needed = bundle.fingerprint.get("fine_tuned_from")
    if base is None:
        return [f"it needs base model {needed}, which is not at hand: not read again"]
    _compare(bundle, load_adapter(folder, base))
    return [f"it needs base model {needed}; put on it, it gives the embeddings of the model"]


def write_merged(bundle: Bundle, card: str, folder: Path) -> list[str]:
    """Write a model folder with the adapters in the weights, and compare.

    Returns
    -------
    Lines for the user.

    Raises
    ------
    RunError
        If what was written is not the model.
    """
    save_bundle(folder, merge_adapter(bundle), card=card)
    _compare(bundle, load_bundle(folder))
    return [f"the adapters are in the weights; embeddings differ by less than {_SAME:g}"]


def _compare(bundle: Bundle, again: Bundle) -> None:
    furthest = float(np.abs(try_model(bundle).embeddings - try_model(again).embeddings).max())
    if furthest > _SAME:
        msg = f"nothing was written: read again, embeddings differ from the model's by up to {furthest:.3g}."
        raise RunError(msg)
