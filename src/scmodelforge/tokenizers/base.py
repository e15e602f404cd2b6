"""What a tokenizer is, and all of it that a new one need not write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from pydantic import ValidationError

from scmodelforge._errors import ConfigError, DataError
from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.data.protocols import BoundEncoder
from scmodelforge.data.types import CellBlock, EmbeddingSpec, Panel
from scmodelforge.data.vocab import GeneVocab
from scmodelforge.tokenizers._cell_by_cell import CellByCell
from scmodelforge.tokenizers.entries import expressed_entries, has_repeats, measured_tokens, one_cell
from scmodelforge.tokenizers.saved import load_tokenizer, save_tokenizer

__all__ = ["BaseTokenizer", "FittingVisitor"]


class FittingVisitor(Protocol):
    """What learns from the training cells while they are scanned."""

    def update(self, block: CellBlock) -> None:
        """Take a block of cells as their source has them, and of these the ones to learn from."""
        ...

    def finish(self) -> None:
        """Hand what was learned to the tokenizer, after the last block."""
        ...


class BaseTokenizer(ABC):
    """Base of all tokenizers.

    A new one writes :meth:`tokenize`, which is about one cell; everything else follows from it. A file with this
    class, named under ``plugins`` of the settings, makes ``tokenizer.strategy: by_name`` available:

    >>> import numpy as np
    >>> from scmodelforge.tokenizers import BaseTokenizer, register_tokenizer
    >>> @register_tokenizer("by_name")
    ... class ByName(BaseTokenizer):
    ...     "The expressed genes in the order of the vocabulary."
    ...
    ...     is_set = True
    ...
    ...     def tokenize(self, expression, gene_ids, *, key=0):
    ...         tokens, values = self.expressed(expression, gene_ids)
    ...         tokens, values = tokens[: self.config.max_genes], values[: self.config.max_genes]
    ...         return {"input_ids": tokens, "attention_mask": np.ones(len(tokens)), "values": values}

    It has its own settings if it names a subclass of ``TokenizerConfig`` as its ``config_class``, writes :meth:`bind`
    too if a loop over cells is too slow, and :meth:`visitor`, :meth:`to_dict` and :meth:`from_dict` if it learns
    something from the training cells. All methods may be called from several threads.

    Parameters
    ----------
    config
        Settings. Plain ones are completed with the defaults of the class's own.
    vocab
        The genes that have tokens.

    Attributes
    ----------
    strategy
        Registered name.
    expects
        ``counts`` for counts, which may be normalised by library size but not logged; ``any`` for all values.
    provides
        What the tokenizer gives for each token: ``input_ids``, ``values``, and ``bin_ids`` if it has bins.
    normalizes
        Whether library-size normalisation before it changes nothing. Where it depends on settings,
        they have it as a property.
    pad_value, mask_value
        Value that fills up shorter cells of a batch, and value that objectives show where one is hidden.
    is_set
        Whether tokens come in the order of their ids. Objectives that hide genes in their place then draw another
        order, since the place of a hidden gene would tell which one it is.

    Raises
    ------
    ConfigError
        If the settings do not fit the tokenizer.
    """

    strategy: ClassVar[str] = "unregistered"
    config_class: ClassVar[type[TokenizerConfig]] = TokenizerConfig
    expects: Literal["counts", "any"] = "counts"
    provides: frozenset[str] = frozenset({"input_ids", "values"})
    normalizes: bool = False
    pad_value: float = 0.0
    mask_value: float = 0.0
    is_set: bool = False

    def __init__(self, config: TokenizerConfig, vocab: GeneVocab) -> None:
        self.config = own_settings("tokenizer", self.strategy, config, self.config_class)
        self.vocab = vocab
        self._looked_up: tuple[np.ndarray, np.ndarray] | None = None

    @abstractmethod
    def tokenize(self, expression: Any, gene_ids: Iterable[str], *, key: int = 0) -> dict[str, np.ndarray]:
        """Turn one cell into tokens.

        Parameters
        ----------
        expression
            Values of the cell: an array of shape (G,) or a sparse matrix of one row.
        gene_ids
            Identifiers of the genes, shape (G,). Genes the vocabulary does not have are left out.
        key
            Base of the cell's random draws (:mod:`scmodelforge.data.draws`), for tokenizers that draw.

        Returns
        -------
        ``input_ids``, ``attention_mask`` (1 for tokens, 0 for padding, if any) and ``values``, perhaps ``bin_ids``,
        each of shape (S,) with S at most ``config.max_genes``.
        """

    def bind(self, panel: Panel) -> BoundEncoder:
        """Return an encoder for blocks of cells of one file: :meth:`tokenize` on one cell after the other."""
        columns = self.lookup(panel.gene_ids)
        return CellByCell(self, panel, columns, measured_tokens(columns))

    def visitor(self, is_train: Callable[[np.ndarray], np.ndarray]) -> FittingVisitor | None:
        """Return what fits the tokenizer to the training cells, or ``None`` if there is nothing to fit.

        Parameters
        ----------
        is_train
            Tells of cell positions, shape (n,), which are training cells, shape (n,), bool.
        """
        return None

    def embedding_spec(self) -> EmbeddingSpec | None:
        """Return what the model's embedding layer is given (gene vectors, the use of values), ``None`` for nothing."""
        return None

    @property
    def maker(self) -> BaseTokenizer:
        """The tokenizer that makes the tokens: itself, unless it adds to those of another one."""
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays too large for JSON; if there are any, :meth:`from_dict` is called with them as ``arrays``."""
        return {}

    def describe(self) -> str:
        """Return one line on what the tokenizer does, for people."""
        return f"{self.strategy}, at most {self.config.max_genes:,} tokens"

    def to_dict(self) -> dict[str, Any]:
        """Return settings, the digest of the vocabulary and fitted state as plain values."""
        return {"config": self.config.model_dump(mode="json"), "vocab_digest": self.vocab.digest()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], vocab: GeneVocab) -> Self:
        """Make a tokenizer of what :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If the values are not settings of this tokenizer, or of another vocabulary.
        """
        config = cls._config_from(data)
        cls._check_vocab(data, vocab)
        return cls(config, vocab)

    def extended(self, vocab: GeneVocab) -> Self:
        """Return the tokenizer for a vocabulary with more genes, its state otherwise as it is.

        A tokenizer with state for each token writes its own: :meth:`to_dict` must hold none, or fit the new tokens.

        Parameters
        ----------
        vocab
            What ``GeneVocab.extended`` gave for this tokenizer's vocabulary.
        """
        return self.from_dict({**self.to_dict(), "vocab_digest": vocab.digest()}, vocab)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer with its fitted state and vocabulary to a folder; see :meth:`from_pretrained`."""
        save_tokenizer(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read a tokenizer from a folder: a model's, or one that :meth:`save_pretrained` wrote.

        Of ``BaseTokenizer`` it gives whatever the folder holds.

        Raises
        ------
        DataError
            If the files are missing or damaged, or do not belong together.
        ConfigError
            If the folder's tokenizer is another one than this.
        """
        tokenizer = load_tokenizer(folder)
        if not isinstance(tokenizer, cls):
            msg = f"{folder} holds tokenizer '{tokenizer.strategy}', not '{cls.strategy}'; read it with BaseTokenizer."
            raise ConfigError(msg)
        return tokenizer

    def expressed(self, expression: Any, gene_ids: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return what the vocabulary knows of one cell.

        Returns
        -------
        Token of each expressed gene, shape (E,), int64, ascending, and its value, shape (E,), float32. Values of
        several columns with the same token are summed.

        Raises
        ------
        DataError
            If the numbers of values and genes differ, or a value is negative, infinite or not a number.
        """
        block = one_cell(expression, gene_ids)
        columns = self.lookup(block.panel.gene_ids)
        entries = expressed_entries(block, columns, repeats=has_repeats(columns))
        order = np.argsort(entries.tokens)
        return entries.tokens[order].astype(np.int64), entries.values[order].astype(np.float32)

    def lookup(self, gene_ids: Iterable[str]) -> np.ndarray:
        """Return the token of each gene, shape (G,), int32, -1 where there is none. The last genes are remembered."""
        ids = np.asarray(gene_ids, dtype=object)
        last = self._looked_up
        if last is None or not np.array_equal(last[0], ids):
            last = (ids.copy(), self.vocab.map(ids))
            self._looked_up = last
        return last[1]

    @classmethod
    def _check_vocab(cls, data: Mapping[str, Any], vocab: GeneVocab) -> None:
        if "vocab_digest" not in data:
            msg = (
                f"state of tokenizer '{cls.strategy}' has no vocab_digest; its to_dict() must extend super().to_dict()."
            )
            raise DataError(msg)
        if data["vocab_digest"] != vocab.digest():
            msg = (
                f"tokenizer.json was fitted with other genes than gene_vocab '{vocab.name}' has; "
                "take tokenizer.json and vocab.json from the same folder."
            )
            raise DataError(msg)

    @classmethod
    def _config_from(cls, data: Mapping[str, Any]) -> Any:
        try:
            return cls.config_class.model_validate(data.get("config"))
        except ValidationError as problem:
            first = problem.errors()[0]
            where = ".".join(["config", *map(str, first["loc"])])
            msg = f"state of tokenizer '{cls.strategy}' is damaged: {where}: {first['msg']}; take it as it was saved."
            raise DataError(msg) from None
