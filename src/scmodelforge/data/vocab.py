"""The genes a model knows, as tokens, and how the genes of a file are found among them.

A gene of a file is looked up by its id, then by its id without Ensembl version, then as a symbol of the vocabulary,
then through the shipped table of human genes (symbol or Ensembl id, whichever the vocabulary lacks). Only genes not
found that way are looked up without regard to letter case, and only for tokens that no other gene of the file has.
Several genes of a file may have one token; their counts are summed by whoever reads them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge.constants import CLS_TOKEN, FORMAT_VERSION, MASK_TOKEN, PAD_TOKEN, SPECIAL_TOKENS, UNK_TOKEN
from scmodelforge.data.coverage import Coverage, measure, no_overlap
from scmodelforge.data.genes import human_protein_coding, is_human_ensembl, strip_version
from scmodelforge.data.lookup import GeneLookup, read_gene_list
from scmodelforge.data.types import Panel

__all__ = ["Coverage", "GeneVocab"]

_log = logging.getLogger(__name__)
_FORMAT = "scmodelforge.vocab"
_KNOWN = ("human_protein_coding", "from_data")
_CHOICES = "It may be 'human_protein_coding', 'from_data', a text file with one gene a line, or a list of genes."


class GeneVocab:
    """Genes in token order, after the special tokens.

    Parameters
    ----------
    genes
        Gene ids, each once: Ensembl ids or symbols.
    name
        What messages call the vocabulary.
    symbols
        Symbol of each gene, ``None`` where unknown; by default those of the shipped table of human genes.
    special_tokens
        Special tokens and their ids, which are 0, 1, ...; by default ``constants.SPECIAL_TOKENS``.

    Raises
    ------
    DataError
        If there is no gene, or one twice, or an empty one, or one named like a special token.
    """

    def __init__(
        self,
        genes: Iterable[str],
        *,
        name: str,
        symbols: Sequence[str | None] | None = None,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.genes: list[str] = [str(gene) for gene in genes]
        self.special_tokens = dict(special_tokens or {token: i for i, token in enumerate(SPECIAL_TOKENS)})
        known = human_protein_coding().symbol_of
        self.symbols: list[str | None] = [known.get(g) for g in self.genes] if symbols is None else list(symbols)
        self._check()
        self._lookup = GeneLookup(self.genes, self.symbols, first_token=len(self.special_tokens))
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
            msg = f"data.gene_vocab: no vocabulary '{name}'.{nearest(name, _KNOWN)} {_CHOICES}"
            raise ConfigError(msg)
        table = human_protein_coding()
        return cls(table.ensembl, name=name, symbols=table.symbols)

    @classmethod
    def from_file(cls, path: str | Path) -> GeneVocab:
        """Read a vocabulary from a text file with one gene a line, in the file's order.

        Blank lines and lines that begin with ``#`` are skipped. Of a ``.tsv`` or ``.csv`` file the first column is
        read, without its heading if that is ``gene``, ``ensembl`` or ``ensembl_id``.

        Raises
        ------
        DataError
            If the file is missing, is not text, holds no gene or holds one twice.
        """
        path = Path(path)
        if not path.is_file():
            msg = f"data.gene_vocab: no file '{path}'.{nearest(str(path), _KNOWN)} {_CHOICES}"
            raise DataError(msg)
        return cls(read_gene_list(path), name=path.name)

    @classmethod
    def from_panels(cls, panels: Iterable[Panel]) -> GeneVocab:
        """Make a vocabulary of all genes of some files, sorted.

        Versions of Ensembl ids are dropped. Where one file has human Ensembl ids, the symbols of the others are
        turned into Ensembl ids as far as the shipped table knows them, so that a gene has one token.
        """
        genes = {strip_version(str(gene)) for panel in panels for gene in panel.gene_ids} - {""}
        if any(is_human_ensembl(gene) for gene in genes):
            ensembl_of = human_protein_coding().ensembl_of
            genes = {ensembl_of.get(gene, gene) for gene in genes}
        return cls(sorted(genes), name="from_data")

    def __len__(self) -> int:
        """Return the number of tokens, special ones included."""
        return len(self.special_tokens) + len(self.genes)

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return self._special(PAD_TOKEN)

    @property
    def mask_id(self) -> int:
        """Id of the token shown in place of a hidden gene."""
        return self._special(MASK_TOKEN)

    @property
    def cls_id(self) -> int:
        """Id of the token that stands for the cell."""
        return self._special(CLS_TOKEN)

    @property
    def unk_id(self) -> int:
        """Id of the token of an unknown gene."""
        return self._special(UNK_TOKEN)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens."""
        return frozenset(self.special_tokens.values())

    def restrict(self, genes: Iterable[str]) -> GeneVocab:
        """Return the vocabulary of some of its genes, in its own order, with new token ids.

        Raises
        ------
        DataError
            If one of the genes is not an id of this vocabulary.
        """
        wanted = set(genes)
        unknown = sorted(wanted - set(self.genes))
        if unknown:
            msg = (
                f"gene_vocab '{self.name}' has no gene '{unknown[0]}' ({len(unknown):,} such); restrict it to its own."
            )
            raise DataError(msg)
        keep = [i for i, gene in enumerate(self.genes) if gene in wanted]
        genes, symbols = [self.genes[i] for i in keep], [self.symbols[i] for i in keep]
        return GeneVocab(genes, name=self.name, symbols=symbols, special_tokens=self.special_tokens)

    def map(self, gene_ids: Iterable[str]) -> np.ndarray:
        """Return the token of each gene, shape (G,), int32, -1 where the vocabulary has none.

        The result for a gene does not depend on the order of the genes.
        """
        return self._lookup.match(gene_ids)[0]

    def map_panel(self, panel: Panel) -> np.ndarray:
        """Return :meth:`map` of a panel's genes, computed once for each panel object. The array is read-only."""
        return self._match_panel(panel)[0]

    def coverage(self, panel: Panel) -> Coverage:
        """Count the genes of a file that have a token."""
        tokens, by_case = self._match_panel(panel)
        return measure(panel, tokens, by_case, vocab_name=self.name, num_genes=len(self.genes))

    def require_overlap(self, panel: Panel) -> Coverage:
        """Return the coverage of a file, and log its warning.

        Raises
        ------
        DataError
            If no gene of the file has a token; the message says what its ids and the vocabulary's look like.
        """
        coverage = self.coverage(panel)
        if coverage.known == 0:
            raise DataError(no_overlap(panel, coverage, vocab_name=self.name, genes=self.genes))
        if coverage.warning:
            _log.warning(coverage.warning)
        return coverage

    def digest(self) -> str:
        """Return the sha256 of genes, symbols and special tokens; the name does not count."""
        content = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the vocabulary as plain values."""
        return {
            "format": _FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "special_tokens": dict(self.special_tokens),
            "genes": list(self.genes),
            "symbols": list(self.symbols),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GeneVocab:
        """Make a vocabulary of what :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If the values are not a vocabulary, or of a newer format than this version reads.
        """
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            msg = (
                f"not a gene vocabulary ('format' is not '{_FORMAT}'); a vocab.json written by scmodelforge is needed."
            )
            raise DataError(msg)
        if data.get("format_version") != FORMAT_VERSION:
            found = data.get("format_version")
            msg = f"gene vocabulary of format_version {found}, not {FORMAT_VERSION}; use a newer scmodelforge."
            raise DataError(msg)
        kinds = {"name": str, "special_tokens": dict, "genes": list, "symbols": list}
        wrong = [key for key, kind in kinds.items() if not isinstance(data.get(key), kind)]
        if wrong:
            msg = f"gene vocabulary: '{wrong[0]}' is missing or of the wrong kind; the file is damaged."
            raise DataError(msg)
        return cls(data["genes"], name=data["name"], symbols=data["symbols"], special_tokens=data["special_tokens"])

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
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            msg = f"{path}: cannot be read ({error.strerror}); a model folder needs its vocab.json."
        except (UnicodeDecodeError, json.JSONDecodeError):
            msg = f"{path}: not JSON; a vocab.json written by scmodelforge is needed."
        except DataError as error:
            msg = f"{path}: {error}"
        raise DataError(msg)

    def _match_panel(self, panel: Panel) -> tuple[np.ndarray, int]:
        if id(panel) not in self._panels:
            tokens, by_case = self._lookup.match(panel.gene_ids)
            tokens.setflags(write=False)
            self._panels[id(panel)] = (panel, tokens, by_case)  # holds the panel, so that its id stays its own
        return self._panels[id(panel)][1:]

    def _special(self, token: str) -> int:
        if token not in self.special_tokens:
            msg = f"gene_vocab '{self.name}' has no {token} token; it has {', '.join(self.special_tokens)}."
            raise DataError(msg)
        return self.special_tokens[token]

    def _check(self) -> None:
        prefix = f"gene_vocab '{self.name}'"
        if set(self.special_tokens.values()) != set(range(len(self.special_tokens))):
            msg = f"{prefix}: the ids of the special tokens are {self.special_tokens}; they must be 0, 1, 2, ..."
            raise DataError(msg)
        if not self.genes:
            msg = f"{prefix} has no gene; give it at least one."
            raise DataError(msg)
        if len(self.symbols) != len(self.genes):
            msg = f"{prefix}: {len(self.symbols):,} symbols for {len(self.genes):,} genes; give one for each, or none."
            raise DataError(msg)
        refused = {"", *self.special_tokens}.intersection(self.genes)
        if refused:
            msg = f"{prefix}: '{min(refused)}' cannot name a gene; take it out of the list."
            raise DataError(msg)
        if len(set(self.genes)) < len(self.genes):
            gene, count = Counter(self.genes).most_common(1)[0]
            msg = f"{prefix}: gene '{gene}' is listed {count} times; list each gene once."
            raise DataError(msg)
