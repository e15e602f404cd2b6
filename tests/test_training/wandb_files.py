"""Reads what Weights & Biases wrote offline: records of its protocol in blocks as LevelDB's logs have them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD = 32_768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records_of(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    for payload in _payloads(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        yield record


def files_of(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*/*.wandb"))


def history(path: Path) -> list[dict[str, Any]]:
    """Return what was logged, one dictionary a step."""
    found = [record.history for record in records_of(path) if record.WhichOneof("record_type") == "history"]
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in found]


def about(path: Path) -> Any:
    """Return the record that begins the run."""
    return next(record.run for record in records_of(path) if record.WhichOneof("record_type") == "run")


def _payloads(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    place, parts = _HEAD, b""
    while place + _HEAD <= len(content):
        if _BLOCK - place % _BLOCK < _HEAD:  # too little for another head: filled up
            place += _BLOCK - place % _BLOCK
            continue
        size, kind = struct.unpack("<HB", content[place + 4 : place + _HEAD])
        parts += content[place + _HEAD : place + _HEAD + size]
        place += _HEAD + size
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""
