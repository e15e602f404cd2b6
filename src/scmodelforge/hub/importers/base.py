"""What reads a published model, and what it says about the weights it found.

A new one is a file here with a class under ``@register_importer("name")`` that satisfies :class:`Importer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from scmodelforge._errors import DataError
from scmodelforge._registry import IMPORTERS
from scmodelforge.hub.bundle import Bundle

__all__ = ["Imported", "Importer", "LoadReport", "check_release", "register_importer"]

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class LoadReport:
    """What became of published weights.

    Attributes
    ----------
    matched
        Weights of the model that the files gave.
    missing
        Names of weights of the model that they did not give, and that are as they were drawn.
    unexpected
        Names in the files that the model has no place for.
    reshaped
        Names in the files whose numbers were cut, split or put together.
    body
        Beginnings of names of the model's body: all but heads. A missing one of these is refused.
    """

    matched: list[str]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    body: tuple[str, ...] = ()

    def check(self, origin: str) -> None:
        """Refuse a model whose body was not read.

        Raises
        ------
        DataError
            If weights of it are missing.
        """
        raise NotImplementedError

    def lines(self) -> list[str]:
        """Return the report in words: numbers, and the first names of what did not match."""
        raise NotImplementedError


@dataclass(frozen=True)
class Imported:
    """A published model in our form.

    Attributes
    ----------
    bundle
        The model with its tokenizer, vocabulary and preprocessing; its fingerprint has ``imported_from``: importer,
        folder name, and sha256 of the files read.
    report
        What became of the weights.
    """

    bundle: Bundle
    report: LoadReport


class Importer(Protocol):
    """Reads the folder of a published model."""

    def recognises(self, folder: Path) -> bool:
        """Tell whether a folder holds such a model, by names of files and their settings alone."""
        ...

    def load(
        self, folder: Path, *, dictionaries: Path | None = None, sha256: Mapping[str, str] | None = None
    ) -> Imported:
        """Read the model.

        Parameters
        ----------
        folder
            The folder as it was published.
        dictionaries
            Folder with the dictionaries of its representation; ``None`` takes those that were fetched, or its own.
        sha256
            What files of the folder must have, by name.

        Raises
        ------
        DataError
            If files are missing, damaged, not the published ones or of another kind of model, the body of the model
            was not read, or the vocabulary is that of another release.
        """
        ...


def register_importer(name: str) -> Callable[[T], T]:
    """Register an importer class under a name."""
    return IMPORTERS.register(name)


def check_release(num_tokens: int, weights: torch.Size, origin: str) -> None:
    """Refuse a vocabulary of another release than the weights.

    Raises
    ------
    DataError
        If it has another number of tokens than the embedding has rows.
    """
    if num_tokens != weights[0]:
        msg = (
            f"{origin}: the weights have {weights[0]:,} tokens and the dictionaries {num_tokens:,}; "
            "take both from one release."
        )
        raise DataError(msg)
