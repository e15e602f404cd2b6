"""The whole suite of PerturBench."""

from __future__ import annotations

from typing import ClassVar

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.perturbation.perturbench import perturbench_scores
from scmodelforge.eval.perturbation.suite import suite_records

__all__ = ["PerturbBench"]

_NAME = "perturbbench"


@register_benchmark(_NAME)
class PerturbBench:
    """Errors and similarities of averages and log fold changes, and ranks: see ``eval/perturbation/perturbench.py``."""

    config_class: ClassVar[type[BenchmarkConfig]] = BenchmarkConfig
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})
    columns: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = config

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the predictions."""
        return suite_records(_NAME, inputs, perturbench_scores)
