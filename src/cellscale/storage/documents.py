"""JSON of unknown origin: read within limits, so that every consumer may traverse and print it."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

from cellscale.errors import DamagedError

MAX_BYTES = 64 * 2**20
"""Largest document: the consolidated metadata of a plate with 384 wells and 9 fields have about 10 MB."""
MAX_DEPTH = 64
"""Greatest nesting of objects and arrays: NGFF needs 8; Python's parser and printer fail at about 1,000."""


def parsed(data: bytes, place: str) -> Any:
    """Return the value of a JSON document.

    Parameters
    ----------
    data : bytes
        The document, UTF-8.
    place : str
        Its path, for messages.

    Raises
    ------
    DamagedError
        If it is not valid JSON, or larger or deeper than the limits, or holds text that UTF-8 does not have.
    """
    if len(data) > MAX_BYTES:
        raise DamagedError(f"{place} has {len(data)} bytes; expected a JSON document of at most {MAX_BYTES}.")
    try:
        value = json.loads(data)
        _check(value)
    except RecursionError as error:
        raise DamagedError(f"{place} is nested deeper than {MAX_DEPTH} levels; expected a plain document.") from error
    except ValueError as error:
        raise DamagedError(f"{place} is damaged: it is not valid JSON ({error}). Restore it from a copy.") from error
    return value


def _check(value: Any) -> None:
    """Raise RecursionError for a value nested too deep, UnicodeEncodeError for half a surrogate pair in a string."""
    level, depth = [value], 0
    while level:
        for part in level:
            if isinstance(part, str):
                part.encode()
        outer = [part for part in level if isinstance(part, dict | list)]
        depth += bool(outer)
        if depth > MAX_DEPTH:
            raise RecursionError
        level = [inner for part in outer for inner in (chain(part, part.values()) if isinstance(part, dict) else part)]
