"""What a fine-tuned model says of how it was made: of which model, by which task, and how much of it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn

from scmodelforge._registry import TASKS
from scmodelforge.config.schema import RunConfig
from scmodelforge.finetuning.base import Task
from scmodelforge.hub.addresses import HubRepository, LocalFolder, parse_address
from scmodelforge.hub.bundle import Bundle

__all__ = ["fine_tuned_from", "fine_tuning_facts", "next_command"]


def fine_tuning_facts(task: Task | None, config: RunConfig, model: nn.Module) -> dict[str, Any]:
    """Return what fingerprint and ``run.json`` say under ``fine_tuning``; nothing of a run without a base model.

    Parameters
    ----------
    task, config
        The task of the run, and its settings.
    model
        The model before its first step, for the sizes and names of its parameters.
    """
    if task is None:
        return {}
    patterns = [pattern for stage in config.training.unfreeze for pattern in stage.parameters]
    sizes = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (not patterns or any(fnmatchcase(name, each) for each in patterns))
    }
    own = task.config
    found = {"task": own.task, "adaptation": own.adaptation, "base": _name(own.base_model)}
    repository = _repository(own.base_model, task.base)
    more = {} if repository is None else {"base_repository": repository}
    return {"fine_tuning": {**found, **more, "trained_parameters": sum(sizes.values())}}


def fine_tuned_from(facts: Mapping[str, Any]) -> str:
    """Return in a sentence what a model was made of, of its fingerprint or ``run.json``; empty if of no other."""
    model_id, own = facts.get("fine_tuned_from"), facts.get("fine_tuning") or {}
    if model_id is None:
        return ""
    if not own:  # made by an older version
        return f"Fine-tuned from model {model_id}."
    text = f"Fine-tuned from {own['base']} (model {model_id}) for {str(own['task']).replace('_', ' ')}, adaptation "
    return f"{text}'{own['adaptation']}': {own['trained_parameters']:,} parameters were trained."


def next_command(task: str | None) -> str:
    """Return the command that uses a model that a task made, without the model; one that embeds, if none did."""
    made: Any = TASKS.get(task) if task is not None and task in TASKS else Task
    return str(getattr(made, "command", Task.command))


def _name(base_model: str) -> str:
    """Return an address without folders of this machine: of a run, its name."""
    address = parse_address(base_model)
    if not isinstance(address, LocalFolder):
        return str(address)
    path = Path(address.path)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def _repository(base_model: str, base: Bundle) -> str | None:
    """Return the hub's repository of a base model, ``None`` if it is from nowhere there."""
    address = parse_address(base_model)
    if isinstance(address, HubRepository):
        return address.repo_id
    found = base.fingerprint.get("imported_from", {}).get("repository")
    return None if found is None else str(found)
