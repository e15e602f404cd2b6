"""What the run was trained on: files, genes, the cells held out, labels and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scmodelforge.report.text import count, number, percent
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["DataSummary", "data_summary"]


@dataclass(frozen=True)
class DataSummary:
    """What a page says of the data.

    Attributes
    ----------
    facts
        What, value.
    files
        Name, cells, genes, genes known to the vocabulary, size.
    columns
        For the label and the batch column: kind, column, number of categories, rows of category, trained, held out.
    """

    facts: list[tuple[str, str]]
    files: list[list[str]]
    columns: list[dict[str, Any]]


def data_summary(run: RunRecord) -> DataSummary:
    """Return the summary of a run's data."""
    facts, settings = run.facts, run.settings
    vocabulary = facts.get("vocabulary", {})
    rows = [
        ("cells trained on", count(facts.get("num_train"))),
        ("cells held out", count(facts.get("num_validation"))),
        ("held-out rule", _rule(run.split)),
        ("cells left out, without a known gene", count(facts.get("num_empty"))),
        ("cells left out by preprocessing", count(facts.get("num_dropped", 0))),
        ("genes of the vocabulary", f"{count(vocabulary.get('genes'))} ({vocabulary.get('name', 'unknown')})"),
        ("tokenizer", f"{settings.get('tokenizer', {}).get('strategy', '-')}, at most "
                      f"{count(settings.get('tokenizer', {}).get('max_genes'))} tokens a cell"),
    ]  # fmt: skip
    known = {entry["name"]: entry for entry in facts.get("overlap", [])}
    files = [_file(entry, known.get(entry.get("name"), {})) for entry in facts.get("data", [])]
    columns = [{"kind": kind, **each} for kind, each in facts.get("columns", {}).items()]
    return DataSummary([(name, value) for name, value in rows if value != "-"], files, columns)


def _file(entry: dict[str, Any], overlap: dict[str, Any]) -> list[str]:
    genes, found = entry.get("genes"), overlap.get("known")
    share = f"{found:,} ({percent(found / genes)})" if found is not None and genes else "-"
    size = entry.get("bytes")
    megabytes = f"{number(size / 1e6)} MB" if isinstance(size, int) else "-"
    return [str(entry.get("name", "-")), count(entry.get("cells")), count(genes), share, megabytes]


def _rule(split: dict[str, Any]) -> str:
    if not split:
        return "-"
    if not split.get("num_validation"):
        return "no cells held out"
    if split.get("by") == "cells":
        return f"cell by cell, drawn (seed {split.get('seed')})"
    groups = [str(group) for group in split.get("groups", [])]
    shown = ", ".join(groups[:8]) + (f" and {len(groups) - 8:,} more" if len(groups) > 8 else "")
    total = count(split.get("num_groups"))
    return f"whole groups of '{split.get('by')}': {len(groups):,} of {total} ({shown}), seed {split.get('seed')}"
