"""The metadata at the top of a model card, as the Hugging Face hub reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from scmodelforge.config.best_metric import OWN_CELLS
from scmodelforge.eval.base import Record
from scmodelforge.hub.bundle import Bundle, BundleParts

__all__ = ["SCORE_FIELDS", "card_title", "licence_fields", "licence_name", "metadata_block", "score_fields"]

SCORE_FIELDS = ("metrics", "model-index")

#: Identifiers that the hub knows without a name and a link of their own.
_KNOWN_LICENCES = frozenset(
    {
        "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigscience-openrail-m", "bsd", "bsd-2-clause",
        "bsd-3-clause", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
        "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
        "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-3.0", "mit",
        "mpl-2.0", "openrail", "openrail++", "unlicense",
    }
)  # fmt: skip


def card_title(model: Bundle | BundleParts) -> str:
    """Return what a model is called on its card."""
    settings = model.model_config
    published = model.fingerprint.get("imported_from", {}).get("title")
    return published or f"{settings.architecture}, {settings.num_layers} layers, width {settings.hidden_dim}"


def metadata_block(model: Bundle | BundleParts, scores: Mapping[str, Any], licence: str | None) -> str:
    """Return the metadata as YAML: library, tags, licence if one is stated, and scores as of :func:`score_fields`."""
    fields: dict[str, Any] = {
        "library_name": "scmodelforge",
        "tags": ["single-cell", "transcriptomics", model.model_config.architecture, model.objective],
        **licence_fields(licence),
    }
    published, tuned = (model.fingerprint.get(name) or {} for name in ("imported_from", "fine_tuning"))
    base = published.get("repository") or tuned.get("base_repository")
    if base:
        fields["base_model"] = base
    fields |= {name: scores[name] for name in SCORE_FIELDS if name in scores}
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)


def score_fields(model: Bundle | BundleParts, records: Sequence[Record]) -> dict[str, Any]:
    """Return the fields for scores of the model: the names of metrics, and its index with the values."""
    results = _results(model, records)
    if not results:
        return {}
    names = sorted({each["type"] for result in results for each in result["metrics"]})
    return dict(zip(SCORE_FIELDS, (names, [{"name": card_title(model), "results": results}]), strict=True))


def licence_fields(licence: str | None) -> dict[str, str]:
    """Return the fields for a licence: an identifier that the hub knows, or ``other`` with its name."""
    if licence is None:
        return {}
    plain = licence.strip().lower()
    if plain in _KNOWN_LICENCES:
        return {"license": plain}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.+]+", "-", plain).strip("-")}


def licence_name(licence: str | None) -> str | None:
    """Return a licence as its identifier or name in the metadata, ``None`` if none is stated."""
    fields = licence_fields(licence)
    return fields.get("license_name", fields.get("license"))


def _results(model: Bundle | BundleParts, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the scores of the model, a result for each benchmark and data set. Baselines are in the table only."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.representation == "model" and record.value is not None and not record.is_detail:
            found.setdefault((record.benchmark, record.dataset), []).append(record)
    names = ", ".join(each["name"] for each in model.fingerprint.get("data", []))
    return [
        {
            "task": {"type": benchmark.replace("_", "-"), "name": benchmark},
            "dataset": {
                "type": dataset,
                "name": f"held-out cells of {names}" if dataset == OWN_CELLS and names else dataset,
            },
            "metrics": [{"type": each.metric, "value": round(float(each.value or 0), 6)} for each in some],
        }
        for (benchmark, dataset), some in found.items()
    ]
