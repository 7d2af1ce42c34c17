"""Every exception that cellscale raises on purpose.

A message says what was wrong, where, what was expected, what was found and what to do. The command line prints it as
one line and exits with status 2. Secrets that `redaction` recognises are removed from every message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from cellscale.redaction import redacted


class CellscaleError(Exception):
    """Base class of all errors that cellscale raises; passwords and tokens in the message are hidden."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(redacted(arg) if isinstance(arg, str) else arg for arg in args))


class InputError(CellscaleError, ValueError):
    """An argument, a setting, an image or a label image that does not fit."""


class SeveralImagesError(InputError):
    """Several images instead of one: series of a file, or files of a folder that are not frames of one image."""


class MissingError(CellscaleError, LookupError):
    """Something named that does not exist: a method, a setting, a store, a layer, a frame."""


class StoreError(CellscaleError, OSError):
    """A store that cannot be read or written, or whose bytes are damaged."""


class DamagedError(StoreError):
    """Bytes that exist but are damaged: a second attempt cannot succeed."""


class ExistsError(CellscaleError, FileExistsError):
    """Existing data that would be overwritten."""


class RunError(CellscaleError, RuntimeError):
    """A run that ended without its result: failed tiles, a violated guarantee, a stopped cluster."""


class OvertakenError(RunError):
    """A driver or task of a run that another driver has taken over."""


class ChangedError(RunError):
    """A run whose image is no longer the one that it began with."""


def unknown(kind: str, name: str, known: Iterable[str], *, of: str = "") -> MissingError:
    """An error for an unknown name, of a place if there is one: lists what exists and suggests the nearest."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    place = f" of {of}" if of else ""
    return MissingError(f"Unknown {kind} {name!r}{place}.{hint} Known: {', '.join(names)}.")


def check_known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise MissingError for the first name that does not exist; it suggests the nearest."""
    existing = set(known)
    for name in names:
        if name not in existing:
            raise unknown(kind, name, existing)
