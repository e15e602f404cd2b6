"""Rank value: the genes of a cell in the order of their expression, each relative to the gene's typical expression.

Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9 (Geneformer). With count x of a gene, total n of the cell over
all genes of its file and median m of the gene (:mod:`scmodelforge.tokenizers.medians`), genes are ranked by
``x / n * 10,000 / m``, largest first. Where we differ:

- n and 10,000 are the same for all genes of a cell, so genes are ranked by x / m: fewer roundings, the same order.
- Equal ranks go by token id, never by the place of the gene in the file, so that permuted files give equal tokens,
  unless ``ties`` says otherwise.
- Stored zeros are no expression. Several columns of one gene are summed.
- Each token has a value, ``log(1 + x / n * 10,000)``, for models that use it.

With ``compat``, cells are ranked as Geneformer's own code ranks them: :mod:`scmodelforge.tokenizers._geneformer`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.constants import EOS_TOKEN
from scmodelforge.data.genes import strip_version
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._geneformer import CompatColumns, CompatEncoder, stored_cell
from scmodelforge.tokenizers._rank_encoder import RankEncoder, Sequence
from scmodelforge.tokenizers._ties import Ties
from scmodelforge.tokenizers.base import BaseTokenizer, FittingVisitor
from scmodelforge.tokenizers.entries import one_cell
from scmodelforge.tokenizers.layout import as_one_cell
from scmodelforge.tokenizers.medians import GeneMedians, MedianFit, read_medians
from scmodelforge.tokenizers.registry import register_tokenizer

__all__ = ["RankValueConfig", "RankValueTokenizer"]

_log = logging.getLogger(__name__)


class RankValueConfig(TokenizerConfig):
    """Settings of the rank value tokenizer."""

    add_cls: bool = True
    """Begin each cell with the token ``<cls>``."""
    add_eos: bool = False
    """End each cell with the token ``<eos>``, which vocabularies of some published models have."""
    medians: str = "fit"
    """``fit`` takes them over the training cells, ``none`` ranks by counts alone; else a JSON file ``{gene: median}``
    or a text file with a gene, a tab and its median a line. Genes without a median count with the middle one of all."""
    ties: Ties = "token"
    """Which of two genes with exactly equal ranks comes first: ``token`` the lower token id, ``stable`` the earlier
    column of the file, ``numpy`` whatever ``np.argsort`` makes of them, which depends on the processor."""
    compat: Literal["geneformer_v1", "geneformer_v2"] | None = None
    """Rank as Geneformer's own code does, with its oddities; ``None`` does what is right."""


@register_tokenizer("rank_value")
class RankValueTokenizer(BaseTokenizer):
    """Genes by descending expression relative to their medians.

    Parameters
    ----------
    config
        Settings.
    vocab
        The genes that have tokens.
    medians
        Medians fitted before; ``None`` takes them from where the settings say.
    id_mapping
        Gene of the vocabulary under further ids, in capitals: where ``compat`` looks genes up, else for genes that the
        vocabulary does not find.

    Raises
    ------
    ConfigError, DataError
        If the file of medians is missing or not one, or the settings do not fit each other or the vocabulary.
    """

    config_class = RankValueConfig
    normalizes = True

    def __init__(
        self,
        config: TokenizerConfig,
        vocab: GeneVocab,
        *,
        medians: GeneMedians | None = None,
        id_mapping: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(config, vocab)
        self.id_mapping = None if id_mapping is None else dict(id_mapping)
        self._check_settings()
        if medians is None and self.config.medians == "none":
            medians = GeneMedians.none(vocab)
        elif medians is None and self.config.medians != "fit":
            medians = read_medians(self.config.medians, vocab)
            if medians.num_genes < len(vocab.genes):
                absent = len(vocab.genes) - medians.num_genes
                _log.warning(
                    f"{self.config.medians} lacks {absent:,} genes of the vocabulary; they count with the middle one "
                    "of its medians."
                )
        self.medians = medians

    def tokenize(self, expression: Any, gene_ids: Iterable[str], *, key: int = 0) -> dict[str, np.ndarray]:
        """Rank the genes of one cell.

        Parameters
        ----------
        expression
            Counts, or counts normalised by library size: an array of shape (G,) or a sparse matrix of one row.
        gene_ids
            Identifiers of the genes, shape (G,). Genes the vocabulary does not have count towards the total only.
        key
            Not used: nothing is drawn.

        Returns
        -------
        ``input_ids`` (int64), ``attention_mask`` (int64, all 1) and ``values`` (float32), each of shape (S,).

        Raises
        ------
        DataError
            If the numbers of values and genes differ, or, without ``compat``, a value is negative, infinite or not a
            number.
        ConfigError
            If the medians are not fitted.
        """
        if self.config.compat is not None:
            block = stored_cell(expression, gene_ids)
            encoder: RankEncoder | CompatEncoder = self.bind_compat(block.panel)
        else:
            block = one_cell(expression, gene_ids)
            encoder = self._encoder(self.lookup(block.panel.gene_ids))
        return as_one_cell(encoder.encode(block, np.full(1, key, dtype=np.uint64)))

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of cells of one file.

        Raises
        ------
        ConfigError
            If the medians are not fitted.
        """
        if self.config.compat is not None:
            return self.bind_compat(panel)
        return self._encoder(self._mapped(panel.gene_ids, self.vocab.map_panel(panel)))

    def bind_compat(self, panel: Panel) -> CompatEncoder:
        """Return an encoder that ranks as Geneformer's own code does, whatever the settings say of that.

        Raises
        ------
        ConfigError
            If the medians are not fitted.
        """
        mapping = {gene.upper(): gene for gene in self.vocab.genes} if self.id_mapping is None else self.id_mapping
        columns = CompatColumns.of(panel.gene_ids, mapping, self.vocab)
        columns = columns.by_token() if self.config.ties == "token" else columns
        return CompatEncoder(columns, self._fitted().divisors(), self._form(), self.config.ties)

    def lookup(self, gene_ids: Iterable[str]) -> np.ndarray:
        """Return the token of each gene, shape (G,), int32, -1 where there is none."""
        ids = np.asarray(gene_ids, dtype=object)
        return self._mapped(ids, super().lookup(ids))

    def visitor(self, is_train: Callable[[np.ndarray], np.ndarray]) -> FittingVisitor | None:
        """Return what fits the medians to the training cells, or ``None`` if the settings say where they come from."""
        if self.config.medians != "fit":
            return None
        return MedianFit(self.vocab, is_train, partial(setattr, self, "medians"))

    def describe(self) -> str:
        """Return one line on length and medians."""
        ties = "" if self.config.ties == "token" else f"; ties: {self.config.ties}"
        compat = "" if self.config.compat is None else f"; compat: {self.config.compat}"
        return f"{super().describe()}; {self._describe_medians()}{ties}{compat}"

    def to_dict(self) -> dict[str, Any]:
        """Return settings, medians and the digest of their vocabulary.

        Raises
        ------
        ConfigError
            If the medians are not fitted.
        """
        state = {**super().to_dict(), "medians": self._fitted().to_dict()}
        return state if self.id_mapping is None else {**state, "id_mapping": self.id_mapping}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], vocab: GeneVocab) -> Self:
        """Make a tokenizer of what :meth:`to_dict` gave; a file of medians is not read again.

        Raises
        ------
        DataError
            If the state is damaged, or of another vocabulary.
        """
        config = cls._config_from(data)
        medians = GeneMedians.from_dict(data.get("medians"), vocab)
        cls._check_vocab(data, vocab)
        mapping = data.get("id_mapping")
        genes = list(mapping.values()) if isinstance(mapping, dict) else [None]
        if mapping is not None and not set(map(repr, genes)) <= set(map(repr, vocab.genes)):
            msg = "the id_mapping in tokenizer.json is damaged; take the file as it was saved."
            raise DataError(msg)
        return cls(config, vocab, medians=medians, id_mapping=mapping)

    def extended(self, vocab: GeneVocab) -> Self:
        """Return the tokenizer for a vocabulary with more genes, which have no medians."""
        medians = self._fitted()
        values = np.full(len(vocab), np.nan)
        values[: len(medians.values)] = medians.values
        medians = replace(medians, values=values)
        mapping = self.id_mapping
        if mapping is not None:
            old = set(self.vocab.genes)
            mapping = mapping | {gene.upper(): gene for gene in vocab.genes if gene not in old}
        return type(self)(self.config, vocab, medians=medians, id_mapping=mapping)

    def _encoder(self, tokens_of_columns: np.ndarray) -> RankEncoder:
        return RankEncoder(tokens_of_columns, self._fitted().divisors(), self._form(), self.config.ties)

    def _form(self) -> Sequence:
        first = [self.vocab.cls_id] if self.config.add_cls else []
        last = [self.vocab.special_tokens[EOS_TOKEN]] if self.config.add_eos else []
        return Sequence(self.config.max_genes, first, last)

    def _mapped(self, gene_ids: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the tokens with those of genes that only the id mapping knows."""
        unknown = np.flatnonzero(tokens < 0)
        if not self.id_mapping or not len(unknown):
            return tokens
        genes = [self.id_mapping.get(strip_version(str(gene_ids[i]).upper()), "") for i in unknown]
        tokens = tokens.copy()
        tokens[unknown] = self.vocab.map(genes)
        return tokens

    def _check_settings(self) -> None:
        config, special = self.config, self.vocab.special_tokens
        if config.add_eos and EOS_TOKEN not in special:
            msg = (
                f"tokenizer.add_eos: gene_vocab '{self.vocab.name}' has no {EOS_TOKEN} token, it has "
                f"{', '.join(special)}; leave add_eos out, or take a vocabulary with {EOS_TOKEN}."
            )
            raise ConfigError(msg)
        if config.max_genes <= config.add_cls + config.add_eos:
            msg = f"tokenizer.max_genes ({config.max_genes}) leaves no gene beside <cls> and <eos>; raise it."
            raise ConfigError(msg)
        if config.compat is None:
            return
        has_ends = config.compat == "geneformer_v2"
        if (config.add_cls, config.add_eos) != (has_ends, has_ends):
            value = str(has_ends).lower()
            msg = f"tokenizer.compat: {config.compat} needs tokenizer.add_cls: {value} and tokenizer.add_eos: {value}."
            raise ConfigError(msg)
        if has_ends and self.id_mapping is None:  # that of the first version has every id as itself
            msg = (
                f"tokenizer.compat: {config.compat} needs the published id mapping, which settings cannot name; "
                "leave compat out, or write tokens with: scmodelforge tokenize --preset geneformer-v2 --compat"
            )
            raise ConfigError(msg)

    def _fitted(self) -> GeneMedians:
        if self.medians is None:
            msg = (
                f"the medians of tokenizer '{self.strategy}' are not fitted; scan the training cells with its visitor, "
                "or set tokenizer.medians to none or to a file of medians."
            )
            raise ConfigError(msg)
        return self.medians

    def _describe_medians(self) -> str:
        if self.medians is None:
            return "medians not fitted"
        if self.medians.method == "none":
            return "no medians"
        known, absent = self.medians.num_genes, len(self.vocab.genes) - self.medians.num_genes
        if self.medians.method == "file":
            origin = f"from {Path(self.config.medians).name}"
        else:
            how = {"exact": "exact", "sketch": "at most 1 % off"}[self.medians.method]
            origin = f"fitted over {self.medians.num_cells:,} training cells ({how})"
        rest = f", the middle one of these for {absent:,} genes without" if absent else ""
        return f"medians of {known:,} genes {origin}{rest}"
