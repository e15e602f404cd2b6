"""Names as pictures can have them."""

from __future__ import annotations

__all__ = ["shown"]


def shown(name: str, longest: int = 32) -> str:
    """Return a name as pictures can have it: not too long, and no signs that matplotlib takes for formulas."""
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    plain = plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
    return plain.replace("$", r"\$")
