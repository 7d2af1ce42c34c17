"""Settings by name: a frozen dataclass as a flat dictionary of JSON's types, and back.

A field of a nested dataclass has a dotted name ("unet.width"); its last part is enough where it is unambiguous.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from cellscale.errors import InputError, MissingError, unknown

T = TypeVar("T")
_MOST = 2**63
"""Bound of every number, for NumPy's and torch's integers; infinity and NaN are outside."""
_LONGEST = 10_000
"""Longest list or text."""
_NEVER: Any = object()


def setting(
    default: Any,
    *,
    before: Any = _NEVER,
    fitted: bool = False,
    trained: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Make a dataclass field with an immutable default and metadata.

    Parameters
    ----------
    default : any
        Its value unless one is given.
    before : any
        For a setting that is newer than saved models may be: the value that they were trained with.
    fitted : bool
        Whether the default means that the value is fitted on training frames. Another training fits it anew.
    trained : bool
        Whether a trained model is of use with this value alone, although its networks have room for others.
    least : float
        For a number: its least value; None: 0, or the default where that is negative.
    most : float
        For a number: its greatest value; None: any.
    """
    metadata = {"fitted": fitted, "trained": trained, "least": least, "most": most}
    metadata |= {} if before is _NEVER else {"before": before}
    return dataclasses.field(default=default, metadata=metadata)


def _described(value: Any) -> dict[str, dataclasses.Field[Any]]:
    """Fields by dotted name."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            found |= {f"{field.name}.{name}": part for name, part in _described(inner).items()}
        else:
            found[field.name] = field
    return found


def added_since(value: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return the values, by dotted name, that apply to settings which are not among the `known` ones.

    Raises
    ------
    MissingError
        If a setting that is not known is not a newer one.
    """
    missing = {name: field for name, field in _described(value).items() if name not in set(known)}
    lost = [name for name, field in missing.items() if "before" not in field.metadata]
    if lost:
        raise MissingError(f"No value for {', '.join(map(repr, lost))}; expected one for each setting.")
    return {name: field.metadata["before"] for name, field in missing.items()}


def unfitted(value: T) -> T:
    """Return a dataclass with all values that are fitted on training frames back at their defaults."""
    fields = _described(value)
    return replaced(value, {name: field.default for name, field in fields.items() if field.metadata.get("fitted")})


def check_trained(before: Any, after: Any) -> None:
    """Refuse a trained model's settings where they change one that it is of use with alone.

    Raises
    ------
    InputError
        With the name of the setting.
    """
    old, new = flat(before), flat(after)
    for name, field in _described(after).items():
        if field.metadata.get("trained") and new[name] != old[name]:
            raise InputError(
                f"Setting {name!r} is {new[name]}; the model was trained with {old[name]} and needs it. "
                "Omit it, or train a model."
            )


def flat(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by dotted name; tuples as they are."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            found |= {f"{field.name}.{name}": part for name, part in flat(inner).items()}
        else:
            found[field.name] = inner
    return found


def short_and_full(names: Iterable[str]) -> set[str]:
    """All names by which fields may be called: their dotted names and the last parts of them."""
    full = set(names)
    return full | {name.rpartition(".")[2] for name in full}


def flat_json(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by dotted name, in JSON's types: tuples become lists."""
    return {name: list(part) if isinstance(part, tuple) else part for name, part in flat(value).items()}


def _full_name(name: str, known: Mapping[str, Any], kind: str) -> str:
    if name in known:
        return name
    ends = [full for full in known if full.endswith(f".{name}")]
    if len(ends) > 1:
        raise InputError(f"{kind.capitalize()} {name!r} is one of {', '.join(sorted(ends))}: give the full name.")
    if not ends:
        raise unknown(kind, name, short_and_full(known))
    return ends[0]


def fitting(value: Any, hint: Any, name: str, kind: str = "setting") -> Any:
    """Return `value` as the type that `hint` names: lists become tuples, NumPy's numbers and whole ones Python's.

    Raises
    ------
    InputError
        If it is of another type; names the setting, what was expected and what was given.
    """
    value, subject = value.item() if isinstance(value, np.generic) else value, f"{kind.capitalize()} {name!r}"
    if isinstance(value, int | float) and not -_MOST < value < _MOST:
        raise InputError(f"{subject} expects a finite number of at most 64 bits, got {_shown(value)}.")
    if isinstance(value, list | tuple | str) and len(value) > _LONGEST:
        raise InputError(f"{subject} expects at most {_LONGEST} entries or characters, got {len(value)}.")
    origin, options = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        fits = [option for option in options if _is(value, option)]
        if fits:
            return fitting(value, fits[0], name, kind)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(fitting(part, options[0], name, kind) for part in value)
    if not _is(value, hint):
        raise InputError(f"{subject} expects {_expected(hint)}, got {_shown(value)}.")
    return float(value) if hint is float else value


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "None",
}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
"""Types in messages, which a reader of TOML and of the command line understands as well as one of Python."""


def _check_range(field: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a number outside a setting's range: most are counts, lengths, weights and shares, 0 or more."""
    if not isinstance(value, int | float):
        return
    default = field.default if isinstance(field.default, int | float) else 0
    declared = field.metadata.get("least")
    least = min(0, default) if declared is None else declared
    if value < least:
        raise InputError(f"Setting {field.name!r} is {_shown(value)}; expected at least {least}.")
    most = field.metadata.get("most")
    if most is not None and value > most:
        raise InputError(f"Setting {field.name!r} is {_shown(value)}; expected at most {most}.")


def _expected(hint: Any) -> str:
    """A type as text, for messages."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, options))
    if origin in {Union, UnionType}:
        return " or ".join(map(_expected, options))
    if origin is tuple:
        return f"a list of {_PLURALS.get(options[0], _expected(options[0]))}"
    return _WORDS[hint] if hint in _WORDS else getattr(hint, "__name__", str(hint))


def _shown(value: Any) -> str:
    """Return the beginning of a value's text; Python prints no numbers of more than 4,300 digits."""
    if isinstance(value, int) and abs(value) >= _MOST:
        return f"a number of {value.bit_length()} bits"
    return reprlib.repr(value)


def _is(value: Any, hint: Any) -> bool:
    if get_origin(hint) in {Union, UnionType}:
        return any(_is(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)


def replaced(value: T, changes: Mapping[str, Any], kind: str = "setting") -> T:
    """Return a dataclass with fields changed by dotted name, or by the last part of it.

    Raises
    ------
    MissingError
        If there is no such field; lists those that exist and suggests the nearest.
    InputError
        If a value is of the wrong type, or a short name fits two fields.
    """
    known = flat(value)
    return _changed(value, {_full_name(name, known, kind): change for name, change in changes.items()})


def _changed(value: T, changes: Mapping[str, Any]) -> T:
    hints = get_type_hints(type(value))
    direct = {name: fitting(change, hints[name], name) for name, change in changes.items() if "." not in name}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        if field.name in direct:
            _check_range(field, direct[field.name])
    groups: dict[str, dict[str, Any]] = {}
    for name, change in changes.items():
        if "." in name:
            outer, _, inner = name.partition(".")
            groups.setdefault(outer, {})[inner] = change
    nested = {outer: _changed(getattr(value, outer), inner) for outer, inner in groups.items()}
    return dataclasses.replace(value, **direct, **nested)  # type: ignore[type-var]
