"""scVI: a variational autoencoder of counts, trained in the loop of this package.

Predicts the counts of a cell's genes from those counts, through a latent vector of few numbers: Lopez et al. 2018,
doi:10.1038/s41592-018-0229-2. The network and the terms of its loss are those of scvi-tools (Gayoso et al. 2022,
doi:10.1038/s41587-021-01206-w), which is used as a library: ``module`` is its ``scvi.module.VAE``, with the names of
its weights. In training the loss of a batch is what scvi-tools computes of it.

Where we differ from ``scvi.model.SCVI``:

- In evaluation the latent vector is the mean of q(z|x) and is not drawn, so that a held-out loss is one number. It is
  lower than the bound that scvi-tools estimates with a draw.
- The divergence rises to its full weight over ``kl_warmup_steps`` optimiser steps, by default none; in evaluation it
  always has its full weight.
- A batch of one cell, on which batch norm has no statistics, is normalised by the running ones, in training too.
- A cell without a batch, or of one that no training cell has, adds nothing to the loss; what it would express is a mean
  over all batches.
- The parts that scvi-tools makes and these settings do not use (the encoder of library sizes) are not trained.
- Everything is computed in single precision, whatever ``training.precision``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from torch.distributions import Normal

from scmodelforge.config.own import own_settings
from scmodelforge.config.schema import ModelConfig
from scmodelforge.constants import IGNORE_INDEX
from scmodelforge.models._scvi_parts import (
    UNUSED_SETTINGS,
    SCVIConfig,
    few_cells,
    known_batches,
    make_vae,
)
from scmodelforge.models._utils import count_parameters, required_vocab_size, warmup_share
from scmodelforge.models.components.embeddings import blank_padding, check_length, check_token_ids
from scmodelforge.models.components.special_tokens import DEFAULT_SPECIAL_IDS, SpecialIds
from scmodelforge.models.protocol import ModelOutput
from scmodelforge.models.registry import register_model

__all__ = ["SCVI", "SCVIConfig"]


@register_model("scvi")
class SCVI(nn.Module):
    """scVI: counts through a latent vector and back, by scvi-tools.

    Parameters
    ----------
    config
        Settings with ``vocab_size`` set, and ``num_batches`` where batches are used. The tokens that are not special
        ones are the genes, in ascending order.

    Attributes
    ----------
    module
        The ``scvi.module.VAE``. Weights of a trained ``scvi.model.SCVI`` with the same settings can be loaded into it.

    Raises
    ------
    ConfigError
        If one of these is not set, or values are not to be read.
    ImportError
        If scvi-tools is not installed.
    """

    config_class: ClassVar[type[ModelConfig]] = SCVIConfig
    default_objective: ClassVar[str] = "reconstruction"
    allowed_objectives: ClassVar[tuple[str, ...]] = ("reconstruction",)
    logits_of: ClassVar[str] = "genes"
    takes_counts: ClassVar[bool] = True
    fixed_vocabulary: ClassVar[str] = (
        "scvi has an input and an output for each gene, and none for new ones; train a model of the new vocabulary."
    )
    unused_settings: ClassVar[frozenset[str]] = UNUSED_SETTINGS

    _columns: torch.Tensor

    def __init__(self, config: SCVIConfig) -> None:
        super().__init__()
        self.vocab_size, self.max_seq_len = required_vocab_size(config), config.max_seq_len
        self.num_batches = known_batches(config)
        self.kl_weight, self.kl_warmup_steps = config.kl_weight, config.kl_warmup_steps
        self._step: int | None = None
        self._config = config.model_copy()
        self.special_ids = DEFAULT_SPECIAL_IDS

    @property
    def special_ids(self) -> SpecialIds:
        """Which tokens are no genes. Where there are more or fewer of them the model gets fresh weights."""
        return self._special_ids

    @special_ids.setter
    def special_ids(self, ids: SpecialIds) -> None:
        self._special_ids, num_genes = ids, self.vocab_size - len(ids.every)
        is_gene = torch.ones(self.vocab_size, dtype=torch.bool)
        is_gene[list(ids.every)] = False
        # Special tokens share a column behind those of the genes, which is cut off.
        columns = torch.where(is_gene, is_gene.long().cumsum(0) - 1, num_genes)
        self.register_buffer("_columns", columns, persistent=False)
        if getattr(self, "num_genes", None) != num_genes:
            self.num_genes = num_genes
            self.module = make_vae(num_genes, self.num_batches, self._config)

    @property
    def embedding_dim(self) -> int:
        """Width of embeddings."""
        return self._config.latent_dim

    @classmethod
    def from_config(cls, config: ModelConfig) -> SCVI:
        """Make a model from settings.

        Parameters
        ----------
        config
            Settings with ``vocab_size`` set; plain ones are completed with the defaults of :class:`SCVIConfig`.

        Raises
        ------
        ConfigError
            As for the class.
        """
        return cls(own_settings("model", "scvi", config, SCVIConfig))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        batch_labels: torch.Tensor | None = None,
        *,
        return_logits: bool = True,
        **kwargs: Any,
    ) -> ModelOutput:
        """Reconstruct cells, with the negative evidence lower bound as loss when labels are given.

        Parameters
        ----------
        input_ids
            Token ids, shape (B, S).
        attention_mask
            1 for real tokens and 0 for padding, shape (B, S), of any type. What stands at padding has no effect.
        values
            Counts, shape (B, S). ``None`` stands for zeros.
        labels
            -100 where nothing is asked for, shape (B, S). A cell with any other label is to be reconstructed, all of
            it.
        batch_labels
            Batch of each cell, shape (B,), -100 where it has none; read where the model knows batches.
        return_logits
            Without it ``logits`` is ``None``.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        ``logits``, the share of each gene in what a cell expresses, shape (B, V), 0 at special tokens; ``embeddings``,
        the mean of q(z|x), shape (B, L); and with labels in ``loss_terms`` the means over cells of ``reconstruction``
        and ``kl``, in nats.

        Raises
        ------
        ConfigError
            If the sequences are longer than ``max_seq_len``.
        DataError
            If a token or a label is not in the vocabulary; checked on the CPU only.
        """
        if labels is not None:
            check_token_ids(labels.masked_fill(labels == IGNORE_INDEX, 0), self.vocab_size)
        counts = self._counts(input_ids, attention_mask, values)  # (B, G)
        with torch.autocast(counts.device.type, enabled=False):
            inferred = self._inferred(counts)
            batches = self._batches(batch_labels, counts)
            known = torch.nonzero(batches != IGNORE_INDEX).flatten()
            embeddings = inferred["qz"].loc  # (B, L)
            if labels is None and not return_logits:
                return ModelOutput(embeddings=embeddings)
            decoded = self._decoded({name: inferred[name][known] for name in ("z", "library")}, batches[known])
            logits = self._shares(decoded["px"].scale, known, inferred) if return_logits else None  # (B, V)
            if labels is None:
                return ModelOutput(logits=logits, embeddings=embeddings)
            is_asked = (labels[known] != IGNORE_INDEX).any(dim=1)
            qz = Normal(inferred["qz"].loc[known], inferred["qz"].scale[known])
            terms = self._terms(counts[known], qz, decoded, is_asked)
        return ModelOutput(
            loss=terms["reconstruction"] + terms["kl"], logits=logits, embeddings=embeddings, loss_terms=terms
        )

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Embed cells: the mean of q(z|x), which does not depend on batches.

        Parameters
        ----------
        input_ids, attention_mask, values
            As for :meth:`forward`.
        **kwargs
            Other keys of the batch, not used.

        Returns
        -------
        Cell embeddings, shape (B, L).
        """
        counts = self._counts(input_ids, attention_mask, values)
        with torch.autocast(counts.device.type, enabled=False):
            embeddings: torch.Tensor = self._inferred(counts)["qz"].loc
        return embeddings

    def num_parameters(self, trainable_only: bool = True) -> int:
        """Count the parameters, all of them or those that are trained."""
        return count_parameters(self, trainable_only=trainable_only)

    def set_step(self, step: int) -> None:
        """Take note of how many optimiser steps are done."""
        self._step = step

    def _counts(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, values: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the counts of all genes, shape (B, G), float32."""
        check_length(input_ids.shape[1], self.max_seq_len)
        ids, values = blank_padding(input_ids, values, attention_mask, pad_id=self.special_ids.pad)
        check_token_ids(ids, self.vocab_size)
        dense = torch.zeros(len(ids), self.num_genes + 1, device=ids.device)
        if values is not None:
            dense.scatter_add_(1, self._columns[ids], values.float())
        return dense[:, : self.num_genes]

    def _inferred(self, counts: torch.Tensor) -> dict[str, Any]:
        """Return ``qz``, ``z`` and ``library`` of cells; ``z`` is drawn in training only."""
        batches = torch.zeros(len(counts), 1, dtype=torch.int64, device=counts.device)  # not read
        devices = [counts.device] if counts.device.type == "cuda" else []
        # scvi-tools always draws; what is drawn in training must not depend on evaluations in between.
        with torch.random.fork_rng(devices, enabled=not self.training), few_cells(self.module, len(counts)):
            found: dict[str, Any] = self.module.inference(x=counts, batch_index=batches)
        z = found["z"] if self.training else found["qz"].loc
        # A cell without counts has the total 0, whose logarithm is no number to go on with; all others have 1 or more.
        return {"qz": found["qz"], "z": z, "library": found["library"].clamp(min=0)}

    def _batches(self, batch_labels: torch.Tensor | None, counts: torch.Tensor) -> torch.Tensor:
        """Return the batch of each cell, shape (B,): 0 for all where the model knows none."""
        if self.num_batches == 1:
            return torch.zeros(len(counts), dtype=torch.int64, device=counts.device)
        if batch_labels is None:
            return torch.full((len(counts),), IGNORE_INDEX, device=counts.device)
        return batch_labels

    def _decoded(self, latent: dict[str, torch.Tensor], batches: torch.Tensor) -> dict[str, Any]:
        """Return what scvi-tools makes of latent vectors of cells of some batches, shape (n,)."""
        with few_cells(self.module, len(batches)):
            decoded: dict[str, Any] = self.module.generative(**latent, batch_index=batches[:, None])
        return decoded

    def _shares(self, known: torch.Tensor, rows: torch.Tensor, inferred: dict[str, Any]) -> torch.Tensor:
        """Return the share of each token's gene, shape (B, V), given those of the cells in some rows, shape (n, G).

        For the other cells it is the mean over all batches.
        """
        z, library = inferred["z"], inferred["library"]
        shares = torch.zeros(len(z), self.num_genes + 1, device=z.device)
        shares[rows, : self.num_genes] = known
        is_other = torch.ones(len(z), dtype=torch.bool, device=z.device)
        is_other[rows] = False
        if is_other.any():
            latent = {"z": z[is_other], "library": library[is_other]}
            every = torch.arange(self.num_batches, device=z.device)[:, None].expand(-1, int(is_other.sum()))
            scales = [self._decoded(latent, batches)["px"].scale for batches in every]
            shares[is_other, : self.num_genes] = torch.stack(scales).mean(dim=0)
        return shares[:, self._columns]

    def _terms(
        self, counts: torch.Tensor, qz: Any, decoded: dict[str, Any], is_asked: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the terms of the loss over cells of known batches, of which those asked for add something."""
        found = self.module.loss({"X": counts}, {"qz": qz}, decoded)
        number = max(1, len(counts))
        reconstruction = found.reconstruction_loss["reconstruction_loss"][is_asked].sum() / number
        divergence = found.kl_local["kl_divergence_z"][is_asked].sum() / number
        return {"reconstruction": reconstruction, "kl": self._kl_weight() * divergence}

    def _kl_weight(self) -> float:
        share = warmup_share(self._step, self.kl_warmup_steps) if self.training else 1.0
        return self.kl_weight * share
