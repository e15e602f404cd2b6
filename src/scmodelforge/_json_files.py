"""JSON objects in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError

__all__ = ["read_json_object"]


def read_json_object(path: Path, advice: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Parameters
    ----------
    path
        The file.
    advice
        What to do where it is none: the end of the message.

    Raises
    ------
    DataError
        If the file cannot be read or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        msg = f"{path}: cannot be read ({problem.strerror}); {advice}."
        raise DataError(msg) from problem
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        msg = f"{path}: not readable as JSON ({problem}); {advice}."
        raise DataError(msg) from problem
    if not isinstance(found, dict):
        msg = f"{path}: holds {type(found).__name__}, needs a JSON object; {advice}."
        raise DataError(msg)
    return found
