"""The genes a model knows, as tokens, and how the genes of a file are found among them.

A gene of a file is looked up by its id, then by its id without Ensembl version, then as a symbol of the vocabulary,
then through the shipped tables of human genes (symbol or Ensembl id, whichever the vocabulary lacks). Only genes not
found that way are looked up as aliases, and then without regard to letter case, and only for tokens that no other gene
of the file has. Several genes of a file may have one token; their counts are summed by whoever reads them.
With orthologs (:meth:`GeneVocab.with_orthologs`) genes of other species have the tokens of human genes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.constants import CLS_TOKEN, FORMAT_VERSION, MASK_TOKEN, PAD_TOKEN, SPECIAL_TOKENS, UNK_TOKEN
from scmodelforge.data.coverage import Coverage, measure, no_overlap, repeated_ids
from scmodelforge.data.genes import human_genes, human_protein_coding
from scmodelforge.data.lookup import GeneLookup
from scmodelforge.data.orthologs import Policy, human_genes_of
from scmodelforge.data.panels import genes_of_panels
from scmodelforge.data.special_tokens import SpecialId, free_ids, numbers_of, split_token_dict
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab_changes import extended, restricted, with_orthologs
from scmodelforge.data.vocab_checks import check_vocab
from scmodelforge.data.vocab_files import FORMAT, choices, file_fields, read_vocab_json, vocab_fields

__all__ = ["Coverage", "GeneVocab"]

_log = logging.getLogger(__name__)
_DEFAULT_IDS = {token: number for number, token in enumerate(SPECIAL_TOKENS)}


class GeneVocab:
    """Genes in token order, beside the special tokens.

    Parameters
    ----------
    genes
        Gene ids, each once: Ensembl ids or symbols.
    name
        What messages call the vocabulary.
    symbols
        Symbol of each gene, ``None`` where unknown; by default those of the shipped tables of human genes.
    special_tokens
        Special tokens and their ids, anywhere among those of all tokens; the genes have the others, in order. By
        default ``constants.SPECIAL_TOKENS``, which are 0, 1, ...
    other_names
        Further names of the genes, such as those of their orthologs; ``None`` for names known to be none's.
    aliases
        Whether genes are also found under their aliases and previous symbols. Not those of a published model, whose
        own mapping says which ids are its genes.

    Attributes
    ----------
    gene_tokens
        Token of each gene, shape (G,), int32, ascending.
    is_fixed
        Whether it belongs to a tokenizer that was saved, so that no setting changes it; messages advise accordingly.

    Raises
    ------
    DataError
        If there is no gene, or one twice, an empty one or one named like a special token, or ids of these do not fit.
    """

    pad_id = SpecialId(PAD_TOKEN, "Id of the padding token.")
    mask_id = SpecialId(MASK_TOKEN, "Id of the token shown in place of a hidden gene.")
    cls_id = SpecialId(CLS_TOKEN, "Id of the token that stands for the cell.")
    unk_id = SpecialId(UNK_TOKEN, "Id of the token of an unknown gene.")

    def __init__(
        self,
        genes: Iterable[str],
        *,
        name: str,
        symbols: Sequence[str | None] | None = None,
        special_tokens: Mapping[str, int] | None = None,
        other_names: Mapping[str, str | None] | None = None,
        aliases: bool = True,
    ) -> None:
        self.name, self.aliases, self.is_fixed = name, aliases, False
        self.genes: list[str] = [str(gene) for gene in genes]
        self.special_tokens = dict(_DEFAULT_IDS if special_tokens is None else special_tokens)
        self.other_names = dict(other_names or {})
        known = human_genes().symbol_of
        self.symbols: list[str | None] = [known.get(g) for g in self.genes] if symbols is None else list(symbols)
        check_vocab(f"gene_vocab '{name}'", self.genes, self.symbols, self.special_tokens, self.other_names)
        self.gene_tokens = free_ids(self.special_tokens, len(self.genes))
        self._lookup = GeneLookup(
            self.genes, self.symbols, tokens=self.gene_tokens, other_names=self.other_names, aliases=aliases
        )
        self._panels: dict[int, tuple[Panel, np.ndarray, int]] = {}

    @classmethod
    def from_genes(cls, genes: Iterable[str], *, name: str, symbols: Sequence[str | None] | None = None) -> GeneVocab:
        """Make a vocabulary of a list of genes, in the list's order."""
        return cls(genes, name=name, symbols=symbols)

    @classmethod
    def from_name(cls, name: str) -> GeneVocab:
        """Return a vocabulary that ships with the package: ``human_protein_coding``, by Ensembl id.

        Raises
        ------
        ConfigError
            If there is none of this name.
        """
        if name != "human_protein_coding":
            msg = f"data.gene_vocab: no vocabulary '{name}'.{choices(name)}"
            raise ConfigError(msg)
        table = human_protein_coding()
        return cls(table.ensembl, name=name, symbols=table.symbols)

    @classmethod
    def from_file(cls, path: str | Path) -> GeneVocab:
        """Read a vocabulary from a text file with one gene a line, in the file's order, or from a ``.json`` file.

        The latter is the ``vocab.json`` of a model folder, or a published mapping from name to id. In text, blank
        lines and lines that begin with ``#`` are skipped. Of a ``.tsv`` or ``.csv`` file the first column is read,
        without its heading if that is ``gene``, ``ensembl`` or ``ensembl_id``.

        Raises
        ------
        DataError
            If the file is missing, is not of these kinds, holds no gene or holds one twice.
        """
        return cls(**file_fields(Path(path)))

    @classmethod
    def from_token_dict(
        cls, tokens: Mapping[str, int], *, name: str, special: Collection[str] | None = None, aliases: bool = True
    ) -> GeneVocab:
        """Make a vocabulary of a published mapping from name to id.

        Parameters
        ----------
        tokens
            Id of each gene and special token: 0, 1, ..., each once.
        name
            What messages call the vocabulary.
        special
            Names of the special tokens; ``None`` takes those in angle brackets, such as ``<pad>``.
        aliases
            As of the class.

        Raises
        ------
        DataError
            If an id is missing, there twice or no whole number.
        """
        genes, special_tokens = split_token_dict(tokens, special, f"gene_vocab '{name}'")
        return cls(genes, name=name, special_tokens=special_tokens, aliases=aliases)

    @classmethod
    def from_panels(
        cls, panels: Iterable[Panel], *, min_files: int = 1, species: Sequence[str] = (), policy: Policy = "one_to_one"
    ) -> GeneVocab:
        """Make a vocabulary of the genes of some files, sorted, so that a gene of all has one token.

        :func:`~scmodelforge.data.panels.genes_of_panels` says under which name.

        ``min_files`` leaves out genes that fewer files have. ``species`` and ``policy`` are those of
        :meth:`with_orthologs`; genes without a human ortholog have tokens of their own, but for ``drop``.

        Raises
        ------
        DataError
            If no gene is left.
        """
        human_of = human_genes_of(species, policy)
        genes = genes_of_panels(list(panels), min_files=min_files, human_of=human_of, drops_others=policy == "drop")
        vocab = cls(genes, name="from_data")
        return vocab.with_orthologs(species, policy) if species else vocab

    def __len__(self) -> int:
        """Return the number of tokens, special ones included."""
        return len(self.special_tokens) + len(self.genes)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens."""
        return frozenset(self.special_tokens.values())

    @cached_property
    def gene_numbers(self) -> np.ndarray:
        """Number of the gene of each token, from 0, shape (V,), int64; -1 at special tokens."""
        return numbers_of(self.gene_tokens, len(self))

    def with_orthologs(self, species: Sequence[str], policy: Policy) -> GeneVocab:
        """Return the vocabulary with tokens for genes of other species, those of their human orthologs.

        The vocabulary's own genes keep their tokens, whatever species they are of.

        Parameters
        ----------
        species
            ``mouse``, or files with tables of orthologs (:func:`~scmodelforge.data.orthologs.read_orthologs`).
        policy
            ``one_to_one``, ``one_to_many`` or ``drop``: :mod:`scmodelforge.data.orthologs`.
        """
        return GeneVocab(**with_orthologs(self, species, policy, self._lookup))

    def extended(self, genes: Iterable[str]) -> GeneVocab:
        """Return the vocabulary with more genes, after all tokens it has; these keep their ids.

        Genes that have a token already, under whatever name, are left out.

        Raises
        ------
        DataError
            If all have one, or two are one gene.
        """
        return GeneVocab(**extended(self, genes, self._lookup))

    def restrict(self, genes: Iterable[str]) -> GeneVocab:
        """Return the vocabulary of some of its genes, in its own order, with new token ids.

        Special tokens keep their place: first ones stay first, last ones last.

        Raises
        ------
        DataError
            If one of the genes is not an id of this vocabulary.
        """
        return GeneVocab(**restricted(self, genes))

    def map(self, gene_ids: Iterable[str]) -> np.ndarray:
        """Return the token of each gene, shape (G,), int32, -1 where there is none, whatever the order of the genes."""
        return self._lookup.match(gene_ids)[0]

    def map_panel(self, panel: Panel) -> np.ndarray:
        """Return :meth:`map` of a panel's genes, computed once for each panel object. The array is read-only."""
        return self._match_panel(panel)[0]

    def coverage(self, panel: Panel) -> Coverage:
        """Count the genes of a file that have a token."""
        tokens, by_case = self._match_panel(panel)
        return measure(panel, tokens, by_case, vocab_name=self.name, num_genes=len(self.genes), is_fixed=self.is_fixed)

    def require_overlap(self, panel: Panel) -> Coverage:
        """Return the coverage of a file, and log its warning.

        Raises
        ------
        DataError
            If no gene of the file has a token; the message says what its ids and the vocabulary's look like.
        """
        coverage = self.coverage(panel)
        if coverage.known == 0:
            raise DataError(no_overlap(panel, coverage, self))
        for warning in filter(None, (coverage.warning, repeated_ids(panel))):
            _log.warning(warning)
        return coverage

    def digest(self) -> str:
        """Return the sha256 of genes, symbols and special tokens; the name does not count."""
        content = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the vocabulary as plain values."""
        fields = {"name": self.name, "special_tokens": dict(self.special_tokens), "genes": list(self.genes)}
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **fields, "symbols": list(self.symbols)}
        values |= {"other_names": dict(self.other_names)} if self.other_names else {}
        return values if self.aliases else values | {"aliases": False}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GeneVocab:
        """Make a vocabulary of what :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If the values are not a vocabulary, or of a newer format than this version reads.
        """
        return cls(**vocab_fields(data))

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> GeneVocab:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            If the file is missing, damaged or not a vocabulary.
        """
        return read_vocab_json(path, cls.from_dict)

    def _match_panel(self, panel: Panel) -> tuple[np.ndarray, int]:
        if id(panel) not in self._panels:
            tokens, by_case = self._lookup.match(panel.gene_ids)
            tokens.setflags(write=False)
            self._panels[id(panel)] = (panel, tokens, by_case)  # holds the panel, so that its id stays its own
        return self._panels[id(panel)][1:]
