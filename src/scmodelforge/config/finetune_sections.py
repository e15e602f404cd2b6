"""Settings of fine-tuning: which model is adapted, to what, and how much of it is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from scmodelforge.config.section import Section

__all__ = ["AdapterConfig", "FinetuneConfig", "LoraConfig"]


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2022, arXiv:2106.09685; DoRA: Liu et al. 2024, arXiv:2402.09353)."""

    rank: int = Field(8, gt=0)
    """Rank of the matrices."""
    alpha: float = Field(16.0, gt=0)
    """What an adapter gives is multiplied by ``alpha / rank``."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before an adapter."""
    targets: list[str] | None = Field(None, min_length=1)
    """Ends of the names of the linear layers that get one; ``None`` is the queries and values of the attention."""


class AdapterConfig(LoraConfig):
    """Low-rank adapters that a model has in it."""

    kind: Literal["lora", "dora"] = "lora"
    """``dora`` trains the length of each column of weights apart from its direction."""


class FinetuneConfig(Section):
    """What is fine-tuned. Tasks add their own settings.

    The base model brings its tokens, its vocabulary, its preprocessing and its architecture: settings of these may be
    left out, and are refused if they are others.
    """

    base_model: str
    """Address of the model: a folder, ``hf://owner/name``, ``scmodelforge://name``."""
    base_model_id: str | None = None
    """Identity of the model; filled in when a run starts, and another model is refused then."""
    dictionaries: str | None = None
    """Folder with the dictionaries of a published model; ``None`` takes those that were fetched."""
    trust_plugins: bool = False
    """Import the Python files that the model's folder names."""
    task: str = "cell_type_annotation"
    """Registered task."""
    adaptation: Literal["full", "frozen", "last_n", "gradual", "lora", "dora"] = "full"
    """What is trained beside the head: all, nothing, the last ``last_layers`` blocks, one block more from the top after
    each ``epochs_per_layer`` epochs, or low-rank adapters."""
    last_layers: int | None = Field(None, gt=0)
    """Blocks that ``last_n`` trains; ``None`` is 2."""
    epochs_per_layer: int | None = Field(None, gt=0)
    """Epochs after which ``gradual`` trains one block more; ``None`` is 1."""
    lora: LoraConfig | None = None
    """Adapters of ``lora`` and ``dora``; ``None`` is their defaults."""

    @model_validator(mode="after")
    def _settings_belong_to_the_adaptation(self) -> FinetuneConfig:
        for name, owners in (
            ("last_layers", ("last_n",)),
            ("epochs_per_layer", ("gradual",)),
            ("lora", ("lora", "dora")),
        ):
            if getattr(self, name) is not None and self.adaptation not in owners:
                wanted = " or ".join(f"'{owner}'" for owner in owners)
                msg = f"{name} is read with adaptation {wanted} only, and adaptation is '{self.adaptation}'; remove it"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _what_the_run_fills_in_is_not_given(self) -> FinetuneConfig:
        head: Any = getattr(self, "head", None)  # a setting of tasks that have one
        for name, source in getattr(head, "filled", {}).items():
            if getattr(head, name) != type(head).model_fields[name].get_default(call_default_factory=True):
                msg = f"head.{name} is filled in when a run starts, from {source}; remove it"
                raise ValueError(msg)
        return self
