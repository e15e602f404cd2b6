"""Messages in the words of whoever is spoken to: the options of a command in the place of settings of a YAML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scmodelforge._errors import UserError

__all__ = ["in_words_of", "worded"]


@contextmanager
def in_words_of(options: Mapping[str, str]) -> Iterator[None]:
    """Name the options of a command where an error names settings.

    Parameters
    ----------
    options
        The option for each setting, by its path in a settings file.
    """
    try:
        yield
    except UserError as problem:
        problem.args = (worded(str(problem), options),)
        raise


def worded(message: str, options: Mapping[str, str]) -> str:
    """Return a message with options in the place of whole paths of settings."""
    for setting, option in options.items():
        message = re.sub(rf"(?<![\w.]){re.escape(setting)}(?!\w|\.\w)", option, message)
    return message
