"""Settings of the binned expression tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from scmodelforge.config.schema import TokenizerConfig
from scmodelforge.tokenizers.bin_edges import check_edges
from scmodelforge.tokenizers.bins import Ties
from scmodelforge.tokenizers.gene_selection import Selection

__all__ = ["SCGPT", "BinnedExpressionConfig"]

#: Settings of the published scGPT models: bins as numbers, values of ``<cls>`` and padding -2, of hidden genes -1.
SCGPT: Mapping[str, Any] = {
    "strategy": "binned_expression",
    "max_genes": 1200,
    "n_bins": 51,
    "method": "quantile",
    "ties": "random",
    "selection": "random",
    "value_scale": "index",
    "add_cls": True,
    "cls_value": -2.0,
    "pad_value": -2.0,
    "mask_value": -1.0,
}


class BinnedExpressionConfig(TokenizerConfig):
    """Settings of the binned expression tokenizer."""

    n_bins: int = Field(51, gt=1)
    """Number of bins K, the one of zero included. ``model.n_bins`` follows it."""
    method: Literal["quantile", "fixed", "uniform"] = "quantile"
    """``quantile`` puts the edges of bins at quantiles of each cell, as scGPT does; ``fixed`` has edges that all cells
    share (``edges``), which asks for normalised values; ``uniform`` has bins of equal width up to each cell's
    maximum."""
    edges: list[float] | None = None
    """Of ``method: fixed``, the K - 2 edges between the bins above zero, ascending; a value on an edge is in the bin
    above it. ``None`` fits edges to the training cells, so that bins get equal shares of all their values."""
    ties: Ties = "mid"
    """Bin of a value that equals several edges: the middle, first or last of those it may have, or one drawn for each
    cell and gene (in training anew in each pass)."""
    selection: Selection = "random"
    """What is kept of a cell with more genes than fit: a ``random`` part, a part drawn by expression (``weighted``),
    the highest expression (``top``), or the genes of ``hvg_genes`` before others (``hvg_first``)."""
    hvg_genes: list[str] = Field(default_factory=list)
    """Genes that ``selection: hvg_first`` keeps before others."""
    always_keep: list[str] = Field(default_factory=list)
    """Genes that are kept in every cell that expresses them, whatever the selection."""
    include_zeros: bool = False
    """Give the genes of a cell's file that it does not express tokens too, with bin 0. Much slower, and long."""
    value_scale: Literal["unit", "index"] = "unit"
    """Value shown for a bin: its number over K - 1, or its number, as scGPT has it."""
    add_cls: bool = True
    """Begin each cell with the token ``<cls>``."""
    cls_value: float = 0.0
    """Value at ``<cls>``; -2 in the published scGPT models."""
    pad_value: float = 0.0
    """Value that fills up shorter cells of a batch; -2 in scGPT."""
    mask_value: float = 0.0
    """Value shown where an objective hides one; -1 in scGPT."""

    @property
    def normalizes(self) -> bool:
        """Whether library-size normalisation changes nothing: with quantiles, unless genes are drawn by value."""
        return self.method == "quantile" and self.selection != "weighted"

    @model_validator(mode="after")
    def _fit_together(self) -> BinnedExpressionConfig:
        problem = None
        if self.edges is not None and self.method != "fixed":
            problem = f"edges have no effect with method '{self.method}'; remove them or set method to 'fixed'"
        elif self.edges is not None:
            problem = check_edges(self.edges, self.n_bins)
        elif self.hvg_genes and self.selection != "hvg_first":
            problem = f"hvg_genes have no effect with selection '{self.selection}'; set it to 'hvg_first'"
        elif self.selection == "hvg_first" and not self.hvg_genes:
            problem = "selection 'hvg_first' needs hvg_genes; list the genes to keep before others"
        room = self.max_genes - self.add_cls
        if problem is None and len(set(self.always_keep)) > room:
            problem = (
                f"always_keep has {len(set(self.always_keep)):,} genes, but max_genes leaves room for {room:,}; "
                "raise max_genes or name fewer"
            )
        if problem is not None:
            raise ValueError(problem)
        return self
