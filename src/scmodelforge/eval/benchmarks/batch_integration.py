"""Are batches mixed within cell types? Never answered without the scores of biology beside it.

An embedding without any structure mixes batches perfectly, so the scores of batches alone say nothing.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.embedding.names import INTEGRATION_DEFAULT, EmbeddingMetric
from scmodelforge.eval.embedding.score import score_embedding
from scmodelforge.eval.embedding.settings import EmbeddingBenchmarkConfig

__all__ = ["BatchIntegration", "BatchIntegrationConfig"]

_NAME = "batch_integration"


class BatchIntegrationConfig(EmbeddingBenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    metrics: list[EmbeddingMetric] = Field(list(INTEGRATION_DEFAULT), min_length=1)
    """What is computed; docs/evaluation/embedding.md explains each. The default is that of scib-metrics' Benchmarker
    (without Leiden), with its averages and ``silhouette_batch`` beside it."""


@register_benchmark(_NAME)
class BatchIntegration:
    """Metrics of the held-out cells that need labels and batches, those of biology among them."""

    config_class: ClassVar[type[BenchmarkConfig]] = BatchIntegrationConfig
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    columns: ClassVar[frozenset[str]] = frozenset({"label", "batch"})

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = BatchIntegrationConfig.model_validate(config.model_dump())

    @property
    def uses_reference(self) -> bool:
        """Whether a metric compares embeddings with the cells before integration."""
        return self.config.uses_reference

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the held-out cells; nothing is fitted on training cells."""
        own = self.config
        return score_embedding(_NAME, inputs, own.metrics, kmeans_starts=own.kmeans_starts, backend=own.backend)
