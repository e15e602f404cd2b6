"""Settings of scGPT."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scmodelforge.models.config import TransformerConfig

__all__ = ["GENERATIVE", "ScGPTConfig"]

#: The objective in which values are generated.
GENERATIVE = "generative_value_prediction"


class ScGPTConfig(TransformerConfig):
    """Settings of scGPT; the defaults are those of the published models, but for sizes.

    The terms ``ecs`` and ``cce`` compare the cells of a batch: unlike all others they depend on which cells share a
    forward pass, so on ``training.batch_size``, ``gradient_accumulation`` and devices.
    """

    ffn_dim: int | None = Field(None, gt=0)
    """Width inside the feed-forward layers; ``None`` is ``hidden_dim``."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout on what is made of values and on what the branches of a block add."""
    activation: str = "relu"
    """Activation of the feed-forward layers."""
    layer_norm_eps: float = Field(1e-5, gt=0)
    """Epsilon of the layer norms."""
    norm_placement: Literal["pre", "post", "stream"] = "post"
    """Where blocks normalise: ``post`` after each addition, ``pre`` at the beginning of each branch, ``stream`` before
    each branch, which is added to what was normalised."""
    zero_target_ratio: float = Field(0.0, ge=0)
    """Genes without expression that are asked for, per hidden gene; of ``masked_value_prediction``."""
    mask_value: float = -1.0
    """Value shown where one is hidden."""
    l2_embeddings: bool = False
    """Divide the embedding of a cell by its length, as the published embeddings are. Losses read it undivided."""
    skip_output_projection: bool = False
    """Let the attention of genes whose value is generated leave out its output projection, as the code did that
    trained the published weights; of ``generative_value_prediction``."""
    gepc_weight: float = Field(1.0, ge=0)
    """Weight of values predicted from the vector of the cell alone (``gepc``); 0 leaves the head out."""
    second_pass_weight: float = Field(0.0, ge=0)
    """Weight of a second pass with the cell's vector in the place of ``<cls>`` (``second_pass``); of
    ``generative_value_prediction``."""
    ecs_weight: float = Field(0.0, ge=0)
    """Weight of elastic similarity (``ecs``), which moves cosines of cells away from ``ecs_threshold``."""
    ecs_threshold: float = Field(0.3, ge=0, le=1)
    """Cosine that ``ecs`` moves away from."""
    cce_weight: float = Field(0.0, ge=0)
    """Weight of contrast between cells under two draws of dropout (``cce``): a second pass of the encoder."""
    cce_temperature: float = Field(0.5, gt=0)
    """Divides the cosines of ``cce``."""
    dab_weight: float = Field(0.0, ge=0)
    """Weight of a classifier of batches whose gradient is reversed (``dab``); needs ``data.batch_column``."""
    num_batches: int | None = Field(None, gt=0)
    """Batches that ``dab`` tells apart; filled from ``data.batch_column`` when a run starts."""
    cls_weight: float = Field(0.0, ge=0)
    """Weight of a classifier of cell types (``cls``); needs ``data.label_column``."""
    cls_layers: int = Field(3, gt=0)
    """Linear layers of the classifiers of cell types and of batches."""
    num_cell_types: int | None = Field(None, gt=0)
    """Cell types of ``cls``; filled from ``data.label_column`` when a run starts."""

    @property
    def counted_terms(self) -> dict[str, str]:
        """What each term of the loss beside the objective's own is a mean over."""
        terms = {
            "gepc": (self.gepc_weight, "targets"),
            "second_pass": (self.second_pass_weight, "targets"),
            "ecs": (self.ecs_weight, "cells"),
            "cce": (self.cce_weight, "cells"),
            "dab": (self.dab_weight, "batch_labels"),
            "cls": (self.cls_weight, "cell_types"),
        }
        return {name: counted for name, (weight, counted) in terms.items() if weight}

    @property
    def unread_settings(self) -> dict[str, str]:
        """Settings that the others leave without effect, and why."""
        found = {"ecs_threshold": "ecs_weight", "cce_temperature": "cce_weight"}
        found |= {"num_batches": "dab_weight", "num_cell_types": "cls_weight"}
        unread = {name: f"without model.{weight}" for name, weight in found.items() if not getattr(self, weight)}
        if not self.dab_weight and not self.cls_weight:
            unread["cls_layers"] = "without model.cls_weight or model.dab_weight"
        if self.pretraining_task == GENERATIVE:
            unread |= dict.fromkeys(("zero_target_ratio", "mask_value"), f"with model.pretraining_task '{GENERATIVE}'")
        return unread

    @model_validator(mode="after")
    def _fit_together(self) -> ScGPTConfig:
        problem = None
        is_generative = self.pretraining_task == GENERATIVE
        if not self.use_expression_values:
            problem = "use_expression_values is false, but scgpt predicts values from values; leave it out"
        elif self.second_pass_weight and not is_generative:
            problem = f"second_pass_weight has no effect without pretraining_task '{GENERATIVE}'; set it or remove it"
        elif self.second_pass_weight and self.pooling == "mean":
            problem = "second_pass_weight puts the vector of <cls> back, but pooling is 'mean'; set pooling to 'cls'"
        elif self.skip_output_projection and not is_generative:
            problem = (
                f"skip_output_projection has no effect without pretraining_task '{GENERATIVE}'; set it or remove it"
            )
        elif self.skip_output_projection and self.activation_checkpointing:
            problem = "skip_output_projection and activation_checkpointing do not go together; set one of them to false"
        if problem is not None:
            raise ValueError(problem)
        return self
