"""Names as pictures can have them."""

from __future__ import annotations

__all__ = ["shortened", "shown"]


def shown(name: str, longest: int = 32) -> str:
    """Return a name as pictures can have it: not too long, and no signs that matplotlib takes for formulas."""
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    return shortened(plain, longest).replace("$", r"\$")


def shortened(text: str, longest: int) -> str:
    """Return a text of at most so many letters, the middle left out: what tells names apart is often at their end."""
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[len(text) - end :]}"
