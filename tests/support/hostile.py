"""Documents as strangers might write them: each field in turn missing or of another type, size or meaning."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    1e-320,
    "",
    "..",
    "/",
    "\ud800",
    "x" * 5000,
    "\x00\x1b[2J",
    [],
    [[]],
    [None],
    ["y", "x"],
    [0, 0, 0],
    [-1, -1, -1],
    [2**40, 2**40, 2**40],
    {},
    {"path": ["0"]},
    {"name": "pickle", "id": "pickle"},
    DEEP,
)
"""Values put in the place of each field."""


def places(value: Any, inner: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys and indices that lead to each part of a value, itself first."""
    yield inner
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*inner, key))


def mutants(document: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of each document that differs from a given one in one place."""
    for place in places(document):
        for value in HOSTILE:
            yield f"{place} = {str(value)[:40]}", _with(document, place, value)
        if place:
            yield f"{place} missing", _with(document, place)


def _with(document: Any, place: tuple[Any, ...], *value: Any) -> Any:
    """A copy with another value in a place, or without the place."""
    if not place:
        return value[0]
    changed = copy.deepcopy(document)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if value:
        inner[place[-1]] = value[0]
    else:
        del inner[place[-1]]
    return changed
