"""Batch integration: embeddings in which a cell lies with its like, whichever batch it was measured in."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from scmodelforge._errors import ConfigError
from scmodelforge.config.schema import FinetuneConfig, RunConfig
from scmodelforge.eval.base import Record
from scmodelforge.finetuning.base import HeadTask, register_task
from scmodelforge.finetuning.integration_head import BatchIntegrationHeadConfig
from scmodelforge.finetuning.no_harm import harm_notes

__all__ = ["BatchIntegrationTask"]


class BatchIntegrationConfig(FinetuneConfig):
    """Settings of batch integration. The batches are those of ``data.batch_column``."""

    head: BatchIntegrationHeadConfig = Field(default_factory=BatchIntegrationHeadConfig)
    """What shapes the embedding."""


@register_task("batch_integration")
class BatchIntegrationTask(HeadTask):
    """Takes what tells the batches of ``data.batch_column`` out of the embedding, and keeps what tells cells."""

    config_class: ClassVar[type[FinetuneConfig]] = BatchIntegrationConfig
    benchmarks: ClassVar[tuple[str, ...]] = ("batch_integration",)
    needs: ClassVar[dict[str, str]] = {"batch_column": "batches"}

    def check(self, config: RunConfig) -> None:
        """Refuse a run that has no batches, or that would leave the embedding as it is.

        Raises
        ------
        ConfigError
            If it is so.
        """
        if config.data.batch_column is None:
            msg = (
                "data.batch_column is not set, but task 'batch_integration' integrates the batches that it names; set "
                "it to the obs column of the batches."
            )
            raise ConfigError(msg)
        if self.config.adaptation == "frozen":
            msg = (
                "finetune.adaptation 'frozen' trains the head alone, and task 'batch_integration' is there to change "
                "the embedding; use 'full', 'last_n', 'gradual' or 'lora'."
            )
            raise ConfigError(msg)
        if self.head().positives == "labels" and config.data.label_column is None:
            msg = (
                "finetune.head.positives is 'labels', but data.label_column is not set; name the obs column, or take "
                "'mutual_neighbours'."
            )
            raise ConfigError(msg)
        if not self.head().reconstruction_weight:
            _refuse_loss(config)

    def head(self) -> BatchIntegrationHeadConfig:
        """Return settings of the head."""
        assert isinstance(self.config, BatchIntegrationConfig)
        return self.config.head

    def notes(self, records: list[Record]) -> list[str]:
        """Return what the scores of the exported model say against it, beside those of other embeddings."""
        return harm_notes(records)


def _refuse_loss(config: RunConfig) -> None:
    """Refuse to choose by ``val/loss`` where no term counts for it: adversary and contrast say nothing of the model."""
    stopping, split = config.training.early_stopping, config.data.split
    asked = [
        *(["training.early_stopping.metric"] if stopping is not None and stopping.metric == "val/loss" else []),
        *(["output.best_metric"] if config.output.save_top_k and config.output.best_metric == "val/loss" else []),
    ]
    if asked and (split.file is not None or split.validation_groups or split.validation_fraction > 0):
        msg = (
            f"finetune.head.reconstruction_weight is 0, so there is no val/loss for {' and '.join(asked)}: the "
            "other terms do not say how good a model is; raise it, name a score (eval/batch_integration/heldout/"
            "METRIC), or set output.save_top_k to 0 for the last model."
        )
        raise ConfigError(msg)
