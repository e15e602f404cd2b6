"""Result records as files: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge.eval.base import Record

__all__ = ["append_records", "read_records", "read_scores", "truncate_records", "write_records"]


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Add records to a file, which is made if there is none; they are on disk when this returns."""
    text = "".join(json.dumps(record.to_dict()) + "\n" for record in records)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write plain values of records, as of :meth:`Record.to_dict`, as a whole or not at all; a file is replaced."""
    temporary = path.with_name(path.name + ".writing")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    temporary.replace(path)


def read_records(path: Path) -> list[Record]:
    """Return the records of a file.

    Raises
    ------
    DataError
        If there is no such file, or a line of it is not a record; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        msg = f"{path}: no such file; a results.jsonl that a run or 'scmodelforge evaluate --out' wrote is needed."
        raise DataError(msg) from error
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read as records ({' '.join(str(error).split())}); a results.jsonl is needed."
        raise DataError(msg) from error
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def read_scores(path: Path, key: str) -> dict[int, tuple[float, bool]]:
    """Return the model's values of a metric by step, and whether higher is better; lines being written are left out."""
    metric = key.rpartition("/")[2]
    found: dict[int, tuple[float, bool]] = {}
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        if json.dumps(metric) not in line:  # reading all that a run ever scored takes long
            continue
        try:
            record = Record.from_dict(json.loads(line))
        except (ValueError, DataError):
            continue
        is_wanted = record.key == key and record.representation == "model"
        if is_wanted and record.value is not None and record.step is not None:
            found[record.step] = record.value, record.higher_is_better
    return found


def truncate_records(path: Path, step: int) -> None:
    """Drop the records of later steps, and a last line cut off by a crash, so that a resumed run can go on.

    Raises
    ------
    DataError
        If a line other than the last is not a record.
    """
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1].splitlines()  # a line without its end was cut off
    records = [_parse(path, number, line) for number, line in enumerate(whole, start=1)]
    kept = [record for record in records if record.step is None or record.step <= step]
    temporary = path.with_name(path.name + ".writing")
    temporary.unlink(missing_ok=True)
    append_records(temporary, kept)
    temporary.replace(path)


def _parse(path: Path, number: int, line: str) -> Record:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            msg = "not a JSON object"
            raise DataError(msg)
        data.pop("run", None)  # beside the records of several runs stands which of them each is of
        return Record.from_dict(data)
    except (json.JSONDecodeError, DataError) as error:
        msg = f"{path}, line {number}: {error}"
        raise DataError(msg) from error
