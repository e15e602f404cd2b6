"""Where special tokens and genes stand among the ids of a vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from scmodelforge._errors import DataError

__all__ = ["SpecialId", "check_special_ids", "free_ids", "kept_in_order", "numbers_of", "split_token_dict"]


class SpecialId:
    """Attribute of a vocabulary: the id of one of its special tokens.

    Parameters
    ----------
    token
        The special token.
    doc
        What the attribute is.
    """

    def __init__(self, token: str, doc: str) -> None:
        self._token = token
        self.__doc__ = doc

    def __get__(self, vocab: Any, owner: type | None = None) -> int:
        """Return the id; a ``DataError`` says that there is no such token."""
        if vocab is None:
            return self  # type: ignore[return-value]
        if self._token not in vocab.special_tokens:
            listed = ", ".join(vocab.special_tokens) or "none"
            msg = f"gene_vocab '{vocab.name}' has no {self._token} token; it has {listed}."
            raise DataError(msg)
        return int(vocab.special_tokens[self._token])


def free_ids(special_tokens: Mapping[str, int], num_genes: int) -> np.ndarray:
    """Return the ids of the genes, shape (G,), int32: those that no special token has, in ascending order."""
    is_free = np.ones(len(special_tokens) + num_genes, dtype=bool)
    is_free[list(special_tokens.values())] = False
    ids = np.flatnonzero(is_free).astype(np.int32)
    ids.setflags(write=False)
    return ids


def numbers_of(gene_ids: np.ndarray, size: int) -> np.ndarray:
    """Return the number of the gene of each of ``size`` tokens, from 0, shape (V,), int64; -1 where there is none."""
    numbers = np.full(size, -1, dtype=np.int64)
    numbers[gene_ids] = np.arange(len(gene_ids))
    numbers.setflags(write=False)
    return numbers


def kept_in_order(special_tokens: Mapping[str, int], gene_ids: np.ndarray) -> dict[str, int]:
    """Return the ids of special tokens once of all genes only those with some old ids are left, the order kept."""
    return {
        token: int(np.count_nonzero(gene_ids < old)) + sum(other < old for other in special_tokens.values())
        for token, old in special_tokens.items()
    }


def check_special_ids(special_tokens: Mapping[str, Any], size: int, prefix: str) -> None:
    """Refuse ids of special tokens that are not whole numbers from 0 to ``size - 1``, each once.

    Raises
    ------
    DataError
        If they are not.
    """
    ids = list(special_tokens.values())
    is_whole = all(isinstance(number, int) and not isinstance(number, bool) for number in ids)
    if not is_whole or len(set(ids)) < len(ids) or not all(0 <= number < size for number in ids):
        msg = (
            f"{prefix}: the ids of the special tokens are {dict(special_tokens)}; each needs a whole number of its own "
            f"from 0 to {size - 1}, the last of the {size:,} tokens."
        )
        raise DataError(msg)


def split_token_dict(
    tokens: Mapping[str, int], special: Collection[str] | None, prefix: str
) -> tuple[list[str], dict[str, int]]:
    """Return the genes of a mapping from name to id in order of their ids, and its special tokens.

    Parameters
    ----------
    tokens
        Id of each name.
    special
        Names of the special tokens; ``None`` takes those in angle brackets.
    prefix
        Beginning of messages.

    Raises
    ------
    DataError
        If the ids are not 0, 1, ..., each once, or a special token is not there.
    """
    _check_dense(tokens.items(), len(tokens), prefix)
    names = {name for name in tokens if _is_in_brackets(name)} if special is None else set(special)
    absent = sorted(names.difference(tokens))
    if absent:
        msg = f"{prefix}: no token '{absent[0]}' among its {len(tokens):,}; name special tokens as the mapping does."
        raise DataError(msg)
    ordered = sorted(tokens, key=lambda name: tokens[name])
    return [name for name in ordered if name not in names], {name: tokens[name] for name in ordered if name in names}


def _check_dense(items: Iterable[tuple[Any, Any]], size: int, prefix: str) -> None:
    name_of: dict[int, str] = {}
    needed = f"a token dictionary gives each name a whole number from 0 to {size - 1}, each once"
    for name, number in items:
        if not isinstance(name, str) or not isinstance(number, int) or isinstance(number, bool):
            msg = f"{prefix}: {name!r} has the id {number!r}; {needed}."
            raise DataError(msg)
        if not 0 <= number < size:
            msg = f"{prefix}: '{name}' has the id {number}, but there are {size:,} tokens; {needed}."
            raise DataError(msg)
        if name_of.setdefault(number, name) != name:
            msg = f"{prefix}: '{name_of[number]}' and '{name}' both have the id {number}; {needed}."
            raise DataError(msg)


def _is_in_brackets(name: str) -> bool:
    return name.startswith("<") and name.endswith(">")
