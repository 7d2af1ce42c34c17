"""Presets: settings of a method and its training that go together, as data with their sources, one file for each paper.

A file has a table for each method and preset, and `every` for what its methods share. A comment names the source of its
line and of those below it without one. `paper` is what was printed, `fast` the best in ten minutes on two processors,
`default` the best in an hour: what a training uses unless told otherwise.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from cellscale.errors import unknown
from cellscale.methods import METHODS

DEFAULT = "default"
"""The preset of a training for which none is named."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values by name of a setting; an explicit value, a file and single settings win over them."""

    method: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def presets(method: str) -> dict[str, Preset]:
    """Return the presets of a method by name; a method outside the package has only the default one, without values.

    Examples
    --------
    >>> sorted(presets("saw"))
    ['default', 'fast', 'paper']
    >>> presets("saw")["paper"].method["weighting.unit"]
    1.0
    """
    found = {DEFAULT: Preset()}
    if method not in METHODS:
        return found
    module = METHODS[method].partition(":")[0].rpartition(".")[2]
    tables = tomllib.loads((files(__package__) / f"{module}.toml").read_text(encoding="utf-8"))
    shared, own = tables.get("every", {}), tables.get(method, {})
    for name in (*shared, *own):
        parts = shared.get(name, {}), own.get(name, {})
        found[name] = Preset(
            method={key: value for part in parts for key, value in part.get("method", {}).items()},
            training={key: value for part in parts for key, value in part.get("training", {}).items()},
        )
    return found


def preset(method: str, name: str | None) -> Preset:
    """Return a preset of a method; None: the default one.

    Raises
    ------
    MissingError
        If the method has no such preset; lists those it has.
    """
    known = presets(method)
    if name is not None and name not in known:
        raise unknown("preset", name, known, of=repr(method))
    return known[name or DEFAULT]
