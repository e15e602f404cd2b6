"""Connectivity of two regions from their genes: each gene of one attends to all genes of the other.

It predicts how strongly region i is connected with region j, from the binned expression of every gene in both, after
"Predicting Functional Brain Connectivity with Context-Aware Deep Neural Networks" (GeneEx2Conn, NeurIPS 2025).

Where it differs, and why:

- Layers are chained. Original layers all read the first queries, so that only the last one counted.
- Where the CLS token alone is read (``pooling_mode="cls"``), queries attend to one another in each layer as well. Else
  nothing of region i could reach the output.
- Coordinates are standardised by constants of the training regions (of the data set until the model is fitted), not of
  the batch.
- Genes are in the order of the data set, not in that of a set, so that a saved model can be loaded.
- ALiBi, where asked for, is really added to the scores.
- Keys and values are those of regions, not of pairs: a region of a batch is embedded and projected once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch

from scmodelforge._errors import ConfigError, require_whole
from scmodelforge.connectome.data import RegionPairDataset
from scmodelforge.connectome.models.base import ConnectomeModel
from scmodelforge.connectome.models.cross_encoder import CrossAttentionGene2VecEncoder, RegionStates
from scmodelforge.connectome.models.gene_vectors import (
    GeneVectorsGiven,
    SharedGenes,
    facts_of_genes,
    genes_from_facts,
    required_genes,
)
from scmodelforge.connectome.models.head import PairHead
from scmodelforge.connectome.models.registry import register_connectome_model
from scmodelforge.connectome.models.settings import own_arguments, seeded
from scmodelforge.connectome.models.summary_tokens import SummaryTokens
from scmodelforge.connectome.models.tokens import Binning, ExpressionBins
from scmodelforge.models._utils import evaluation

__all__ = ["CrossAttentionGene2VecModel"]

PoolingMode = Literal["mean", "attention", "cls"]
_POOLINGS = ("mean", "attention", "cls")


@register_connectome_model("cross_attention_gene2vec")
class CrossAttentionGene2VecModel(ConnectomeModel):
    """Genes of region i, after one or more CLS tokens, attend to the genes of region j.

    Parameters
    ----------
    input_dim
        Twice the number of genes of the data set.
    region_pair_dataset
        Pairs of regions, of which it takes names of genes and, with ``cls_init="spatial"``, the range of coordinates.
    expression_bins
        Bins of expression.
    d_model, nhead, num_layers
        Width, heads and layers of attention.
    deep_hidden_dims
        Widths of the layers of the head.
    cls_init
        ``random``: CLS tokens are learned. ``spatial``: they are made from the coordinates of both regions. Or one of
        these for each token.
    pooling_mode
        What the head reads: the ``mean`` of all tokens, one weighted by ``attention``, or the ``cls`` tokens.
    use_alibi
        Whether attention fades with the distance of genes in the data set; without, their order does not matter.
    transformer_dropout, dropout_rate
        Dropout in attention and in the head.
    learning_rate, weight_decay, batch_size, epochs, cosine_lr, lambda_sym, num_workers, seed, accelerator
        Of training; see :class:`~scmodelforge.connectome.models.settings.TrainingSettings`.
    gene_embeddings
        Vectors of genes: a mapping, a file, or ``None`` to learn them. Genes without one are left out.
    bidirectional
        Whether genes of region j attend to those of region i as well, with the same weights; the prediction is then the
        same for a pair and its mirror image.
    num_cls_tokens
        Number of CLS tokens.
    binning
        ``uniform``, ``quantile`` or ``learned``; see :class:`~scmodelforge.connectome.models.tokens.ExpressionBins`.
    query_self_attention
        Whether queries attend to one another before they attend to region j; ``None`` does so with ``cls`` pooling.

    Attributes
    ----------
    encoder, head
        What makes a vector of a pair, and a number of that.

    Raises
    ------
    ConfigError, DataError
        (``ValueError``) If an argument is wrong, or no gene has a vector.
    """

    scores_codes = False
    reads_places = ("cls_init='spatial'", "cls_init='random'")

    def __init__(
        self,
        input_dim: int,
        region_pair_dataset: RegionPairDataset | None,
        expression_bins: int = 5,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 4,
        deep_hidden_dims: Sequence[int] = (512, 256, 128),
        cls_init: str | Sequence[str] = "random",
        pooling_mode: PoolingMode = "mean",
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
        num_cls_tokens: int = 1,
        binning: Binning = "uniform",
        query_self_attention: bool | None = None,
        lambda_sym: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
        accelerator: str = "auto",
    ) -> None:
        arguments = own_arguments(locals())
        super().__init__(input_dim, region_pair_dataset, arguments)
        if pooling_mode not in _POOLINGS:
            msg = f"pooling_mode is {pooling_mode!r}; one of {', '.join(_POOLINGS)} is needed."
            raise ConfigError(msg)
        genes = required_genes(gene_embeddings, region_pair_dataset)
        require_whole("num_cls_tokens", num_cls_tokens, 1)
        with seeded(seed):
            self.encoder = _encoder(genes, self.arguments)
            self.head = PairHead(d_model, self.arguments["deep_hidden_dims"], dropout_rate)
        self.is_symmetric = bidirectional
        self.needs_coords = self.encoder.summary.is_spatial
        if region_pair_dataset is not None:
            self.require_coords(region_pair_dataset)
            self.encoder.summary.standardise_by(region_pair_dataset.coords)

    def encode(self, expression: torch.Tensor) -> RegionStates:
        """Return gene tokens of regions, and their keys and values; see :meth:`ConnectomeModel.encode`."""
        return self.encoder.regions(expression)

    def score(
        self, states: RegionStates, places: torch.Tensor | None, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return the connectivity of pairs, shape (B,); see :meth:`ConnectomeModel.score`."""
        if not self.is_symmetric:
            return self.head(self.encoder(states, places, first, second))
        there, back = torch.cat([first, second]), torch.cat([second, first])
        pooled = self.encoder(states, places, there, back)
        return self.head((pooled[: len(first)] + pooled[len(first) :]) / 2)

    def fit_inputs(self, expression: torch.Tensor, places: torch.Tensor | None) -> None:
        """Standardise places over the regions of training, and fit quantile bins, where they are asked for."""
        self.encoder.summary.standardise_by(places)
        self.encoder.tokens.bins.fit_edges(expression[:, self.encoder.columns.cpu()])

    def attention_maps(self, x: torch.Tensor, coords: torch.Tensor | None = None, layer: int = -1) -> torch.Tensor:
        """Return how much each CLS token and gene of region i attends to each gene of region j.

        Parameters
        ----------
        x, coords
            Pairs, as :meth:`forward` takes them.
        layer
            Which layer; negative numbers count from the last.

        Returns
        -------
        Shape (B, nhead, num_cls_tokens + N, N); the last dimension sums to 1. Genes are ``encoder.shared_genes``.

        Raises
        ------
        ConfigError
            (a ``ValueError``) If there is no such layer.
        """
        count = len(self.encoder.blocks)
        if not -count <= layer < count:
            msg = f"there is no layer {layer}; the model has {count}, numbered from 0."
            raise ConfigError(msg)
        maps: list[torch.Tensor] = []
        with evaluation(self), torch.no_grad():
            regions, places = self.halves(x, coords)
            number = torch.arange(len(x), device=x.device)
            self.encoder(self.encode(regions), places, number, number + len(x), maps=maps)
        return maps[layer]

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return a new model from what the file of a saved one says."""
        return cls(facts["input_dim"], None, gene_embeddings=genes_from_facts(facts), **facts["arguments"])

    def extra_facts(self) -> dict[str, Any]:
        """Return which genes have tokens, and how long their vectors are if these are given."""
        return facts_of_genes(self.encoder.shared_gene_indices, self.encoder.tokens.given)


def _encoder(genes: SharedGenes, arguments: Mapping[str, Any]) -> CrossAttentionGene2VecEncoder:
    """Return the encoder that the arguments of a model describe."""
    among_queries = arguments["query_self_attention"]
    return CrossAttentionGene2VecEncoder(
        genes,
        ExpressionBins(arguments["expression_bins"], arguments["binning"], len(genes.names)),
        SummaryTokens(arguments["d_model"], arguments["num_cls_tokens"], arguments["cls_init"]),
        d_model=arguments["d_model"],
        nhead=arguments["nhead"],
        num_layers=arguments["num_layers"],
        dropout=arguments["transformer_dropout"],
        pooling_mode=arguments["pooling_mode"],
        use_alibi=arguments["use_alibi"],
        query_self_attention=arguments["pooling_mode"] == "cls" if among_queries is None else among_queries,
    )
