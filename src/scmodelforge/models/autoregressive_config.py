"""Settings of the autoregressive transformer."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from scmodelforge.models.config import TransformerConfig

__all__ = ["AutoregressiveConfig"]


class AutoregressiveConfig(TransformerConfig):
    """Settings of the autoregressive transformer."""

    gene_order: Literal["random", "given"] = "random"
    """Order in which genes are named: drawn for each cell and pass, or as the tokenizer gives them."""
    use_positions: bool | None = None
    """Embed the position of each token; ``None`` does so when ``gene_order`` is ``given``."""
    readout: Literal["mean", "last"] | None = None
    """What the heads read: the mean of the hidden states a position sees, or the last of them. ``None`` is ``mean`` for
    ``gene_order: random`` and ``last`` for ``given``."""
    value_embedding: Literal["bins", "linear"] = "bins"
    """A vector for each bin, which needs values of 0 to 1, or a projection of the value."""
    gene_target: Literal["one", "set"] = "one"
    """What is to be predicted of a random order: the gene that comes next, or all that come later, equally likely; the
    same in the mean over orders, with less noise where the loss is near its floor."""

    @model_validator(mode="after")
    def _set_has_no_order(self) -> AutoregressiveConfig:
        if self.gene_target == "set" and self.gene_order == "given":
            msg = (
                "gene_target 'set' takes any later gene for the next one, but with gene_order 'given' it is a certain "
                "one; set gene_order to 'random' or gene_target to 'one'"
            )
            raise ValueError(msg)
        return self
