"""Connectivity of two regions from their genes, each region encoded alone by one encoder for both.

The siblings of :class:`~scmodelforge.connectome.models.cross_attention.CrossAttentionGene2VecModel`: tokens of a region
attend to one another, what comes of them is the code of the region, and a head reads both codes. A batch of pairs so
costs as many encodings as it has regions. Products of both codes and codes of places may stand beside.

Where they differ from GeneEx2Conn, and why: the last chunk of genes is filled up, instead of genes being left out;
chunks have a learned vector each, without which pooling could not tell which genes they are; predictions are not cut
off at -1 and 1, which Fisher's z exceeds; the model of single genes has the bins of the cross-attention model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from scmodelforge._errors import require_whole
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.models.gene_vectors import (
    GeneVectorsGiven,
    SharedGenes,
    facts_of_genes,
    genes_from_facts,
    required_genes,
)
from scmodelforge.connectome.models.registry import register_connectome_model
from scmodelforge.connectome.models.settings import own_arguments, require_share, seeded
from scmodelforge.connectome.models.shared_encoder import RegionEncoder, SharedEncoderModel
from scmodelforge.connectome.models.tokens import Binning, ExpressionBins, GeneChunks, GeneTokens
from scmodelforge.models.components.pooling import AttentionPooling

__all__ = ["SharedSelfAttentionGene2VecModel", "SharedSelfAttentionModel", "SharedSelfAttentionPoolingModel"]


class _ChunkModel(SharedEncoderModel):
    """A model whose tokens are chunks of genes."""

    def __init__(
        self,
        input_dim: int,
        region_pair_dataset: RegionPairDataset | None = None,
        token_encoder_dim: int = 20,
        d_model: int = 128,
        encoder_output_dim: int = 10,
        nhead: int = 4,
        num_layers: int = 4,
        deep_hidden_dims: Sequence[int] = (512, 256, 128),
        use_alibi: bool = True,
        transformer_dropout: float = 0.1,
        dropout_rate: float = 0.1,
        learning_rate: float = 0.001,
        weight_decay: float = 0.0,
        batch_size: int = 512,
        epochs: int = 100,
        cosine_lr: bool = False,
        *,
        chunk_vectors: bool = True,
        bidirectional: bool = False,
        bilinear: bool = False,
        place_dim: int = 0,
        gene_dropout: float = 0.0,
        lambda_sym: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
        accelerator: str = "auto",
    ) -> None:
        arguments = own_arguments(locals())
        super().__init__(input_dim, region_pair_dataset, arguments)
        require_whole("token_encoder_dim", token_encoder_dim, 1)
        require_whole("encoder_output_dim", encoder_output_dim, 1)
        require_share("gene_dropout", gene_dropout)
        with seeded(seed):
            chunks = GeneChunks(
                self.input_dim // 2, token_encoder_dim, d_model, tell_apart=chunk_vectors, dropout=gene_dropout
            )
            readout, width = self._readout(d_model, encoder_output_dim, chunks.num_tokens)
            self.encoder = RegionEncoder(chunks, readout, None, chunks.num_tokens, arguments)
            self.add_readers(width, region_pair_dataset)

    def fit_inputs(self, expression: torch.Tensor, places: torch.Tensor | None) -> None:
        """Standardise each gene, and places, over the regions of training."""
        self.fit_places(places)
        chunks: Any = self.encoder.tokens
        chunks.fit_scales(expression)

    @staticmethod
    def _readout(d_model: int, encoder_output_dim: int, num_tokens: int) -> tuple[nn.Module, int]:
        """Return what makes the code, and its width."""
        raise NotImplementedError


@register_connectome_model("shared_self_attention")
class SharedSelfAttentionModel(_ChunkModel):
    """Chunks of genes attend to one another; the code is a few numbers of each chunk.

    Parameters
    ----------
    input_dim
        Twice the number of genes of the data set.
    region_pair_dataset
        Pairs of regions, whose genes are compared with the number above.
    token_encoder_dim
        Genes of a token.
    d_model, nhead, num_layers
        Width, heads and layers of attention.
    encoder_output_dim
        Numbers of the code: of each chunk, or, with pooling, of the region.
    deep_hidden_dims
        Widths of the layers of the head.
    use_alibi
        Whether attention fades with the distance of chunks.
    transformer_dropout, dropout_rate
        Dropout in attention and in the head.
    learning_rate, weight_decay, batch_size, epochs, cosine_lr, lambda_sym, num_workers, seed, accelerator
        Of training; see :class:`~scmodelforge.connectome.models.settings.TrainingSettings`.
    chunk_vectors
        Whether each chunk has a learned vector that tells which it is.
    bidirectional
        Whether the head's answers for a pair and its mirror image are averaged, so that they are the same.
    bilinear
        Whether products of the codes of both regions, with learned weights, are added to what the head says.
    place_dim
        Numbers of the code of a place; 0 reads no coordinates. Places are then read beside genes, by a head of both
        or, with ``bilinear``, by products of their own that are added to what genes say.
    gene_dropout
        Share of the genes of a region that a step of training does not see.
    """

    @staticmethod
    def _readout(d_model: int, encoder_output_dim: int, num_tokens: int) -> tuple[nn.Module, int]:
        return nn.Sequential(nn.Linear(d_model, encoder_output_dim), nn.Flatten(1)), encoder_output_dim * num_tokens


@register_connectome_model("shared_self_attention_pooling")
class SharedSelfAttentionPoolingModel(_ChunkModel):
    """Chunks of genes attend to one another; the code is made of a mean of them with learned weights.

    Parameters
    ----------
    input_dim
        Twice the number of genes of the data set.
    region_pair_dataset
        Pairs of regions, whose genes are compared with the number above.
    token_encoder_dim
        Genes of a token.
    d_model, nhead, num_layers
        Width, heads and layers of attention.
    encoder_output_dim
        Numbers of the code: of each chunk, or, with pooling, of the region.
    deep_hidden_dims
        Widths of the layers of the head.
    use_alibi
        Whether attention fades with the distance of chunks.
    transformer_dropout, dropout_rate
        Dropout in attention and in the head.
    learning_rate, weight_decay, batch_size, epochs, cosine_lr, lambda_sym, num_workers, seed, accelerator
        Of training; see :class:`~scmodelforge.connectome.models.settings.TrainingSettings`.
    chunk_vectors
        Whether each chunk has a learned vector that tells which it is.
    bidirectional
        Whether the head's answers for a pair and its mirror image are averaged, so that they are the same.
    bilinear
        Whether products of the codes of both regions, with learned weights, are added to what the head says.
    place_dim
        Numbers of the code of a place; 0 reads no coordinates. Places are then read beside genes, by a head of both
        or, with ``bilinear``, by products of their own that are added to what genes say.
    gene_dropout
        Share of the genes of a region that a step of training does not see.
    """

    @staticmethod
    def _readout(d_model: int, encoder_output_dim: int, num_tokens: int) -> tuple[nn.Module, int]:
        return nn.Sequential(AttentionPooling(d_model), nn.Linear(d_model, encoder_output_dim)), encoder_output_dim


@register_connectome_model("shared_self_attention_gene2vec")
class SharedSelfAttentionGene2VecModel(SharedEncoderModel):
    """Single genes attend to one another; the code is a mean of them with learned weights.

    Parameters
    ----------
    use_alibi
        Whether attention fades with the distance of genes in the data set; without, their order does not matter.
    bilinear, place_dim
        As of :class:`SharedSelfAttentionModel`.

    Notes
    -----
    Other parameters are those of
    :class:`~scmodelforge.connectome.models.cross_attention.CrossAttentionGene2VecModel` that have the same name, but
    ``bidirectional`` averages what the head makes of both orders of the regions.
    """

    def __init__(
        self,
        input_dim: int,
        region_pair_dataset: RegionPairDataset | None,
        expression_bins: int = 5,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 4,
        deep_hidden_dims: Sequence[int] = (512, 256, 128),
        use_alibi: bool = False,
        transformer_dropout: float = 0.1,
        dropout_rate: float = 0.1,
        learning_rate: float = 0.001,
        weight_decay: float = 0.0,
        batch_size: int = 512,
        epochs: int = 100,
        cosine_lr: bool = False,
        *,
        gene_embeddings: GeneVectorsGiven | SharedGenes = None,
        bidirectional: bool = False,
        binning: Binning = "uniform",
        bilinear: bool = False,
        place_dim: int = 0,
        lambda_sym: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
        accelerator: str = "auto",
    ) -> None:
        arguments = own_arguments(locals())
        super().__init__(input_dim, region_pair_dataset, arguments)
        genes = required_genes(gene_embeddings, region_pair_dataset)
        count = len(genes.names)
        with seeded(seed):
            tokens = GeneTokens(count, d_model, ExpressionBins(expression_bins, binning, count), genes.vectors)
            self.encoder = RegionEncoder(tokens, AttentionPooling(d_model), genes.columns, count, arguments)
            self.add_readers(d_model, region_pair_dataset)
        self.shared_genes = genes.names
        self.shared_gene_indices = [int(column) for column in genes.columns]

    def fit_inputs(self, expression: torch.Tensor, places: torch.Tensor | None) -> None:
        """Standardise places over the regions of training, and fit quantile bins, where they are asked for."""
        self.fit_places(places)
        tokens: Any = self.encoder.tokens
        tokens.bins.fit_edges(expression[:, self.shared_gene_indices])

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return a new model from what the file of a saved one says."""
        return cls(facts["input_dim"], None, gene_embeddings=genes_from_facts(facts), **facts["arguments"])

    def extra_facts(self) -> dict[str, Any]:
        """Return which genes have tokens, and how long their vectors are if these are given."""
        tokens: Any = self.encoder.tokens
        return facts_of_genes(self.shared_gene_indices, tokens.given)
