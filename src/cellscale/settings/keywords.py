"""Keyword arguments of a public function as one value: a frozen dataclass of its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from cellscale.errors import check_known

T = TypeVar("T")


def options_from(options: type[T], given: Mapping[str, Any], purpose: str) -> T:
    """Check the names of keyword arguments and return them as options.

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
        For a value that is not valid.
    """
    check_known(f"option of {purpose}", given, [option.name for option in dataclasses.fields(options)])  # type: ignore[arg-type]
    return options(**given)
