"""Keyword arguments of a public function as one value: a frozen dataclass of its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from cellscale.errors import check_known
from cellscale.settings.fields import fitting

T = TypeVar("T")
Backend: TypeAlias = Literal["ray", "serial"]
"""The place of a command's tasks: a Ray cluster, or this process."""


def check_backend(backend: str) -> None:
    """Raise InputError for a backend that does not exist."""
    fitting(backend, Backend, "backend", "option")


def _is_plain(hint: Any) -> bool:
    """Whether a type is one of those of settings: a number, a text, true or false, some words, or none of them."""
    if get_origin(hint) in {Union, UnionType}:
        return all(map(_is_plain, get_args(hint)))
    return get_origin(hint) is Literal or hint in {bool, int, float, str, NoneType}


def options_from(options: type[T], given: Mapping[str, Any], purpose: str) -> T:
    """Check names and plain types of keyword arguments and return them as options.

    Parameters
    ----------
    options : type
        The dataclass of the options.
    given : mapping
        The arguments by name.
    purpose : str
        Use of the options, for messages: "a tracking".

    Raises
    ------
    MissingError
        For a name that is not an option; suggests the nearest.
    InputError
        For a value that is not valid, or of another type than the option.
    """
    check_known(f"option of {purpose}", given, [option.name for option in dataclasses.fields(options)])  # type: ignore[arg-type]
    hints = get_type_hints(options)
    plain = {
        name: fitting(value, hints[name], name, "option") for name, value in given.items() if _is_plain(hints[name])
    }
    return options(**{**given, **plain})
