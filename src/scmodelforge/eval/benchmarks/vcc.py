"""The whole suite of cell-eval, and the score of the Virtual Cell Challenge."""

from __future__ import annotations

from typing import ClassVar

from scmodelforge.config.schema import BenchmarkConfig
from scmodelforge.eval.base import BenchmarkInputs, Record, register_benchmark
from scmodelforge.eval.perturbation.challenge import challenge_suite
from scmodelforge.eval.perturbation.suite import predictions_of, suite_records

__all__ = ["VirtualCellChallenge"]

_NAME = "vcc"


@register_benchmark(_NAME)
class VirtualCellChallenge:
    """DE genes, discrimination, errors and the score: see ``vcc.py`` and ``challenge.py`` of ``eval/perturbation``."""

    config_class: ClassVar[type[BenchmarkConfig]] = BenchmarkConfig
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})
    columns: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = config

    def run(self, inputs: BenchmarkInputs) -> list[Record]:
        """Score the predictions."""
        return suite_records(_NAME, inputs, challenge_suite(predictions_of(inputs, _NAME).training))
