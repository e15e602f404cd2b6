"""What predicts the change of expression by a perturbation, from an embedded control cell and the perturbed genes.

The change is that of a regression on sets of genes fitted to means of training conditions (``prior.py``), and what a
network adds to it, at first nothing: what the regression cannot know. That is the part of genes that no training
condition perturbs, from the backbone's own embedding of them; and what two known genes do together that neither does
alone, from the products of their tokens (Rendle 2010, doi:10.1109/ICDM.2010.127), made of the backbone's embedding and
a learned offset. Both depend on the embedding of the control cell, the covariate and the dose. A decoder multiplies
what comes out with a vector of each output gene, made of the backbone's embedding of it and one of its own. The order
of the perturbed genes has no effect. Once trained, each part is shrunk by ``n / (n + 20)``, n being the number of
conditions or genes that it was learned from: few teach little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from scmodelforge._errors import ConfigError
from scmodelforge.config.head import HeadConfig
from scmodelforge.finetuning.perturbation.prior import NUM_COMMON
from scmodelforge.models.fine_tuned_config import FineTunedConfig
from scmodelforge.models.fine_tuned_heads import Seen, register_head

__all__ = ["KIND", "PerturbationHead", "PerturbationHeadConfig", "gene_table"]

KIND = "perturbation"


class PerturbationHeadConfig(HeadConfig):
    """Settings of a head that predicts changes of expression. Sizes are filled in when a run starts."""

    objective: ClassVar[str] = "perturbation_prediction"
    filled: ClassVar[dict[str, str]] = dict.fromkeys(
        ("num_genes", "num_known", "num_covariates", "num_vectors", "has_dose"), "the screen"
    )

    kind: Literal["perturbation"] = "perturbation"
    """What the head predicts. Its other settings are those of this kind."""
    width: int = Field(64, gt=0)
    """Width of the tokens of perturbations and of what is decoded."""
    interactions: int = Field(16, gt=0)
    """Products of two perturbed genes' tokens that a combination is seen by."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the network."""
    num_genes: int = Field(1, gt=0)
    """Output genes."""
    num_known: int = Field(1, gt=0)
    """Genes that are perturbed in training conditions."""
    num_covariates: int = Field(1, gt=0)
    """Values of the covariate."""
    num_vectors: int = Field(0, ge=0)
    """Components of the base model's gene embeddings that the regression reads."""
    has_dose: bool = False
    """Whether conditions have a dose."""


@register_head(KIND)
class PerturbationHead(nn.Module):
    """Changes of expression by perturbations.

    Parameters
    ----------
    config
        Settings of the model around it.
    width
        Width of the embedding of a cell.
    dropout
        That of the backbone; not used.

    Attributes
    ----------
    output_tokens
        Tokens of the output genes, shape (G,).
    known_tokens
        Tokens of the genes perturbed in training, ascending, shape (K,).
    weights, vectors
        The regression: weights, shape (C, F, G), and the vector of each token, shape (V, E).
    scale
        Root mean square of the training conditions' changes, shape ().
    own
        What a gene that was never perturbed in training is changed by itself: constant, and share of its control.
    controls
        Mean expression of control cells, shape (C, G).
    trust
        What interactions and parts of unknown genes are multiplied by in evaluation mode, shape (2,).
    """

    config_class: ClassVar[type[HeadConfig]] = PerturbationHeadConfig
    labels: ClassVar[tuple[str, ...]] = ("changes", "has_change")

    output_tokens: torch.Tensor
    known_tokens: torch.Tensor
    weights: torch.Tensor
    vectors: torch.Tensor
    scale: torch.Tensor
    own: torch.Tensor
    controls: torch.Tensor
    trust: torch.Tensor

    def __init__(self, config: FineTunedConfig, *, width: int, dropout: float) -> None:
        super().__init__()
        own: Any = config.head
        assert config.vocab_size is not None
        genes, known, covariates = own.num_genes, own.num_known, own.num_covariates
        num_features = NUM_COMMON + known + own.num_vectors
        self.register_buffer("output_tokens", torch.zeros(genes, dtype=torch.int64))
        self.register_buffer("known_tokens", torch.zeros(known, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(covariates, num_features, genes))
        self.register_buffer("vectors", torch.zeros(config.vocab_size, own.num_vectors))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("own", torch.zeros(2))
        self.register_buffer("controls", torch.zeros(covariates, genes))
        self.register_buffer("trust", torch.ones(2))
        hidden = config.backbone_settings().hidden_dim
        self.gene = nn.Linear(hidden, own.width)
        self.offset = nn.Parameter(torch.randn(known, own.interactions))
        self.pairs = nn.Linear(own.width, own.interactions, bias=False)
        self.from_pairs = nn.Linear(own.interactions, own.width, bias=False)
        self.cell = nn.Linear(width, own.width)
        self.covariate = nn.Embedding(covariates, own.width)
        self.dose = nn.Linear(1, own.width) if own.has_dose else None
        self.dose_gain = nn.Parameter(torch.zeros(())) if own.has_dose else None
        self.mix = nn.Sequential(
            nn.LayerNorm(own.width), nn.Linear(own.width, own.width), nn.GELU(), nn.Dropout(own.dropout)
        )
        self.gates = nn.Linear(own.width, 2 * own.width)
        self.new = nn.Sequential(nn.GELU(), nn.Dropout(own.dropout), nn.Linear(own.width, own.width, bias=False))
        self.decoder = nn.Linear(hidden, own.width, bias=False)
        self.basis = nn.Parameter(torch.randn(genes, own.width) * own.width**-0.5)
        for last in (self.from_pairs, self.new[-1], self.gates):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.gates.bias)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Return the changes that perturbations make in each cell, shape (B, P, G).

        The batch has ``perturbed``, tokens filled up with -1, shape (B, P, M), and may have ``covariate``, shape (B,);
        ``dose``, as a standardised logarithm, shape (B, P); ``may_know``, whether what was learned of a gene may be
        used, shape (B, P, M); and ``prior``, what takes the place of the regression, shape (B, P, G). Without
        ``perturbed`` nothing is done to the cells, and P is 1.

        Raises
        ------
        ConfigError
            If the backbone has no table of gene embeddings.
        """
        batch = seen.batch
        cells = len(seen.cells)
        if "perturbed" not in batch:
            return torch.zeros(cells, 1, len(self.output_tokens), device=seen.cells.device)
        perturbed = batch["perturbed"]
        covariate = batch.get("covariate")
        covariate = torch.zeros(cells, dtype=torch.int64, device=perturbed.device) if covariate is None else covariate
        known = self._known(perturbed, batch.get("may_know"))  # (B, P, M, K)
        prior = batch["prior"] if "prior" in batch else self.regression(perturbed, covariate)
        prior = prior + self._own_change(perturbed, known.any(dim=-1), covariate)
        dose = batch.get("dose")
        if self.dose_gain is not None and dose is not None:
            prior = prior * (1 + self.dose_gain * dose[..., None])
        table = gene_table(seen.backbone)
        added = self._network(seen.cells, perturbed, known, covariate, dose, table)
        vectors = self.decoder(table(self.output_tokens)) + self.basis  # (G, D)
        return prior + self.scale * (added @ vectors.T)

    def loss_terms(
        self, scores: torch.Tensor, labels: Mapping[str, torch.Tensor], seen: Seen
    ) -> dict[str, torch.Tensor]:
        """Return ``change``: the mean square error of changes, over that of no change for training conditions."""
        has_change = labels["has_change"]
        errors = ((scores.float() - labels["changes"]) / self.scale).square().mean(dim=-1)  # (B, P)
        return {"change": (errors * has_change).sum() / has_change.sum().clamp(min=1)}

    def regression(self, perturbed: torch.Tensor, covariate: torch.Tensor) -> torch.Tensor:
        """Return what the regression on training conditions gives, shape (B, P, G)."""
        is_there = perturbed >= 0  # (B, P, M)
        number = is_there.sum(dim=-1, keepdim=True).to(self.weights.dtype)
        common = torch.cat([torch.ones_like(number), number, (number > 1).to(number.dtype)], dim=-1)
        own = self._known(perturbed, None).any(dim=2).to(number.dtype)
        vectors = (self.vectors[perturbed.clamp(min=0)] * is_there[..., None]).sum(dim=2)
        features = torch.cat([common, own, vectors], dim=-1)  # (B, P, F)
        if self.weights.shape[0] == 1:
            return features @ self.weights[0]
        return torch.einsum("bpf,bfg->bpg", features, self.weights[covariate])

    def _known(self, perturbed: torch.Tensor, may_know: torch.Tensor | None) -> torch.Tensor:
        found = perturbed[..., None] == self.known_tokens  # (B, P, M, K)
        return found if may_know is None else found & may_know[..., None]

    def _own_change(self, perturbed: torch.Tensor, is_known: torch.Tensor, covariate: torch.Tensor) -> torch.Tensor:
        """Return the change of perturbed genes themselves, where nothing else tells it, shape (B, P, G)."""
        is_new = (perturbed >= 0) & ~is_known
        hits = ((perturbed[..., None] == self.output_tokens) & is_new[..., None]).any(dim=2)  # (B, P, G)
        size = self.own[0] + self.own[1] * self.controls[covariate]  # (B, G)
        return hits * size[:, None]

    def _network(
        self,
        cells: torch.Tensor,
        perturbed: torch.Tensor,
        known: torch.Tensor,
        covariate: torch.Tensor,
        dose: torch.Tensor | None,
        table: nn.Module,
    ) -> torch.Tensor:
        """Return what is decoded, shape (B, P, D)."""
        is_known = known.any(dim=-1, keepdim=True)
        is_new = (perturbed >= 0)[..., None] & ~is_known
        own = table(perturbed.clamp(min=0))  # (B, P, M, H)
        factors = (self.pairs(self.gene(own)) + known.to(self.offset.dtype) @ self.offset) * is_known  # (B, P, M, R)
        products = (factors.sum(dim=2).square() - factors.square().sum(dim=2)) / 2  # sums over pairs
        together = self.from_pairs(products)
        alone = (self.new(self.gene(own)) * is_new).sum(dim=2)
        context = (self.cell(cells) + self.covariate(covariate))[:, None]
        if self.dose is not None and dose is not None:
            context = context + self.dose(dose[..., None])
        first, second = (1 + self.gates(self.mix(context)).tanh()).chunk(2, dim=-1)
        trust = torch.ones_like(self.trust) if self.training else self.trust
        found: torch.Tensor = trust[0] * first * together + trust[1] * second * alone
        return found


def gene_table(backbone: nn.Module) -> nn.Module:
    """Return what gives a backbone's embedding of genes by token, before anything of a cell is added.

    Raises
    ------
    ConfigError
        If it has none.
    """
    embedding = getattr(backbone, "embedding", None)
    found = getattr(embedding, "genes", None) or getattr(embedding, "gene_embedding", None)
    if not isinstance(found, nn.Module):
        msg = (
            f"{type(backbone).__name__} has no table of gene embeddings, of which perturbations are made; fine-tune "
            "another model."
        )
        raise ConfigError(msg)
    return found
