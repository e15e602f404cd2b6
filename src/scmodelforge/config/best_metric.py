"""The metric that says which checkpoint is best: there must be one of that name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from scmodelforge._errors import nearest
from scmodelforge.config.faults import Faults
from scmodelforge.config.recipe_checks import check_validated
from scmodelforge.config.schema import BenchmarkConfig, DataConfig, EvalConfig, ModelConfig, OutputConfig, Section

__all__ = ["OWN_CELLS", "check_best_metric", "evaluated_sets"]

#: What results call the cells of the run itself.
OWN_CELLS = "heldout"
_PATH = "output.best_metric"
_FORM = "eval/BENCHMARK/DATASET/METRIC"


def check_best_metric(sections: Mapping[str, Section], faults: Faults) -> None:
    """Add a line if ``output.best_metric`` names what the run will not measure.

    Whether a benchmark gives the metric is known when it has been tried, which a run does before its first step.

    Parameters
    ----------
    sections
        Those without a mistake of their own.
    faults
        Gets the line.
    """
    output = cast("OutputConfig | None", sections.get("output"))
    if output is None or output.best_metric == "val/loss":
        return
    metric = output.best_metric
    if output.save_top_k == 0:
        faults.add(
            _PATH,
            f"{_PATH} is '{metric}', but output.save_top_k is 0, so that no checkpoint is kept for being the best; "
            "raise the latter or leave out the former.",
        )
    data = cast("DataConfig | None", sections.get("data"))
    if metric.startswith("val/"):
        if data is not None:
            model = cast("ModelConfig | None", sections.get("model"))
            check_validated(_PATH, metric, data, model, faults, instead=f"leave {_PATH} out")
        return
    evaluation = cast("EvalConfig | None", sections.get("eval"))
    if evaluation is not None:
        _check_evaluated(metric, evaluation, faults)


def evaluated_sets(evaluation: EvalConfig) -> list[str]:
    """Return what the keys of a run's scores begin with: ``eval/BENCHMARK/DATASET``."""
    return [f"eval/{each.name}/{_cells_of(each)}" for each in evaluation.benchmarks]


def _cells_of(benchmark: BenchmarkConfig) -> str:
    """Return what results call the cells: the run's own, a data set, or one to which another gives its labels."""
    if benchmark.dataset is None:
        return OWN_CELLS
    reference = getattr(benchmark, "reference", None)
    names = [benchmark.dataset] if reference is None else [reference, benchmark.dataset]
    return "_to_".join(Path(name).stem for name in names)


def _check_evaluated(metric: str, evaluation: EvalConfig, faults: Faults) -> None:
    there = evaluated_sets(evaluation)
    if not there:
        faults.add(
            _PATH,
            f"{_PATH} is '{metric}', which is neither of the validation (val/loss) nor of a benchmark, since "
            "eval.benchmarks is empty; choose another metric or add the benchmark.",
        )
        return
    begin = "/".join(metric.split("/")[:3])
    if begin not in there or len(metric.split("/")) != 4:
        faults.add(
            _PATH,
            f"{_PATH} is '{metric}'; it must be val/loss or {_FORM}.{nearest(begin, there)} This run's scores begin "
            f"with: {', '.join(dict.fromkeys(there))}.",
        )
