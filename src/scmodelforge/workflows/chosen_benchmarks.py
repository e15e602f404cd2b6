"""Which benchmarks an evaluation runs, with which settings: those of a run, on its own cells or on other data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from scmodelforge._errors import ConfigError
from scmodelforge._registry import BENCHMARKS
from scmodelforge.config.schema import BenchmarkConfig, RunConfig
from scmodelforge.eval.benchmarks.label_transfer import LabelTransferConfig

__all__ = ["check_columns_of", "choose_benchmarks"]

_DEFAULT_BENCHMARKS = ("cell_type_annotation", "embedding_quality")


def choose_benchmarks(
    config: RunConfig, names: Sequence[str] | None, *, label: str | None, batch: str | None, data: Path | None
) -> list[str]:
    """Put what is to be run in the place of the benchmarks of a run's settings.

    A benchmark keeps all its settings on whatever cells it is run. Of one that is of another data set only, the name of
    that data set and its columns are left out where it is run on these cells.

    Parameters
    ----------
    config
        Settings of the run, which are changed.
    names
        Registered names; ``None`` for those of the settings, else annotation and embedding quality.
    label, batch
        obs columns to use in place of those that benchmarks of these cells name.
    data
        Other data than the run's own cells, if these are scored.

    Returns
    -------
    What to say of it.

    Raises
    ------
    ConfigError
        If a benchmark is not known, or is asked for on other data and has data sets of its own; or a column is given
        and no benchmark takes it.
    """
    own, notes = config.eval.benchmarks, []
    if names:
        chosen = [each for name in names for each in _of_name(name, own)]
    elif data is not None:
        there = dict.fromkeys(each.name for each in own if not isinstance(each, LabelTransferConfig))
        chosen = [each for name in there for each in _of_name(name, own)]
        notes = [
            f"{each.name} is left out: it is of two data sets of its own; run it without --data"
            for each in own
            if isinstance(each, LabelTransferConfig)
        ]
    else:
        chosen = own
    if data is not None and any(isinstance(each, LabelTransferConfig) for each in chosen):
        msg = f"benchmark 'label_transfer' is of two data sets of its own, not of {data}; run it without --data."
        raise ConfigError(msg)
    chosen = chosen or [each for name in _DEFAULT_BENCHMARKS for each in _of_name(name, [])]
    given = {key: column for key, column in (("label", label), ("batch", batch)) if column is not None}
    takes = [each.dataset is None and not isinstance(each, LabelTransferConfig) for each in chosen]
    if given and not any(takes):
        options = " and ".join(f"--{option}" for option in given)
        own_names = ", ".join(dict.fromkeys(each.name for each in chosen))
        msg = (
            f"{options} would change nothing: what is run ({own_names}) names data sets and columns of its own; leave "
            "it out, or name a benchmark of the run's cells with --eval."
        )
        raise ConfigError(msg)
    config.eval.benchmarks = [
        each.model_copy(update=given) if is_taken else each for each, is_taken in zip(chosen, takes, strict=True)
    ]
    return list(dict.fromkeys(notes))


def check_columns_of(benchmarks: Iterable[BenchmarkConfig], data: Path, columns: Sequence[str]) -> None:
    """Make sure that a file has the obs columns that benchmarks name.

    Raises
    ------
    ConfigError
        If it lacks one; the message has the option that names another.
    """
    for each in benchmarks:
        for option, column in (("label", each.label), ("batch", each.batch)):
            if column is not None and column not in columns:
                msg = (
                    f"{data} has no obs column '{column}'; name its column with --{option}. "
                    f"There are: {', '.join(columns)}."
                )
                raise ConfigError(msg)


def _of_name(name: str, own: Sequence[BenchmarkConfig]) -> list[BenchmarkConfig]:
    """Return the benchmarks of a name with a run's settings, to be run on cells that they do not name themselves."""
    found = [each for each in own if each.name == name]
    here = [each for each in found if each.dataset is None or isinstance(each, LabelTransferConfig)]
    if here or not found:
        return here or [getattr(BENCHMARKS.get(name), "config_class", BenchmarkConfig)(name=name)]
    return [found[0].model_copy(update={"dataset": None, "label": None, "batch": None})]
