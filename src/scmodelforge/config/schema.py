"""Every setting: its name, its default, what it means, and the checks that need no other section.

The sections are pydantic models: mutable, closed to unknown keys, strict about integers and booleans. A part that
needs more settings subclasses the section of its kind in its own file and names it as its ``config_class``; the
reader in :mod:`scmodelforge.config.load` looks it up in the registry. Nothing here imports torch or anndata.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from scmodelforge.config.cell_sections import SamplingConfig, SplitConfig
from scmodelforge.config.device_sections import FsdpConfig
from scmodelforge.config.finetune_sections import FinetuneConfig
from scmodelforge.config.gene_sections import OrthologsConfig
from scmodelforge.config.guard_sections import BatchSize, GuardsConfig, check_batch_size
from scmodelforge.config.output_sections import OutputConfig, WandbConfig
from scmodelforge.config.preprocessing import PreprocessingConfig
from scmodelforge.config.recipe_sections import (
    EarlyStoppingConfig,
    EmaConfig,
    OptimizerConfig,
    ParameterGroupConfig,
    SchedulerConfig,
    UnfreezeConfig,
)
from scmodelforge.config.section import Section

__all__ = [
    "BaselineName",
    "BenchmarkConfig",
    "DataConfig",
    "EarlyStoppingConfig",
    "EmaConfig",
    "EvalConfig",
    "FinetuneConfig",
    "FsdpConfig",
    "GuardsConfig",
    "MaskingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "OrthologsConfig",
    "OutputConfig",
    "ParameterGroupConfig",
    "PreprocessingConfig",
    "RunConfig",
    "SamplingConfig",
    "SchedulerConfig",
    "Section",
    "SplitConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "UnfreezeConfig",
    "WandbConfig",
]


class DataConfig(Section):
    """Where the cells come from and how they are read. Sources add their own settings."""

    source: str = "local"
    """Registered data source."""
    gene_vocab: str | list[str] = "human_protein_coding"
    """``human_protein_coding``, ``from_data`` (all genes of the data), a file (one gene a line, or a ``vocab.json``),
    or a list."""
    gene_vocab_panels: Literal["union", "intersection"] | Annotated[int, Field(gt=0)] = "union"
    """Genes of ``gene_vocab: from_data``: those of any file, of all files, or of at least so many files."""
    orthologs: OrthologsConfig | None = None
    """Reads genes of other species as their human orthologs; ``None`` leaves them as they are."""
    label_column: str | None = None
    """obs column with the cell types, used by evaluation, and by models that learn from them."""
    batch_column: str | None = None
    """obs column with the technical batch, used by evaluation, by models that learn from it, and by
    ``sampling.minibatch`` to group cells."""
    filter: str | None = None
    """Expression over obs columns; cells for which it does not hold are left out of the run, such as
    ``n_genes > 200 and tissue in ['lung', 'heart'] and not is_doublet``."""
    preprocessing: PreprocessingConfig = Field(default_factory=PreprocessingConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    block_size: int = Field(128, gt=0)
    """Neighbouring rows read together."""
    buffer_size: int = Field(24_576, gt=0)
    """Cells held in memory and shuffled together."""
    num_streams: int = Field(8, gt=0)
    """Canonical streams of the global order; the same order results for every number of devices that divides it."""
    num_workers: int = Field(1, ge=0)
    """Threads that read and tokenise ahead; 0 does both in the training thread. The batches are the same."""


class MaskingConfig(Section):
    """How objectives hide genes."""

    mode: Literal["gene", "value", "span"] = "gene"
    """Hide genes with their values and bins, one by one; hide values and bins and leave the genes visible; or hide
    genes as ``gene`` does, in stretches of similar expression."""
    mask_ratio: float = Field(0.15, gt=0, le=1)
    """Probability of each gene to become a target."""
    mask_token_prob: float = Field(0.8, ge=0, le=1)
    """Share of the targets shown as ``<mask>``."""
    random_token_prob: float = Field(0.1, ge=0, le=1)
    """Share of the targets shown as a random other gene; the rest keep their id and lose their value."""
    span_length: float = Field(8.0, ge=1)
    """Mean length of the stretches of ``mode: span``, in genes; lengths are geometric."""

    @model_validator(mode="after")
    def _shares_fit(self) -> MaskingConfig:
        if self.mask_token_prob + self.random_token_prob > 1:
            msg = (
                f"mask_token_prob ({self.mask_token_prob}) and random_token_prob ({self.random_token_prob}) "
                "exceed 1 together; lower one of them"
            )
            raise ValueError(msg)
        return self


class TokenizerConfig(Section):
    """How a cell becomes tokens. Tokenizers add their own settings."""

    strategy: str = "rank_value"
    """Registered tokenizer."""
    max_genes: int = Field(2048, gt=1)
    """Longest sequence, special tokens included."""
    masking: MaskingConfig = Field(default_factory=MaskingConfig)


class ModelConfig(Section):
    """Settings of a model. This class is closed: a model that needs more subclasses it as its ``config_class``."""

    architecture: str = "transformer_encoder"
    """Registered model."""
    vocab_size: int | None = Field(None, gt=0)
    """Number of tokens, special ones included; filled from the vocabulary when a run starts."""
    hidden_dim: int = Field(512, gt=0)
    """Width of the hidden states."""
    num_layers: int = Field(12, gt=0)
    """Number of layers (of the encoder, in an autoencoder)."""
    num_heads: int = Field(8, gt=0)
    """Attention heads (of the encoder, in an autoencoder)."""
    ffn_dim: int | None = Field(None, gt=0)
    """Width inside the feed-forward layers; ``None`` is four times ``hidden_dim``."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on embeddings and residual branches."""
    max_seq_len: int = Field(2048, gt=0)
    """Longest sequence the model takes."""
    pooling: Literal["cls", "mean"] | None = None
    """How a cell embedding is made of hidden states; ``None`` is the architecture's own choice."""
    activation: str = "gelu"
    """Activation of the feed-forward layers."""
    use_expression_values: bool = True
    """Add a projection of the expression value to each gene's embedding."""
    layer_norm_eps: float = Field(1e-12, gt=0)
    """Epsilon of the layer norms."""
    pretraining_task: str | None = None
    """Registered objective; ``None`` is the architecture's default."""
    mask_ratio: float = Field(0.15, gt=0, le=1)
    """A copy of ``tokenizer.masking.mask_ratio``, which is where it is set."""
    n_bins: int = Field(51, gt=1)
    """Expression bins of models that predict bins."""
    gene_loss_weight: float = Field(1.0, ge=0)
    """Weight of the gene loss in models with two heads."""
    expression_loss_weight: float = Field(1.0, ge=0)
    """Weight of the expression loss in models with two heads."""
    decoder_dim: int | None = Field(None, gt=0)
    """Width of an autoencoder's decoder; ``None`` is half of ``hidden_dim``."""
    decoder_layers: int = Field(4, gt=0)
    """Layers of an autoencoder's decoder."""
    decoder_heads: int | None = Field(None, gt=0)
    """Attention heads of an autoencoder's decoder; ``None`` is ``num_heads``."""


class TrainingConfig(Section):
    """The loop."""

    batch_size: BatchSize = 32
    """Cells in a forward pass on one device; ``auto`` finds the largest number that fits into memory."""
    gradient_accumulation: int = Field(1, gt=0)
    """Forward passes for one optimiser step; with ``batch_size: auto`` it follows from ``global_batch_size``."""
    global_batch_size: int | None = Field(None, gt=0)
    """Cells of an optimiser step over all devices, for ``batch_size: auto``; a run keeps the two numbers found."""
    max_epochs: int = Field(10, gt=0)
    """Epochs to train for."""
    steps_per_epoch: int | None = Field(None, gt=0)
    """Optimiser steps that count as an epoch; ``None`` is one pass over the training cells."""
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig)
    gradient_clip: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient; ``None`` does not clip."""
    ema: EmaConfig | None = None
    """Averages the weights over the steps; the averaged ones are validated, evaluated and exported."""
    early_stopping: EarlyStoppingConfig | None = None
    """Ends the run when a metric no longer improves."""
    unfreeze: list[UnfreezeConfig] = Field(default_factory=list)
    """Which parameters are trained from which epoch on; those not yet named are frozen. Empty trains all."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """``auto`` is bf16-mixed where the hardware computes in bf16, else 32-true."""
    compile: bool = False
    """Compile the transformer blocks with ``torch.compile``: the first steps take longer, on GPUs the others less."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = Field(1, gt=0)
    """Processes on a node, one device each. ``num_gpus: n`` is short for ``accelerator: gpu, devices: n``."""
    num_nodes: int = Field(1, gt=0)
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """``ddp`` gives each device the whole model, ``fsdp`` a share of it; ``auto`` is ``ddp`` with several processes."""
    fsdp: FsdpConfig = Field(default_factory=FsdpConfig)
    """Of ``strategy: fsdp`` only."""
    seed: int = Field(0, ge=0)
    """Seed of weights, dropout, order of cells and masks."""
    log_every_n_steps: int = Field(10, gt=0)
    """Steps between two lines of progress and records of metrics."""
    guards: GuardsConfig = Field(default_factory=GuardsConfig)

    @model_validator(mode="after")
    def _sizes_agree(self) -> TrainingConfig:
        check_batch_size(self)
        return self


BaselineName = Literal["pca", "hvg", "random", "untrained"]


class BenchmarkConfig(Section):
    """One benchmark. Benchmarks add their own settings."""

    name: str
    """Registered benchmark."""
    dataset: str | None = None
    """A registered data set or an .h5ad file; ``None`` is the run's own cells, trained and held out."""
    label: str | None = None
    """obs column with the cell types; ``None`` is ``data.label_column``."""
    batch: str | None = None
    """obs column with the batch; ``None`` is ``data.batch_column``."""


def refuse_biollm(backend: Any) -> None:
    """Say that BioLLM is no backend, where it is asked for.

    Raises
    ------
    ValueError
        If it is.
    """
    if isinstance(backend, str) and backend.lower() == "biollm":
        msg = (
            "backend 'biollm' is not there: BioLLM is not on PyPI and its interface could not be checked; use the "
            "benchmarks 'embedding_quality', 'batch_integration' or 'cz_benchmarks', or score what "
            "'scmodelforge embed' writes with BioLLM itself"
        )
        raise ValueError(msg)


class EvalConfig(Section):
    """Benchmarks during and after training."""

    every_n_epochs: int | None = Field(1, gt=0)
    """Epochs between two evaluations; the last epoch is always evaluated. ``None`` is for ``every_n_steps``."""
    every_n_steps: int | None = Field(None, gt=0)
    """Optimiser steps between two evaluations, in place of ``every_n_epochs``; the last step is always evaluated."""
    benchmarks: list[SerializeAsAny[BenchmarkConfig]] = Field(default_factory=list)
    """Benchmarks to run: names, or names with settings."""
    max_cells: int = Field(10_000, gt=1)
    """Most cells of each part, trained and held out, that take part; more are subsampled by label, seeded."""
    baselines: list[BaselineName] = Field(["pca", "hvg", "random", "untrained"], min_length=1)
    """What is scored beside the model on the same cells: principal components and the 2000 most variable genes of the
    log-normalised counts (both chosen on training cells), noise, the model before training."""
    seed: int = Field(0, ge=0)
    """Seed of subsamples, probes and bootstrap intervals."""

    @model_validator(mode="before")
    @classmethod
    def _backend_is_of_benchmarks(cls, values: Any) -> Any:
        if isinstance(values, dict) and "backend" in values:
            refuse_biollm(values["backend"])
            msg = (
                "eval has no setting 'backend', single benchmarks have; write it there, such as "
                "eval.benchmarks: [{name: batch_integration, backend: scib-metrics}]"
            )
            raise ValueError(msg)
        return values

    @model_validator(mode="after")
    def _one_clock(self) -> EvalConfig:
        if self.every_n_steps is not None and "every_n_epochs" not in self.model_fields_set:
            self.__dict__["every_n_epochs"] = None  # the default gives way, without being checked again
        if self.every_n_steps is not None and self.every_n_epochs is not None:
            msg = (
                f"every_n_steps ({self.every_n_steps}) and every_n_epochs ({self.every_n_epochs}) are two clocks for "
                "one thing; keep one of them"
            )
            raise ValueError(msg)
        if self.every_n_steps is None and self.every_n_epochs is None:
            msg = "every_n_epochs is null and every_n_steps is not set; set one of them"
            raise ValueError(msg)
        return self


class RunConfig(Section):
    """A whole run."""

    plugins: list[str] = Field(default_factory=list)
    """Python files or modules imported first; they register parts of their own."""
    data: SerializeAsAny[DataConfig] = Field(default_factory=DataConfig)
    tokenizer: SerializeAsAny[TokenizerConfig] = Field(default_factory=TokenizerConfig)
    model: SerializeAsAny[ModelConfig] = Field(default_factory=ModelConfig)
    finetune: SerializeAsAny[FinetuneConfig] | None = None
    """Adapts a trained model instead of training a new one."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    output: OutputConfig = Field(default_factory=OutputConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, also those of subclassed sections, as plain values."""
        return self.model_dump(mode="json")
