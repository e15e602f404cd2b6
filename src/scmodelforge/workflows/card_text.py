"""Cards as texts: what is read of one, and whether someone edited it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import yaml

from scmodelforge.workflows.card_metadata import SCORE_FIELDS, licence_fields

__all__ = ["CardScores", "body_of", "is_edited", "kept_scores", "marked", "stated_licence", "with_licence"]

_MARK = "<!-- made by scmodelforge of the facts in this folder; sha256 {} -->\n"
_MARKED = re.compile(r"(?P<text>.*)<!-- made by scmodelforge .*; sha256 (?P<digest>[0-9a-f]{16}) -->\n*", re.DOTALL)
_BLOCK = re.compile(r"---\n(?P<yaml>.*?)\n?---\n", re.DOTALL)
_SCORES = re.compile(r"^## Evaluation\n\n(?P<text>.*?)\n\n## ", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class CardScores:
    """What a card says of the scores of a model.

    Attributes
    ----------
    text
        The section on its evaluation.
    fields
        The fields of its metadata.
    """

    text: str
    fields: dict[str, Any]


def marked(text: str) -> str:
    """Return a card with its checksum as the last line, which viewers do not show."""
    return f"{text}\n{_MARK.format(_digest(text))}"


def is_edited(card: str) -> bool:
    """Tell whether a card is not as it was made."""
    found = _MARKED.fullmatch(card)
    return found is None or _digest(found["text"].removesuffix("\n")) != found["digest"]


def kept_scores(card: str) -> CardScores | None:
    """Return what a card says of scores, ``None`` if nothing."""
    found = _SCORES.search(card)
    if found is None or not (fields := _metadata(card)).get(SCORE_FIELDS[1]):
        return None
    return CardScores(found["text"], {name: fields[name] for name in SCORE_FIELDS if name in fields})


def body_of(card: str) -> str:
    """Return a card without its metadata and checksum."""
    marked_text = _MARKED.fullmatch(card)
    text = marked_text["text"] if marked_text else card
    return _BLOCK.sub("", text, count=1).strip() + "\n"


def stated_licence(card: str) -> str | None:
    """Return the licence in the metadata of a card, ``None`` if there is none."""
    fields = _metadata(card)
    found = fields.get("license_name") or fields.get("license")
    return None if found is None else str(found)


def with_licence(card: str, licence: str) -> str:
    """Return a card with another licence in its metadata and all else as it is."""
    fields = {name: value for name, value in _metadata(card).items() if name not in ("license", "license_name")}
    block = yaml.safe_dump(licence_fields(licence) | fields, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{block}---\n" + (_BLOCK.sub("", card, count=1) if _BLOCK.match(card) else f"\n{card}")


def _metadata(card: str) -> dict[str, Any]:
    """Return the metadata block of a card; nothing if there is none, or it cannot be read."""
    found = _BLOCK.match(card)
    try:
        fields = yaml.safe_load(found["yaml"]) if found else None
    except yaml.YAMLError:
        fields = None
    return fields if isinstance(fields, dict) else {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
