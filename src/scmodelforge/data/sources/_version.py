"""What tells a remote file from an older or newer one under the same address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Version"]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a remote file.

    Attributes
    ----------
    size
        Bytes of the file.
    etag
        The server's mark of the content.
    modified
        Time of the last change.
    """

    size: int
    etag: str | None
    modified: datetime | None

    @property
    def is_certain(self) -> bool:
        """Whether the ETag stands for exactly these bytes; a weak one stands for similar ones."""
        return self.etag is not None and not self.etag.startswith("W/")

    def is_same(self, other: Version) -> bool:
        """Return whether two answers are of the same content, as far as the server lets tell."""
        if self.is_certain:
            return (self.etag, self.size) == (other.etag, other.size)
        return self == other

    def digest(self) -> dict[str, Any]:
        """Return size and sha256 of what is known of the content, and what the sha256 is of."""
        mark, what = "", "size alone"
        if self.etag:
            mark, what = self.etag, "ETag and size"
        elif self.modified:
            mark, what = self.modified.isoformat(), "time of last change and size"
        sha256 = hashlib.sha256(f"{what}\n{mark}\n{self.size}".encode()).hexdigest()
        return {"bytes": self.size, "sha256": sha256, "sha256_of": what}

    @classmethod
    def of(cls, answer: Any) -> Version:
        """Return the version that an answer of obstore is of."""
        meta = answer.meta
        changed = meta["last_modified"]
        return cls(meta["size"], meta["e_tag"] or None, changed if changed.timestamp() > 0 else None)
