"""What an objective is, and objectives by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from scmodelforge._registry import OBJECTIVES
from scmodelforge.config.schema import ModelConfig, TokenizerConfig
from scmodelforge.data.types import Batch, TokenBlock
from scmodelforge.data.vocab import GeneVocab

__all__ = ["Collator", "get_objective", "list_objectives", "register_objective"]

T = TypeVar("T", bound=type)


@runtime_checkable
class Collator(Protocol):
    """An objective: makes batches in which something is hidden and says what it was.

    It decides what a model is trained to predict and knows tokens, but no model. It is called with the cells of one
    forward pass. Whatever it draws depends on each cell's key alone (:mod:`scmodelforge.data.draws`), so that a cell
    gets the same batch row in any batch.

    Parameters
    ----------
    vocab
        The tokens.
    tokenizer_config
        Settings of the tokenizer, those of masking among them.
    model_config
        Settings of the model.

    Attributes
    ----------
    name
        Registered name.
    needs
        What the tokenizer must provide (:attr:`BaseTokenizer.provides`).
    needs_counts
        Whether values must be whole counts; may be left out.
    loss_terms
        Names of the terms of the loss, the keys of a batch's ``num_targets``.
    reads_masking
        Settings of masking it reads; may be left out by one that reads all.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    loss_terms: ClassVar[tuple[str, ...]]

    def __init__(self, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig) -> None: ...

    def __call__(self, tokens: TokenBlock) -> Batch:
        """Return the batch of some cells; of none too, with ``num_targets`` 0."""
        ...


def register_objective(name: str) -> Callable[[T], T]:
    """Return a class decorator that registers an objective under a name, which becomes the class's ``name``.

    Parameters
    ----------
    name
        What ``model.pretraining_task`` says to choose the objective.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def decorate(objective_class: T) -> T:
        registered: Any = OBJECTIVES.register(name)(objective_class)
        registered.name = name
        return objective_class

    return decorate


def get_objective(
    name: str, *, vocab: GeneVocab, tokenizer_config: TokenizerConfig, model_config: ModelConfig
) -> Collator:
    """Make a registered objective.

    Parameters
    ----------
    name
        Registered name.
    vocab, tokenizer_config, model_config
        What the objective is made for: see :class:`Collator`.

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    objective_class: Any = OBJECTIVES.get(name)
    objective: Collator = objective_class(vocab=vocab, tokenizer_config=tokenizer_config, model_config=model_config)
    return objective


def list_objectives() -> list[str]:
    """Return the names of all registered objectives, sorted."""
    return OBJECTIVES.names()
