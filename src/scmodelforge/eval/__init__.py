"""Benchmarks of embeddings, and the records they give. Baselines stand beside every score of a model."""

from scmodelforge.eval.base import (
    Benchmark,
    BenchmarkInputs,
    Cells,
    Record,
    get_benchmark,
    list_benchmarks,
    register_benchmark,
)

__all__ = [
    "Benchmark",
    "BenchmarkInputs",
    "Cells",
    "Record",
    "get_benchmark",
    "list_benchmarks",
    "register_benchmark",
]
