"""Gene embedding: the tokens of another tokenizer, for a model whose genes have given vectors.

Vectors of genes come from protein language models (ESM-2), text or co-expression (gene2vec); the model projects them
to its own width (``models.components.given``). A saved model brings its vectors along and never reads their file again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from scmodelforge._errors import nearest
from scmodelforge._registry import TOKENIZERS
from scmodelforge.config.own import own_settings
from scmodelforge.config.parts import PARTS, token_maker
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import EmbeddingSpec, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers.base import BaseTokenizer, FittingVisitor
from scmodelforge.tokenizers.gene_vectors import GeneVectors
from scmodelforge.tokenizers.registry import register_tokenizer

__all__ = ["GeneEmbeddingConfig", "GeneEmbeddingTokenizer"]


def _object_or_name(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema of ``base`` that a name alone is taken too."""
    section = {key: schema.pop(key) for key in ("type", "additionalProperties") if key in schema}
    schema["anyOf"] = [section, {"type": "string"}]


class GeneEmbeddingConfig(TokenizerConfig):
    """Settings of the gene embedding tokenizer."""

    path: str
    """File of gene vectors: parquet, npz, safetensors, h5 or word2vec text."""
    base: dict[str, Any] = Field(default_factory=lambda: {"strategy": "rank_value"}, json_schema_extra=_object_or_name)
    """The tokenizer whose tokens are used: its name, or a section with ``strategy`` and settings of its own."""
    trainable: bool = False
    """Train the given vectors along. What projects them to the model's width is trained in any case."""
    missing: Literal["learn", "drop", "zero"] = "learn"
    """Genes without a vector: their vectors are learned, they have no token, or their vector is zero."""
    normalize: Literal["none", "l2"] = "none"
    """Divide each vector by its Euclidean norm."""

    @field_validator("base", mode="before")
    @classmethod
    def _name_is_short(cls, value: Any) -> Any:
        return {"strategy": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _base_is_right(self) -> GeneEmbeddingConfig:
        name = self.base.get("strategy")
        if not isinstance(name, str) or name == "gene_embedding":
            msg = f"base.strategy is {name!r}; it must be the name of another tokenizer, such as 'rank_value'"
            raise ValueError(msg)
        fields = PARTS["tokenizer"].section_class(name).model_fields
        for key in self.base:
            if key in ("max_genes", "masking"):
                msg = f"base.{key} is set; set tokenizer.{key} instead"
                raise ValueError(msg)
            if key not in fields:
                msg = f"unknown setting 'tokenizer.base.{key}' of tokenizer '{name}'.{nearest(key, fields)}"
                raise ValueError(msg)
        try:
            token_maker(self)
        except ValidationError as problem:
            faults = "; ".join(
                f"tokenizer.base.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problem.errors()
            )
            raise ValueError(faults) from None
        return self


@register_tokenizer("gene_embedding")
class GeneEmbeddingTokenizer(BaseTokenizer):
    """Tokens of another tokenizer, and given vectors for genes.

    Parameters
    ----------
    config
        Settings.
    vocab
        The genes that have tokens. With ``missing: drop`` those without a vector lose theirs: :attr:`vocab` is smaller.
    vectors
        Vectors read before; by default they are read from ``path``.
    base
        The tokenizer that makes the tokens, if there is one already.

    Attributes
    ----------
    maker
        The tokenizer that makes the tokens.

    Raises
    ------
    ConfigError, DataError
        If the file of vectors cannot be used.
    """

    config_class = GeneEmbeddingConfig

    def __init__(
        self,
        config: TokenizerConfig,
        vocab: GeneVocab,
        *,
        vectors: GeneVectors | None = None,
        base: BaseTokenizer | None = None,
    ) -> None:
        own: GeneEmbeddingConfig = own_settings("tokenizer", self.strategy, config, self.config_class)
        if vectors is None:
            vectors = GeneVectors.from_file(Path(own.path), vocab)
            if own.missing == "drop":
                vocab = vocab.restrict(vocab.genes[gene] for gene in vocab.gene_numbers[vectors.tokens].tolist())
                vectors = vectors.moved(vocab.gene_tokens)
        super().__init__(own, vocab)
        self.vectors = vectors
        if base is None:
            settings = token_maker(own)
            base_class: Any = TOKENIZERS.get(settings.strategy)
            base = base_class(settings, vocab)
        self._base: BaseTokenizer = base
        self.expects, self.provides, self.normalizes = base.expects, base.provides, base.normalizes
        self.pad_value, self.mask_value, self.is_set = base.pad_value, base.mask_value, base.is_set

    @property
    def maker(self) -> BaseTokenizer:
        """The tokenizer that makes the tokens."""
        return self._base

    def tokenize(self, expression: Any, gene_ids: Iterable[str], *, key: int = 0) -> dict[str, np.ndarray]:
        """Turn one cell into tokens, as the tokenizer of ``base`` does."""
        return self._base.tokenize(expression, gene_ids, key=key)

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of cells of one file."""
        return self._base.bind(panel)

    def visitor(self, is_train: Callable[[np.ndarray], np.ndarray]) -> FittingVisitor | None:
        """Return what fits the tokenizer of ``base`` to the training cells, if there is something to fit."""
        return self._base.visitor(is_train)

    def embedding_spec(self) -> EmbeddingSpec:
        """Return the vectors, and how models use values if the tokenizer of ``base`` says so."""
        size = len(self.vocab)
        known = np.zeros(size, dtype=bool)
        known[self.vectors.tokens] = True
        if self.config.missing == "zero":
            known |= ~np.isin(np.arange(size), list(self.vocab.special_ids))
        values = self._base.embedding_spec() or EmbeddingSpec()
        return EmbeddingSpec(
            vectors=self.vectors.table(size, normalize=self.config.normalize == "l2"),
            known=known,
            trainable=self.config.trainable,
            values=values.values,
            num_auto_bins=values.num_auto_bins,
        )

    def describe(self) -> str:
        """Return one line on the vectors and whose tokens they are for."""
        known, total = len(self.vectors.tokens), len(self.vocab.genes)
        state = "trained along" if self.config.trainable else "frozen"
        rest = "" if known == total else f", the others {'zero' if self.config.missing == 'zero' else 'learned'}"
        return (
            f"{self.strategy}: {known:,} of {total:,} genes ({known / total:.1%}) have vectors of width "
            f"{self.vectors.width} from {self.vectors.source}, {state}{rest}; tokens: {self._base.describe()}"
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the vectors."""
        return self.vectors.arrays()

    def extended(self, vocab: GeneVocab) -> Self:
        """Return the tokenizer for a vocabulary with more genes, which have no vectors."""
        return type(self)(self.config, vocab, vectors=self.vectors, base=self._base.extended(vocab))

    def to_dict(self) -> dict[str, Any]:
        """Return settings, the digest of the vocabulary, the state of the base, and the checksums of the vectors."""
        return {**super().to_dict(), "base": self._base.to_dict(), "vectors": self.vectors.to_dict()}

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], vocab: GeneVocab, arrays: Mapping[str, np.ndarray] | None = None
    ) -> Self:
        """Make a tokenizer of what :meth:`to_dict` and :meth:`arrays` gave; the file of vectors is not read.

        Raises
        ------
        DataError
            If the state is damaged or of another vocabulary, or the vectors are not those that were saved.
        """
        config = cls._config_from(data)
        cls._check_vocab(data, vocab)
        vectors = GeneVectors.from_dict(data.get("vectors"), arrays)
        base_class: Any = TOKENIZERS.get(token_maker(config).strategy)
        return cls(config, vocab, vectors=vectors, base=base_class.from_dict(data.get("base", {}), vocab))
