"""Settings that had another name before the first release: an old one is an error that names the new one."""

from __future__ import annotations

from collections.abc import Iterable

from cellscale.errors import InputError, MissingError, unknown

RENAMED = {
    "tile": "tile_size",
    "window": "window_size",
    "z": "z_mode",
    "flips": "test_time_flips",
    "average": "ema_decay",
    "accumulate": "accumulation_steps",
    "clip": "max_grad_norm",
    "on_cells": "foreground_fraction",
    "unknown": "ignore_label",
    "store_weights": "dataset_weights",
    "holes": "fill_holes_px",
    "specks": "min_object_px",
    "neck": "split_neck_px",
    "weighting.spread": "weighting.propagate",
    "cleaning.cap": "postprocessing.cap",
    "cleaning.prominence": "postprocessing.prominence",
}
"""Old name to new name. `specks` was the largest area to drop, `min_object_px` is the smallest to keep: one more."""


def unknown_setting(name: str, known: Iterable[str], kind: str = "setting") -> InputError | MissingError:
    """Return the error for a setting that does not exist: with its new name, or the nearest existing ones."""
    names = frozenset(known)
    new = RENAMED.get(name) or RENAMED.get(name.rpartition(".")[2])
    if new in names:
        more = " It is the smallest area to keep: the old value and one more." if new == "min_object_px" else ""
        return InputError(f"{kind.capitalize()} {name!r} is now called {new!r}.{more} Write it so.")
    return unknown(kind, name, names)
