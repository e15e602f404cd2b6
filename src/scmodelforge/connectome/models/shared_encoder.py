"""What the siblings share: a region is encoded alone, and its code is read beside that of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodelforge._errors import require_whole
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.connectome.models.cross_block import block_options
from scmodelforge.connectome.models.head import BilinearTerm, PairHead, PlaceCode
from scmodelforge.models.components.alibi import alibi_bias
from scmodelforge.models.components.transformer import TransformerStack

__all__ = ["RegionEncoder", "SharedEncoderModel"]

_NEIGHBOURS = 0.5  # connectivity of regions at one place, before anything is learned


class RegionEncoder(nn.Module):
    """From the expression of a region to its code.

    Parameters
    ----------
    tokens
        Makes tokens of expression, shape (U, G') to (U, T, H).
    readout
        Makes a code of what leaves the last block, (U, T, H) to (U, C).
    columns
        Columns of the genes that the tokens are made of; ``None`` for all.
    num_tokens
        Number of tokens T.
    arguments
        Arguments of the model.
    """

    columns: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(
        self,
        tokens: nn.Module,
        readout: nn.Module,
        columns: np.ndarray | None,
        num_tokens: int,
        arguments: Mapping[str, Any],
    ) -> None:
        super().__init__()
        index = None if columns is None else torch.as_tensor(columns, dtype=torch.int64)
        self.register_buffer("columns", index, persistent=False)
        self.tokens = tokens
        d_model, nhead = arguments["d_model"], arguments["nhead"]
        options: Any = block_options(d_model, arguments["transformer_dropout"])
        self.stack = TransformerStack(d_model, arguments["num_layers"], nhead, **options)
        self.readout = readout
        bias = alibi_bias(nhead, num_tokens) if arguments["use_alibi"] else None
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, expression: torch.Tensor) -> torch.Tensor:
        """Encode regions: expression of all genes, shape (U, G), to (U, C)."""
        taken = expression if self.columns is None else expression[:, self.columns]
        return self.readout(self.stack(self.tokens(taken), mask=self.bias))


class SharedEncoderModel(ConnectomeModel):
    """Base of the siblings: one code of each region, a head on the codes of both.

    Places are numbers more for the head. With products they are a term of their own instead, which is added: few
    regions do not tell which genes matter at which places, and genes, which are many, would hide what places tell.
    """

    encoder: RegionEncoder
    head: PairHead
    products: BilinearTerm | None
    places: PlaceCode | None
    place_products: BilinearTerm | None

    def add_readers(self, width: int, dataset: RegionPairDataset | None) -> None:
        """Make what reads the codes of both regions, of so many numbers, as the arguments say."""
        given = self.arguments
        require_whole("place_dim", given["place_dim"], 0)
        self.is_symmetric, self.needs_coords = given["bidirectional"], given["place_dim"] > 0
        self.places = PlaceCode(given["place_dim"]) if self.needs_coords else None
        self.products = self.place_products = None
        if given["bilinear"]:
            self.products = BilinearTerm(width, is_symmetric=self.is_symmetric)
            if self.needs_coords:
                self.place_products = BilinearTerm(
                    given["place_dim"] + 1, is_symmetric=self.is_symmetric, start=_NEIGHBOURS
                )
                with torch.no_grad():  # regions far apart begin with none: the head has a constant
                    self.place_products.weight[-1, -1] = 0.0
        else:
            width += given["place_dim"]
        self.head = PairHead(2 * width, given["deep_hidden_dims"], given["dropout_rate"])
        if dataset is not None:
            self.require_coords(dataset)
            if self.places is not None and dataset.coords is not None:
                self.places.describe(dataset.coords)

    def fit_places(self, places: torch.Tensor | None) -> None:
        """Take from the places of training regions, shape (R, 3), what places are described by, if they are read."""
        if self.places is not None and places is not None:
            self.places.fit(places)

    def encode(self, expression: torch.Tensor) -> torch.Tensor:
        """Return the code of each region, shape (U, C)."""
        return self.encoder(expression)

    def score(
        self, states: torch.Tensor, places: torch.Tensor | None, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return the connectivity of pairs, shape (B,); see :meth:`ConnectomeModel.score`."""
        if self.places is not None:
            where = self.places(places)
            if self.place_products is None:
                states = torch.cat([states, where], dim=1)
        found = self._by_head(states[first], states[second])
        if self.products is not None:
            found = found + self.products(states, first, second)
        if self.place_products is not None:
            one = torch.ones_like(where[:, :1])  # times a place: what the place is worth whatever the other one
            found = found + self.place_products(torch.cat([where, one], dim=1), first, second)
        return found

    def _by_head(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        there = torch.cat([one, other], dim=1)
        if not self.is_symmetric:
            return self.head(there)
        both = self.head(torch.cat([there, torch.cat([other, one], dim=1)]))
        return (both[: len(one)] + both[len(one) :]) / 2
