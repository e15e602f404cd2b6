"""The nearest genes that a record has, as people read them."""

from __future__ import annotations

from collections.abc import Mapping

from scmodelforge.eval.base import Record

__all__ = ["nearest_tables"]

_COLUMNS = ("gene", "rank", "neighbour", "cosine")


def nearest_tables(record: Record) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, headings and rows of the nearest genes of a record, a row for each gene asked for; or nothing."""
    table = record.tables.get("nearest")
    if not isinstance(table, Mapping) or not set(_COLUMNS) <= set(table):
        return []
    rows: dict[str, list[str]] = {}
    for gene, neighbour, cosine in zip(table["gene"], table["neighbour"], table["cosine"], strict=True):
        rows.setdefault(gene, []).append(f"{neighbour} {cosine:.2f}")
    title = f"nearest genes of {record.representation}, by the cosine of {record.params.get('vectors', 'gene')} vectors"
    listed = [[gene, ", ".join(near)] for gene, near in rows.items()]
    return [(f"{title} ({record.dataset})", ["gene", "the nearest, each with its cosine"], listed)]
