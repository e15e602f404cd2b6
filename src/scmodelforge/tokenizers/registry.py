"""Tokenizers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from scmodelforge._registry import TOKENIZERS
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.vocab import GeneVocab

if TYPE_CHECKING:
    from scmodelforge.tokenizers.base import BaseTokenizer

__all__ = ["get_tokenizer", "list_tokenizers", "register_tokenizer"]

T = TypeVar("T", bound=type)


def register_tokenizer(name: str) -> Callable[[T], T]:
    """Return a class decorator that registers a tokenizer under a name, which becomes the class's ``strategy``.

    Parameters
    ----------
    name
        What ``tokenizer.strategy`` says to choose the tokenizer.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def decorate(tokenizer_class: T) -> T:
        registered: Any = TOKENIZERS.register(name)(tokenizer_class)
        registered.strategy = name
        return tokenizer_class

    return decorate


def get_tokenizer(name: str, config: TokenizerConfig, vocab: GeneVocab) -> BaseTokenizer:
    """Make a registered tokenizer.

    Parameters
    ----------
    name
        Registered name.
    config
        Settings. Plain ones are completed with the defaults of the tokenizer's own.
    vocab
        The genes that have tokens.

    Raises
    ------
    ConfigError
        If the name is unknown or the settings do not fit the tokenizer.
    """
    tokenizer_class: Any = TOKENIZERS.get(name)
    tokenizer: BaseTokenizer = tokenizer_class(config.model_copy(update={"strategy": name}), vocab)
    return tokenizer


def list_tokenizers() -> list[str]:
    """Return the names of all registered tokenizers, sorted."""
    return TOKENIZERS.names()
