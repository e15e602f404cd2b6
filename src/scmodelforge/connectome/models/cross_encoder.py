"""From two regions to one vector: genes of one attend to genes of the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from scmodelforge.connectome.models.cross_block import CrossAttentionBlock
from scmodelforge.connectome.models.gene_vectors import SharedGenes
from scmodelforge.connectome.models.summary_tokens import SummaryTokens
from scmodelforge.connectome.models.tokens import ExpressionBins, GeneTokens
from scmodelforge.models.components.alibi import alibi_bias
from scmodelforge.models.components.pooling import AttentionPooling, mean_pool

__all__ = ["CrossAttentionGene2VecEncoder", "RegionStates"]


class RegionStates(NamedTuple):
    """What a pair needs of each of U regions: gene tokens, shape (U, N, H), and keys and values for every layer."""

    tokens: torch.Tensor
    keys_values: list[tuple[torch.Tensor, torch.Tensor]]


class CrossAttentionGene2VecEncoder(nn.Module):
    """From two regions to one vector.

    Parameters
    ----------
    genes
        The genes it takes.
    bins
        Makes bins of their expression.
    summary
        Makes the CLS tokens.
    d_model, nhead, num_layers, dropout
        Width, heads, layers and dropout of attention.
    pooling_mode, use_alibi, query_self_attention
        As of :class:`CrossAttentionGene2VecModel`.
    """

    columns: torch.Tensor
    bias: torch.Tensor | None
    own_bias: torch.Tensor | None

    def __init__(
        self,
        genes: SharedGenes,
        bins: ExpressionBins,
        summary: SummaryTokens,
        *,
        d_model: int,
        nhead: int,
        num_layers: int,
        dropout: float,
        pooling_mode: str,
        use_alibi: bool,
        query_self_attention: bool,
    ) -> None:
        super().__init__()
        count, num_cls = len(genes.names), summary.num_tokens
        self.shared_genes = genes.names
        self.shared_gene_indices = [int(column) for column in genes.columns]
        self.register_buffer("columns", torch.as_tensor(genes.columns, dtype=torch.int64), persistent=False)
        self.tokens = GeneTokens(count, d_model, bins, genes.vectors)
        self.summary = summary
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(d_model, nhead, dropout=dropout, query_self_attention=query_self_attention)
            for _ in range(num_layers)
        )
        self.pooling_mode = pooling_mode
        self.pool = AttentionPooling(d_model) if pooling_mode == "attention" else None
        bias = alibi_bias(nhead, count, free_queries=num_cls) if use_alibi else None
        own = alibi_bias(nhead, count, free_queries=num_cls, free_keys=num_cls) if use_alibi else None
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("own_bias", own if query_self_attention else None, persistent=False)

    @property
    def cls_token_proj(self) -> nn.Linear:
        """What makes CLS tokens of six numbers."""
        return self.summary.projection

    def bin_expression(self, expression: torch.Tensor) -> torch.Tensor:
        """Return the bins of the expression of :attr:`shared_genes`, (B, N) to (B, N, bins)."""
        return self.tokens.bins(expression)

    def regions(self, expression: torch.Tensor) -> RegionStates:
        """Return what a pair needs of regions, from expression of all genes, shape (U, G)."""
        tokens = self.tokens(expression[:, self.columns])
        blocks: Any = self.blocks
        return RegionStates(tokens, [block.keys_values(tokens) for block in blocks])

    def forward(
        self,
        states: RegionStates,
        places: torch.Tensor | None,
        first: torch.Tensor,
        second: torch.Tensor,
        *,
        maps: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return the vector of each pair, shape (B, H); arguments are those of :meth:`ConnectomeModel.score`.

        ``maps`` gets the shares of the genes of ``second`` in each query, of each layer, shape (B, heads, Q, N).
        """
        between = None if places is None else torch.cat([places[first], places[second]], dim=1)
        queries = torch.cat([self.summary(between, len(first)), states.tokens[first]], dim=1)  # (B, k + N, H)
        for block, (key, value) in zip(self.blocks, states.keys_values, strict=True):
            context = key[second], value[second]
            queries = block(queries, context, bias=self.bias, own_bias=self.own_bias, maps=maps)
        if self.pool is not None:
            return self.pool(queries)
        return mean_pool(queries if self.pooling_mode == "mean" else queries[:, : self.summary.num_tokens])
