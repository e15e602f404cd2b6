"""The model of a run before its first step, which its scores are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from scmodelforge._errors import UserError
from scmodelforge.config.schema import RunConfig
from scmodelforge.eval.base import Record
from scmodelforge.hub.bundle import Bundle, build_model
from scmodelforge.workflows.base_model import load_task

__all__ = ["UNTRAINED", "before_training", "what_untrained_is"]

#: The baseline.
UNTRAINED = "untrained"


def before_training(
    config: RunConfig, bundle: Bundle, baselines: list[str]
) -> tuple[Callable[[], nn.Module], list[str], list[str]]:
    """Return what makes the model of a run as it was before its first step, for an evaluation after the run.

    Of a fine-tuned model that is its base model with a fresh head, which is loaded as for resuming the run.

    Parameters
    ----------
    config
        Settings of the run; those of a model that comes without its run are the defaults.
    bundle
        The model.
    baselines
        What it is compared with.

    Returns
    -------
    The function, the baselines, without :data:`UNTRAINED` where the base model is not there, and what to say of it.
    """
    own = bundle.fingerprint.get("fine_tuned_from")
    if own is None or UNTRAINED not in baselines:
        return _drawn(config, lambda: build_model(bundle.model_config, bundle.tokenizer)), baselines, []
    why = "the settings of its run are not here; evaluate the run's folder"
    try:
        task = load_task(config)
    except (UserError, OSError) as problem:
        task, why = None, " ".join(str(problem).split())
    if task is not None:
        return _drawn(config, lambda: task.fresh(bundle.model_config)), baselines, []
    note = f"'{UNTRAINED}' is left out: it is the base model {own}, which cannot be loaded ({why})"
    return _drawn(config, _nothing), [name for name in baselines if name != UNTRAINED], [note]


def what_untrained_is(config: RunConfig, records: Iterable[Record]) -> list[str]:
    """Return what the baseline is of a fine-tuned model; nothing where it is not among the scores."""
    if config.finetune is None or not any(record.representation == UNTRAINED for record in records):
        return []
    return [
        f"'{UNTRAINED}' in these tables is the base model before fine-tuning (zero-shot), with a fresh head: "
        f"{config.finetune.base_model_id}"
    ]


def _drawn(config: RunConfig, make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Return a function that makes a model with the first draws of a run."""

    def made() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(config.training.seed)
            return make()

    return made


def _nothing() -> nn.Module:
    raise AssertionError
