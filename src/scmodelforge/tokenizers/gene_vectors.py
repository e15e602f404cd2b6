"""Given vectors of the genes of a vocabulary, and how they are kept in a model folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from scmodelforge._errors import DataError
from scmodelforge.data.genes import strip_version
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.vector_files import is_flat, read_vectors

__all__ = ["GeneVectors"]

_log = logging.getLogger(__name__)
_TOO_FEW, _FEW = 0.01, 0.5  # shares of the vocabulary's genes with a vector
_NO_SPREAD = 1e-6  # relative to the numbers themselves


@dataclass(frozen=True, slots=True)
class GeneVectors:
    """Vectors of some tokens.

    Attributes
    ----------
    tokens
        Tokens with a vector, shape (K,), int32, ascending.
    vectors
        Their vectors, shape (K, D), float32.
    source
        Name of the file they come from.
    sha256
        Of that file.
    """

    tokens: np.ndarray
    vectors: np.ndarray
    source: str
    sha256: str

    @classmethod
    def from_file(cls, path: Path, vocab: GeneVocab) -> GeneVectors:
        """Read the vectors of a vocabulary's genes, found under any name the vocabulary knows them by.

        A vector of equal numbers, such as zeros that stand for a missing one, counts as none.

        Raises
        ------
        ConfigError, DataError
            If the file cannot be used: what :func:`read_vectors` refuses, vectors that are all alike, or vectors of
            fewer than 1 % of the vocabulary's genes.
        """
        named = read_vectors(path)
        has_none = is_flat(named.vectors)
        if has_none.any():
            _log.warning(f"{path}: {has_none.sum():,} genes have a vector of equal numbers, which is taken for none.")
        tokens = np.where(has_none, -1, vocab.map(named.genes))
        rows = _one_for_each(tokens, named.genes, vocab, path)
        vectors = cls(tokens[rows].astype(np.int32), named.vectors[rows], path.name, named.sha256)
        vectors._check(path, vocab, first=named.genes[0])
        return vectors

    @classmethod
    def from_dict(cls, data: Any, arrays: Mapping[str, np.ndarray] | None) -> Self:
        """Return what :meth:`to_dict` and :meth:`arrays` gave.

        Raises
        ------
        DataError
            If something is missing, or the vectors are not those that were saved.
        """
        if not arrays or {"tokens", "vectors"} - set(arrays):
            msg = "tokenizer.safetensors is missing or has no vectors; take all files of the model folder."
            raise DataError(msg)
        if not isinstance(data, dict) or {"source", "source_sha256", "sha256"} - set(data):
            msg = "state of tokenizer 'gene_embedding' is damaged: vectors: incomplete; take it as it was saved."
            raise DataError(msg)
        found = cls(arrays["tokens"], arrays["vectors"], data["source"], data["source_sha256"])
        if found.digest() != data["sha256"]:
            msg = (
                "the gene vectors of tokenizer.safetensors are not those tokenizer.json was saved with; "
                "take both from the same folder."
            )
            raise DataError(msg)
        return found

    @property
    def width(self) -> int:
        """Width D of the vectors."""
        return int(self.vectors.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """Return all but the numbers as plain values."""
        return {"source": self.source, "source_sha256": self.sha256, "width": self.width, "sha256": self.digest()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the numbers."""
        return {"tokens": self.tokens, "vectors": self.vectors}

    def digest(self) -> str:
        """Return the sha256 of tokens and vectors."""
        kept = hashlib.sha256(repr(self.vectors.shape).encode())
        for array, kind in ((self.tokens, "<i4"), (self.vectors, "<f4")):
            kept.update(np.ascontiguousarray(array, dtype=kind).data)
        return kept.hexdigest()

    def moved(self, tokens: np.ndarray) -> GeneVectors:
        """Return the vectors as those of other tokens, shape (n,), ascending as they are."""
        return replace(self, tokens=tokens.astype(np.int32))

    def table(self, vocab_size: int, *, normalize: bool) -> np.ndarray:
        """Return a row for each token, shape (V, D), float32: zeros where there is no vector.

        Parameters
        ----------
        vocab_size
            Number of tokens V.
        normalize
            Divide each vector by its Euclidean norm.
        """
        table = np.zeros((vocab_size, self.width), dtype=np.float32)
        norms = np.linalg.norm(self.vectors, axis=1, keepdims=True) if normalize else np.float32(1)
        table[self.tokens] = self.vectors / norms
        return table

    def _check(self, path: Path, vocab: GeneVocab, *, first: str) -> None:
        share = len(self.tokens) / len(vocab.genes)
        found = f"{path}: {len(self.tokens):,} of the {len(vocab.genes):,} genes of gene_vocab '{vocab.name}'"
        if share < _TOO_FEW:
            msg = (
                f"{found} ({share:.1%}) have a vector; its genes are named like '{first}', the vocabulary's like "
                f"'{vocab.genes[0]}': use vectors of the same species and kind of ids."
            )
            raise DataError(msg)
        spread = self.vectors.std(axis=0).max() if len(self.vectors) > 1 else np.inf
        if spread <= _NO_SPREAD * np.abs(self.vectors).max():
            msg = f"{path}: all its genes have (almost) the same vector, which tells nothing; use another file."
            raise DataError(msg)
        if share < _FEW:
            _log.warning(f"{found} ({share:.1%}) have a vector; check the species and kind of ids.")


def _one_for_each(tokens: np.ndarray, genes: list[str], vocab: GeneVocab, path: Path) -> np.ndarray:
    """Return the row to take for each token that has one, ascending by token.

    A gene may stand in a file under several names: its own id goes first, then its symbol, then the first by alphabet.
    """
    known, numbers = np.flatnonzero(tokens >= 0), vocab.gene_numbers

    def rank(row: int) -> tuple[int, int, str]:
        gene = int(numbers[tokens[row]])
        is_own, is_symbol = (
            strip_version(genes[row]) == strip_version(vocab.genes[gene]),
            genes[row] == vocab.symbols[gene],
        )
        return int(tokens[row]), 0 if is_own else 1 if is_symbol else 2, genes[row]

    ordered = np.array(sorted(known.tolist(), key=rank), dtype=np.int64)
    is_first = np.diff(tokens[ordered], prepend=-1) != 0
    if not is_first.all():
        more = np.count_nonzero(~is_first)
        _log.warning(
            f"{path}: {more:,} vectors are of genes that have one under another name; the gene's own id counts."
        )
    return ordered[is_first]
