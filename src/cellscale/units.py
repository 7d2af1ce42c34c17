"""Names of lengths and times as files spell them, and their size in µm and s."""

from __future__ import annotations

import math
from collections.abc import Callable

_PREFIXES = {
    "quecto": -30, "ronto": -27, "yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9,
    "micro": -6, "milli": -3, "centi": -2, "deci": -1, "": 0, "deca": 1, "hecto": 2, "kilo": 3, "mega": 6, "giga": 9,
    "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24,
}  # fmt: skip
_SYMBOLS = {
    "y": -24, "z": -21, "a": -18, "f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "m": -3, "c": -2, "d": -1, "": 0,
    "h": 2, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "Z": 21, "Y": 24,
}  # fmt: skip
_INCH_UM = 25400.0
_LENGTHS_UM = {
    **{f"{prefix}meter": 10.0 ** (power + 6) for prefix, power in _PREFIXES.items()},
    **{f"{prefix}m": 10.0 ** (power + 6) for prefix, power in _SYMBOLS.items()},
    "micron": 1.0, "angstrom": 1e-4, "Å": 1e-4, "thou": _INCH_UM / 1000, "mil": _INCH_UM / 1000, "pt": _INCH_UM / 72,
    "li": _INCH_UM / 12, "in": _INCH_UM, "inch": _INCH_UM, "inche": _INCH_UM, '"': _INCH_UM, "ft": 12 * _INCH_UM,
    "foot": 12 * _INCH_UM, "feet": 12 * _INCH_UM, "yd": 36 * _INCH_UM, "yard": 36 * _INCH_UM, "mi": 63360 * _INCH_UM,
    "mile": 63360 * _INCH_UM, "parsec": 3.0857e22,
}  # fmt: skip
_NONE = frozenset({"", "pixel", "pixels", "px", "reference frame", "none", "null", "unknown", "arbitrary"})
"""Words that files write where they know no unit, in small letters."""
_TIMES_S = {
    **{f"{prefix}second": 10.0**power for prefix, power in _PREFIXES.items()},
    **{f"{prefix}s": 10.0**power for prefix, power in _SYMBOLS.items()},
    **{f"{prefix}sec": 10.0**power for prefix, power in _SYMBOLS.items()},
    "min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0,
}  # fmt: skip


def _factor(known: dict[str, float], name: str) -> float | None:
    """Look a name up as it is, then without a plural s, then in small letters: Mm and mm differ, UM and um do not."""
    for escape, letter in (("\\u00B5", "µ"), ("\\u00b5", "µ"), ("\u03bc", "µ"), ("\u212b", "Å"), ("metre", "meter")):
        name = name.replace(escape, letter)
    exact = name.strip().rstrip(".")
    for spelled in (exact, exact.removesuffix("s"), exact.lower(), exact.lower().removesuffix("s")):
        if spelled and spelled in known:
            return known[spelled]
    return None


def unit_um(name: str) -> float | None:
    """Size of a unit of length, µm; None for a name that is not a length."""
    return _factor(_LENGTHS_UM, name)


def unit_s(name: str) -> float | None:
    """Length of a unit of time, s; None for a name that is not a time."""
    return _factor(_TIMES_S, name)


def unknown_unit(size: object, unit: str, unit_size: Callable[[str], float | None]) -> str | None:
    """Return the unit of a size that a file states and cannot be read for its unit; None for any other size."""
    stated = positive(size) is not None and unit.strip().lower() not in _NONE
    return unit.strip() if stated and unit_size(unit) is None else None


def positive(value: object) -> float | None:
    """Read a number that a file states for a size or an interval; None for text, zero, NaN and infinity."""
    try:
        number = abs(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None
