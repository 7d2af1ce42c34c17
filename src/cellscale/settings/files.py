"""The strict edge: TOML files and KEY=VALUE words into sections of settings; an unknown key is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellscale.errors import InputError, MissingError, unknown
from cellscale.settings.fields import flat

SECTIONS = ("method", "training", "segmentation", "engine")
"""The sections of a configuration file."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Values by section, not yet checked against the settings' types."""

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def section(self, name: str) -> dict[str, Any]:
        """The values of a section."""
        return dict(self.values.get(name, {}))


def _parsed(text: str, name: str) -> Any:
    """Value of an assignment, as TOML writes it; other text stands for itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise InputError(f"Setting {name!r} is not a valid TOML value: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Why a text is not valid TOML."""
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def _assignment(word: str, fields: Mapping[str, Iterable[str]]) -> tuple[str, str, Any]:
    """Section, key and value of `key=value` or `section.key=value`."""
    key, equals, text = word.partition("=")
    if not equals:
        raise InputError(f"{word!r} assigns nothing; write KEY=VALUE, e.g. width=32.")
    name = key.strip()
    section, _, inner = name.partition(".")
    if section in fields:
        return section, inner, _parsed(text, name)
    homes = [section for section, names in fields.items() if name in set(names)]
    if not homes:
        raise unknown("setting", name, {name for names in fields.values() for name in names})
    return homes[0], name, _parsed(text, name)


def read_config(path: str | None, assignments: Sequence[str], fields: Mapping[str, Iterable[str]]) -> Config:
    """Read a TOML file and put assignments over it.

    Parameters
    ----------
    path : str or None
        The file; None: assignments alone.
    assignments : sequence of str
        `key=value`, looked up in the sections in their order, or `section.key=value`.
    fields : mapping of str to names
        The settings that each section of this command has.

    Returns
    -------
    Config
        Values by section.

    Raises
    ------
    MissingError
        For a file, section or setting that does not exist; the dataclasses' own names are checked where they are made.
    InputError
        For a file that is no TOML.
    """
    values: dict[str, dict[str, Any]] = {}
    for section, content in (_file(path) if path else {}).items():
        if section not in SECTIONS:
            raise unknown(f"section of {path}", section, SECTIONS)
        if not isinstance(content, dict):
            raise InputError(f"{section!r} in {path} is a value; expected a section [{section}].")
        values[section] = content
    for word in assignments:
        section, name, value = _assignment(word, fields)
        values.setdefault(section, {})[name] = value
    return Config(values=values)


def _file(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise MissingError(f"Configuration file {path} does not exist.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {_reason(error)}.") from error


def names_of(settings: Any) -> list[str]:
    """Settings of a dataclass by dotted name and by its last part."""
    return [*flat(settings), *(name.rpartition(".")[2] for name in flat(settings))]
