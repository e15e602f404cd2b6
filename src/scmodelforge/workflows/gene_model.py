"""A model with cells, as perturbations of genes and attention between them ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import DataConfig
from scmodelforge.data.types import TokenBlock
from scmodelforge.eval.embed import evaluating
from scmodelforge.eval.insilico import EncodedCells
from scmodelforge.models.autoregressive import AutoregressiveTransformer
from scmodelforge.objectives.collate import collate_for_encoding
from scmodelforge.workflows.prepare import PreparedData, sequential_loader

__all__ = ["TokenModel"]


@dataclass
class TokenModel:
    """A :class:`~scmodelforge.eval.insilico.GeneModel`: a model of this package and some cells of its data.

    Attributes
    ----------
    model, device, autocast
        The model, where it is, and what makes the context of a pass.
    data, config
        The cells, prepared for the model, and how they are read.
    positions
        The cells to look at, in the order in which they are drawn when fewer are asked for.
    batch_size
        Cells of a pass.
    seed
        Seed of what a tokenizer draws.
    """

    model: nn.Module
    data: PreparedData
    config: DataConfig
    positions: np.ndarray
    batch_size: int
    device: torch.device
    autocast: Callable[[], Any] = nullcontext
    seed: int = 0

    @property
    def genes(self) -> list[str]:
        """Names of the genes of the vocabulary."""
        return self.data.vocab.genes

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.data.vocab)

    @property
    def gene_tokens(self) -> np.ndarray:
        """Token of each gene."""
        return self.data.vocab.gene_tokens

    @property
    def max_length(self) -> int:
        """Most tokens that the tokenizer gives a cell."""
        return int(self.data.tokenizer.config.max_genes)

    @property
    def num_cells(self) -> int:
        """Number of cells to look at."""
        return len(self.positions)

    def limited(self, num_cells: int) -> TokenModel:
        """Return the model with the first cells that are drawn."""
        return replace(self, positions=self.positions[:num_cells])

    def cells(self) -> Iterator[TokenBlock]:
        """Yield the cells as tokens, batch by batch."""
        with sequential_loader(
            self.data,
            np.sort(self.positions),
            collate=lambda tokens: tokens,
            config=self.config,
            batch_size=self.batch_size,
            seed=self.seed,
        ) as loader:
            for group in loader.one_pass(0):
                yield from (block for block in group if len(block))

    def encode(self, tokens: TokenBlock) -> EncodedCells:
        """Embed cells and their tokens."""
        output, is_token, num_first = self._run(tokens, output_hidden_states=True)
        states = output.hidden_states[-1][:, num_first:]
        return EncodedCells(_numpy(output.embeddings), _numpy(states[is_token]))

    def attention(self, tokens: TokenBlock) -> list[np.ndarray]:
        """Return the attention of each layer; none of a model without."""
        output, _, num_first = self._run(tokens, output_hidden_states=True, output_attentions=True)
        return [_numpy(each[:, :, num_first:, num_first:]) for each in output.attentions or ()]

    def _run(self, tokens: TokenBlock, **asked: bool) -> tuple[Any, torch.Tensor, int]:
        """Return the output, which places are tokens, (B, S), and how many states of its own a model has before."""
        batch = collate_for_encoding(replace(tokens, measured=None), pad_id=self.data.vocab.pad_id)
        moved = {name: each.to(self.device) if isinstance(each, torch.Tensor) else each for name, each in batch.items()}
        if isinstance(self.model, AutoregressiveTransformer):  # its tokens see the whole cell when it embeds
            moved["prefix_len"] = torch.from_numpy(tokens.lengths).to(self.device)
        with evaluating(self.model), torch.no_grad(), self.autocast():
            output = self.model(**moved, return_logits=False, **asked)
        is_token = batch["attention_mask"].to(self.device) != 0
        return output, is_token, _num_first(self.model, output, is_token.shape[1])


def _num_first(model: nn.Module, output: Any, length: int) -> int:
    states = None if output.hidden_states is None else output.hidden_states[-1]
    if states is None or states.ndim != 3 or states.shape[1] < length:
        msg = (
            f"{type(model).__name__} has no hidden state for each token of a cell, so genes have no contextual "
            "vectors; use vectors: input, or a transformer."
        )
        raise ConfigError(msg)
    return int(states.shape[1] - length)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
