"""Parse TOML files and KEY=VALUE overrides into sections of settings; an unknown key is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellscale.errors import InputError, MissingError, unknown
from cellscale.settings.fields import short_and_full

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
    """Reason why a text is not valid TOML."""
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def assignments(words: Iterable[str]) -> dict[str, Any]:
    """Parse KEY=VALUE assignments; a value is TOML if it parses, and text otherwise.

    Raises
    ------
    InputError
        For an assignment without an equals sign.

    Examples
    --------
    >>> from cellscale.settings.files import assignments
    >>> assignments(["steps=2000", "unet.width=32", "precision=bf16"])
    {'steps': 2000, 'unet.width': 32, 'precision': 'bf16'}
    """
    found = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise InputError(f"{word!r} is not an assignment; expected KEY=VALUE, e.g. width=32.")
        found[key.strip()] = _parsed(text, key.strip())
    return found


def _home(name: str, fields: Mapping[str, Collection[str]]) -> tuple[str, str]:
    """Section and key of a setting: by its full name, else by the last part of it, else as `section.key`."""
    short = {section: {full.rpartition(".")[2] for full in names} for section, names in fields.items()}
    for known in (fields, short):
        homes = [section for section, names in known.items() if name in names]
        if len(homes) > 1:
            both = " or ".join(repr(f"{section}.{name}") for section in homes)
            raise InputError(f"Setting {name!r} belongs to several sections: give {both}.")
        if homes:
            return homes[0], name
    section, _, inner = name.partition(".")
    if section in fields:
        return section, inner
    raise unknown("setting", name, short_and_full(known for names in fields.values() for known in names))


def read_config(path: str | None, settings: Mapping[str, Any], fields: Mapping[str, Collection[str]]) -> Config:
    """Read a TOML file and override it with single settings.

    Parameters
    ----------
    path : str or None
        The file; None: only single settings.
    settings : mapping of str to value
        By full name, by the last part of it, or by `section.key`.
    fields : mapping of str to names
        The full names of the settings that each section of this command has.

    Returns
    -------
    Config
        Values by section.

    Raises
    ------
    MissingError
        For a file, section or setting that does not exist; the dataclasses' own names are checked where they are made.
    InputError
        For a file that is not valid TOML, or a name that two sections have.
    """
    values: dict[str, dict[str, Any]] = {}
    for section, content in (_file(path) if path else {}).items():
        if section not in SECTIONS:
            raise unknown("section", section, SECTIONS, of=str(path))
        if not isinstance(content, dict):
            raise InputError(f"{section!r} in {path} is a value; expected a section [{section}].")
        values[section] = content
    for given, value in settings.items():
        section, name = _home(given, fields)
        values.setdefault(section, {})[name] = value
    return Config(values=values)


def _file(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise MissingError(f"Configuration file {path} does not exist.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {_reason(error)}.") from error
