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

    def head(self) -> BatchIntegrationHeadConfig:
        """Return settings of the head."""
        assert isinstance(self.config, BatchIntegrationConfig)
        return self.config.head

    def notes(self, records: list[Record]) -> list[str]:
        """Return what the scores of the exported model say against it, beside those of other embeddings."""
        return harm_notes(records)
