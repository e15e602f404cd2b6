"""How well are perturbations predicted? The headline metrics, beside every baseline."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.perturbation.headline import headline_scores
from scmodelforge.eval.perturbation.suite import suite_records

__all__ = ["PerturbationPrediction", "PerturbationPredictionConfig"]

_NAME = "perturbation_prediction"


class PerturbationPredictionConfig(BenchmarkConfig):
    """Settings of the benchmark."""

    name: str = _NAME
    num_de_genes: int = Field(20, gt=1)
    """DE genes of each perturbation, chosen on real cells, that some metrics are taken over."""


@register_benchmark(_NAME)
class PerturbationPrediction:
    """Changes, errors, DE genes, ranks and distances of held-out perturbations: see ``headline.py``."""

    config_class: ClassVar[type[BenchmarkConfig]] = PerturbationPredictionConfig
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})
    columns: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = PerturbationPredictionConfig.model_validate(config.model_dump())

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the predictions."""
        num_genes = self.config.num_de_genes
        return suite_records(
            _NAME, inputs, lambda each: headline_scores(each, num_de_genes=num_genes), settings=str(num_genes)
        )
