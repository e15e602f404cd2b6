"""The signs in tables of scores, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CEILING", "CEILING_IN_WORDS", "Marks", "about_marks"]

CEILING = "noise ceiling"
CEILING_IN_WORDS = (
    "two halves of the measured cells scored against each other, each drawn at random and as large as all that was "
    "measured: what a perfect method would get if it were as noisy as the data"
)


@dataclass
class Marks:
    """The signs that a table uses.

    Attributes
    ----------
    best, trained, fewer, low, ceiling
        Whether there are stars, models trained on what is scored, scores of fewer things, errors, noise ceilings.
    out
        Baselines that are no rivals, by the reason.
    groups
        obs columns of the groups that intervals are over.
    """

    best: bool = False
    trained: bool = False
    fewer: bool = False
    low: bool = False
    ceiling: bool = False
    out: dict[str, dict[str, None]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)


def about_marks(marks: Marks) -> list[str]:
    """Return a line for each sign."""
    groups = " or ".join(f"'{name}'" for name in marks.groups)
    out = "; ".join(f"{', '.join(names)}: {why}" for why, names in marks.out.items())
    lines = [
        (
            marks.best,
            "* the best, and all that cannot be told apart from it (the 95 % interval of the difference holds 0)",
        ),
        (marks.low, "↓ lower is better"),
        (
            bool(groups),
            f"±x/y: x if single cells are drawn again, y if whole groups of cells are, all of one {groups}",
        ),
        (marks.ceiling, f"{CEILING}: {CEILING_IN_WORDS}"),
        (marks.fewer, "(n of m): a score of only n of the m things that others are scored on, and never starred"),
        (marks.trained, "‡ of a model that was trained on the cells that are scored, and never starred"),
        (bool(out), f"† no rival of the model, and never starred ({out})"),
    ]
    return [text for is_used, text in lines if is_used]
