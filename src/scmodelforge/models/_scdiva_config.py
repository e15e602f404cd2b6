"""Settings of ScDiVa and its stated sizes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import ModelConfig

__all__ = ["ANNOTATION", "PRESETS", "ScDiVaConfig"]

#: Objective that trains the annotation head.
ANNOTATION = "cell_type_annotation"

#: Arguments of the sizes. Only the feed-forward width is ours: it gives the stated number of parameters.
PRESETS: dict[str, dict[str, int]] = {
    "base": {
        "vocab_size": 20_000,
        "hidden_dim": 1024,
        "num_layers": 24,
        "num_heads": 16,
        "latent_dim": 128,
        "ffn_dim": 4096,
    },
    "large": {
        "vocab_size": 30_000,
        "hidden_dim": 2048,
        "num_layers": 32,
        "num_heads": 32,
        "latent_dim": 256,
        "ffn_dim": 6400,
    },
}


class ScDiVaConfig(ModelConfig):
    """Settings of ScDiVa."""

    latent_dim: int = Field(128, gt=0)
    """Width of the latent vector, which is the embedding of a cell."""
    num_cell_types: int | None = Field(None, gt=0)
    """Classes of the annotation head; ``None`` makes none. Filled from the data where cell types are trained on."""
    beta: float = Field(0.01, ge=0)
    """Weight of the divergence of the posterior from N(0, 1)."""
    tokenization: Literal["profile", "patch"] = "profile"
    """One token for the whole profile, or one for each of ``num_patches`` blocks of genes."""
    num_patches: int = Field(16, gt=0)
    """Blocks of genes of ``tokenization: patch``."""
    zero_target_ratio: float = Field(1.0, ge=0)
    """Genes without expression that are asked for, per hidden gene; of ``masked_value_prediction``."""
    kl_warmup_steps: int = Field(0, ge=0)
    """Optimiser steps in which the weight of the divergence rises linearly from 0 to ``beta``."""
    free_bits: float = Field(0.0, ge=0)
    """Divergence that each latent dimension of each cell counts with at least, in nats."""

    def check_vocab_size(self, vocab_size: int) -> None:
        """Refuse more blocks of genes than there are genes.

        Raises
        ------
        ConfigError
            If there are.
        """
        if self.tokenization == "patch" and self.num_patches > vocab_size:
            msg = f"model.num_patches is {self.num_patches}, but the vocabulary has {vocab_size} tokens; lower it."
            raise ConfigError(msg)

    @property
    def unread_settings(self) -> dict[str, str]:
        """Settings that the others leave without effect, and why."""
        unread = {} if self.beta else dict.fromkeys(("kl_warmup_steps", "free_bits"), "with model.beta: 0")
        if self.tokenization == "profile":
            unread["num_patches"] = "without model.tokenization: patch"
        if self.pretraining_task == ANNOTATION:
            unread["zero_target_ratio"] = f"with model.pretraining_task '{ANNOTATION}'"
        return unread

    @property
    def counted_terms(self) -> dict[str, str]:
        """What each loss term that the model adds to the objective's own is a mean over."""
        annotation = {"annotation": "cell_types"} if self.pretraining_task == ANNOTATION else {}
        return {**annotation, "kl": "cells"}
