"""Settings of ``data.sampling`` and ``data.split`` that are right by themselves and wrong together."""

from __future__ import annotations

from typing import Any

from scmodelforge.config.faults import Faults, shown
from scmodelforge.config.schema import DataConfig, Section, SplitConfig

__all__ = ["check_sampling", "check_split_file"]


def check_sampling(data: DataConfig, faults: Faults) -> None:
    """Add a line for each setting of ``data.sampling`` that another one needs or makes meaningless."""
    sampling, path = data.sampling, "data.sampling"
    if sampling.mode == "uniform":
        for name in _changed(sampling, "by", "temperature", "weights"):
            add = f"{path}.{name} has no effect with mode 'uniform'; set {path}.mode to 'weighted', or leave it out."
            faults.add(f"{path}.{name}", add)
    elif sampling.by is None:
        faults.add(f"{path}.by", f"{path}.mode '{sampling.mode}' needs groups of cells; set {path}.by.")
    if sampling.mode == "balanced":
        for name in _changed(sampling, "temperature", "weights"):
            add = f"{path}.{name} has no effect with mode 'balanced'; set {path}.mode to 'weighted', or leave it out."
            faults.add(f"{path}.{name}", add)
    if sampling.mode == "weighted" and sampling.weights is not None and _changed(sampling, "temperature"):
        faults.add(
            f"{path}.weights",
            f"{path}.weights and {path}.temperature both say what the shares of the groups are; keep one of them.",
        )
    _check_minibatch(data, faults)


def check_split_file(split: SplitConfig, faults: Faults) -> None:
    """Add a line for each setting of ``data.split`` that stands beside a file, which says it already."""
    for name in _changed(split, "by", "validation_fraction", "validation_groups", "seed"):
        faults.add(
            f"data.split.{name}",
            f"data.split.{name} ({shown(getattr(split, name))}) and data.split.file both say which cells are held "
            "out; keep one of them.",
        )


def _check_minibatch(data: DataConfig, faults: Faults) -> None:
    sampling, path = data.sampling, "data.sampling"
    kind = sampling.minibatch
    if kind != "several" and _changed(sampling, "minibatch_groups"):
        text = f"{path}.minibatch_groups has no effect with minibatch '{kind}'; set {path}.minibatch to 'several'."
        faults.add(f"{path}.minibatch_groups", text)
    if kind == "mixed":
        if sampling.minibatch_by is not None:
            text = f"{path}.minibatch_by has no effect with minibatch 'mixed'; set {path}.minibatch, or leave it out."
            faults.add(f"{path}.minibatch_by", text)
        return
    by = sampling.minibatch_by or data.batch_column
    if by is None:
        faults.add(
            f"{path}.minibatch_by",
            f"{path}.minibatch '{kind}' needs groups of cells; set {path}.minibatch_by or data.batch_column.",
        )
    elif kind == "one" and sampling.mode != "uniform" and sampling.by not in (None, by):
        faults.add(
            f"{path}.minibatch",
            f"{path}.minibatch is 'one' by '{by}', but cells are drawn by '{sampling.by}', so passes would differ in "
            f"length; group both by the same column, or set {path}.minibatch to 'several'.",
        )


def _changed(section: Section, *names: str) -> list[str]:
    """Return which settings are not at their default: a file that was written by us has all of them."""
    fields: Any = type(section).model_fields
    return [name for name in names if getattr(section, name) != fields[name].get_default(call_default_factory=True)]
