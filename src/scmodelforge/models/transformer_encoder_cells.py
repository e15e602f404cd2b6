"""How the transformer encoder makes the embedding of a cell: of which tokens, and after which layer."""

from __future__ import annotations

from typing import Any, Literal

import torch

from scmodelforge._errors import ConfigError
from scmodelforge.models.base import MaskedGeneModel
from scmodelforge.models.components.blocks import Trace
from scmodelforge.models.components.transformer import TransformerStack

__all__ = ["ChosenTokensModel", "check_left_out_layers"]


def check_left_out_layers(left_out_layers: int, num_layers: int) -> None:
    """Refuse to leave out all layers.

    Raises
    ------
    ConfigError
        If none is left.
    """
    if left_out_layers >= num_layers:
        msg = f"model.left_out_layers is {left_out_layers}, of {num_layers} layers; leave at least one."
        raise ConfigError(msg)


class ChosenTokensModel(MaskedGeneModel):
    """A model whose cell embedding is made of chosen tokens, and after a chosen layer.

    A subclass sets these attributes, and its ``_hidden_states`` takes ``left_out``, the layers not to pass.
    """

    encoder: TransformerStack
    pooling: str
    pooled_tokens: Literal["all", "genes"]
    left_out_layers: int

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Embed cells as ``forward`` does, without passing the layers that do not count.

        Parameters and shape are those of :meth:`CellModel.encode`.
        """
        left_out: dict[str, Any] = {"left_out": self.left_out_layers} if self.left_out_layers else {}
        hidden = self._hidden_states(input_ids, attention_mask, values, **left_out)  # derived models may know none
        return self._pool_tokens(hidden, input_ids, attention_mask)

    def _cells_and_tokens(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None,
        *,
        trace: Trace | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed cells as ``encode`` does, and tokens by what leaves the last layer, whatever that leaves out."""
        if self.left_out_layers and (trace is None or not trace.states):
            trace = Trace(states=True) if trace is None else Trace(True, trace.maps, attentions=trace.attentions)
        hidden = pooled = self._hidden_states(input_ids, attention_mask, values, **Trace.given(trace), **options)
        if self.left_out_layers:
            assert trace is not None
            pooled = self.encoder.final_norm(trace.hidden_states[-1 - self.left_out_layers])
        return self._pool_tokens(pooled, input_ids, attention_mask), hidden

    def _pool_tokens(self, hidden: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.pooled_tokens == "genes" and self.pooling == "mean":
            special = self.embedding.special_ids
            is_gene = ~torch.isin(input_ids, special.on(input_ids.device)) | (input_ids == special.mask)
            attention_mask = (attention_mask != 0) & is_gene
        return self._pool(hidden, attention_mask)
