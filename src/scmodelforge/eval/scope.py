"""What exactly was scored, in a word: a hash of names, so that two scores of as many others are told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b

__all__ = ["scope_hash"]


def scope_hash(names: Iterable[str | tuple[str, ...]]) -> str:
    """Return a short hash of the names of conditions, genes, edges or labels. Their order does not matter."""
    listed = sorted((each,) if isinstance(each, str) else tuple(map(str, each)) for each in names)
    return blake2b(json.dumps(listed).encode(), digest_size=8).hexdigest()
