"""Checks: made from settings, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from scmodelforge._errors import UserError
from scmodelforge.config.schema import ModelConfig
from scmodelforge.workflows.model_check.cells import VOCAB_SIZE
from scmodelforge.workflows.model_check.results import Check, fail, skip
from scmodelforge.workflows.model_check.subject import Subject

__all__ = ["CHECKS", "made_from_settings", "objective_makes_batches"]


def made_from_settings(subject: Subject) -> None:
    """The class has the three methods, and ``from_config`` makes a model of tiny settings."""
    for method in ("from_config", "forward", "encode"):
        if not callable(getattr(subject.model_class, method, None)):
            fail(f"{subject.model_class.__name__} has no {method}; a model needs from_config, forward and encode")
    if subject.model_class.forward is nn.Module.forward:
        fail(f"{subject.model_class.__name__} does not define forward; a model needs from_config, forward and encode")
    config_class: Any = getattr(subject.model_class, "config_class", ModelConfig)
    if not (isinstance(config_class, type) and issubclass(config_class, ModelConfig)):
        fail(f"config_class is {config_class!r}; it must be a subclass of scmodelforge.config.schema.ModelConfig")
    subject.choose_pooling()
    model = subject.fresh()
    if not isinstance(model, subject.model_class):
        fail(f"from_config returned {type(model).__name__}; it must return a {subject.model_class.__name__}")


def objective_makes_batches(subject: Subject) -> None:
    """The default objective is registered and makes batches of synthetic cells."""
    allowed = getattr(subject.model_class, "allowed_objectives", None)
    if allowed is not None and subject.objective_name not in allowed:
        fail(
            f"default_objective is '{subject.objective_name}', which allowed_objectives {tuple(allowed)} does not "
            "name; add it there"
        )
    try:
        subject.prepare()
    except UserError as problem:
        fail(f"{problem} The class's default_objective is '{subject.objective_name}'; name or register another one")


def _vocab_size_needed(subject: Subject) -> None:
    needed = (
        "from_config must raise a ValueError with the words 'vocab_size must be set'; raise it yourself when "
        "config.vocab_size is None"
    )
    try:
        subject.fresh(vocab_size=None)
    except ValueError as problem:
        if "vocab_size must be set" not in str(problem):
            fail(f"without vocab_size there was a ValueError that says '{_short(problem)}'; {needed}")
    except Exception as problem:
        fail(f"without vocab_size there was {type(problem).__name__}: {_short(problem)}; {needed}")
    else:
        fail(f"without vocab_size a model was made; {needed}")


def _unknown_ids_refused(subject: Subject) -> None:
    number = VOCAB_SIZE + 7
    batch = subject.clean()
    batch["input_ids"][0, 1] = number
    _refused(subject, batch, number, f"token id {number} with vocab_size {VOCAB_SIZE}", "use GeneExpressionEmbedding")


def _long_cells_refused(subject: Subject) -> None:
    limit = getattr(subject.settings(), "max_seq_len", None)
    if limit is None:
        skip("its settings have no max_seq_len")
    number = limit + 3
    batch = {
        "input_ids": torch.arange(number)[None] % (VOCAB_SIZE - 4) + 4,
        "attention_mask": torch.ones(1, number, dtype=torch.int64),
        "values": torch.ones(1, number),
    }
    _refused(
        subject, batch, number, f"a cell of {number} tokens with max_seq_len {limit}", "compare shape and max_seq_len"
    )


def _refused(subject: Subject, batch: dict[str, torch.Tensor], number: int, what: str, how: str) -> None:
    model = subject.model()
    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: subject.forward(model, batch),
        "encode": lambda: subject.encode(model, batch),
    }
    for method, call in calls.items():
        needed = f"{method} must raise a ValueError that names the number {number} (on the CPU, where looking is cheap)"
        try:
            call()
        except ValueError as problem:
            if str(number) not in str(problem):
                fail(f"{what} gave a ValueError that says '{_short(problem)}'; {needed}; {how}")
        except Exception as problem:
            fail(f"{what} gave {type(problem).__name__}: {_short(problem)}; {needed}; {how}")
        else:
            fail(f"{what} was taken without a word; {needed}; {how}")


def _short(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200]


CHECKS = (
    Check("settings without vocab_size are refused", _vocab_size_needed),
    Check("unknown token ids are refused", _unknown_ids_refused),
    Check("too long cells are refused", _long_cells_refused),
)
