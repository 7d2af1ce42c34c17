"""Arrays of npz and npy files, and stored arrays in general: axes, shape, type, and a reader of one plane."""

from __future__ import annotations

import os
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError, StoreError, unknown
from cellscale.storage.errors import failures
from cellscale.storage.urls import is_local
from cellscale.types import Calibration

AXES = "tczyx"
_DEFAULT_AXES = {2: "yx", 3: "tyx", 5: "tczyx"}
_IMAGES, _MASKS = ("images", "X"), ("masks", "y")
"""Names of arrays in npz files: cellscale's, and those of DeepCell's data sets."""
_CHANNELS_LAST = 4
"""Greatest length of a last axis that is taken for channels by default."""
_NARROW_PX = 16

Index: TypeAlias = tuple[int | slice, ...]
Reader: TypeAlias = Callable[[Index], NDArray[Any]]
"""Index of a plane → the plane, in the order of the stored axes."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An array of a file: axes, shape and type, and how one of its planes is read."""

    path: str
    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Reader
    calibration: Calibration = field(default_factory=Calibration)
    empty: frozenset[int] = frozenset()
    """Frames without any plane."""
    incomplete: Mapping[int, str] = field(default_factory=dict)
    """Frames with missing planes, and the missing planes."""
    files: frozenset[str] = frozenset()
    """The files that hold the planes, where there are several."""

    def size(self, axis: str) -> int:
        """Length of an axis; 1 for a missing axis."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def plane(self, t: int, c: int, z: int) -> NDArray[Any]:
        """Return one plane, (y, x)."""
        places = {"t": t, "c": c, "z": z}
        plane = self.read(tuple(places.get(axis, slice(None)) for axis in self.axes))
        return plane if self.axes.index("y") < self.axes.index("x") else plane.T


def listed(numbers: Sequence[int]) -> str:
    """Rising numbers as text, neighbours as a range: "0, 2–5, 9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)


def checked_axes(given: Sequence[str], shape: Sequence[int], path: str) -> str:
    """Return the first of the user's axes, in lower case, that fits the shape; InputError if none does."""
    for axes in given:
        if sorted(set(axes)) != sorted(axes) or not set("yx") <= set(axes) <= set(AXES):
            raise InputError(f"Axes {axes!r}: expected letters of tczyx, each at most once, with y and x.")
        if len(axes) == len(shape):
            return axes
    raise InputError(f"Axes {given[0]!r} name {len(given[0])} dimensions; {path} has {len(shape)}: {tuple(shape)}.")


def check_frames(axes: str, shape: Sequence[int], path: str) -> None:
    """Refuse frames so narrow that the last axis cannot be x, but may be channels.

    Parameters
    ----------
    axes : str
        Default axes for this number of dimensions.
    shape : sequence of int
        Lengths of the axes.
    path : str
        Path, for the message.
    """
    height, width = shape[axes.index("y")], shape[axes.index("x")]
    if "t" in axes and width <= _NARROW_PX and height >= 2 * width:
        raise InputError(
            f"{path} has the shape {tuple(shape)}: as {axes}, its frames would be {height} × {width} px. Name its "
            f"axes with --axes: {axes} for frames of this size, yxc or tyxc where the last axis is channels."
        )


def _array_axes(array: Any, axes: Sequence[str], path: str) -> str:
    shape: tuple[int, ...] = array.shape
    if axes:
        return checked_axes(axes, shape, path)
    if array.ndim in (3, 4) and shape[-1] <= _CHANNELS_LAST < min(shape[-3:-1]) // 2:
        return "tyxc"[4 - array.ndim :]
    if array.ndim not in _DEFAULT_AXES:
        raise InputError(
            f"{path} has the shape {shape}; name its axes with --axes (in Python axes=), e.g. tcyx or zcyx."
        )
    check_frames(_DEFAULT_AXES[array.ndim], shape, path)
    return _DEFAULT_AXES[array.ndim]


def file_and_key(path: str) -> tuple[Path, str]:
    """The file or folder that a path names, and what follows `::`, if anything: the key of an array in an npz file."""
    local = path.split("://", 1)[-1] if is_local(path) else path
    # Other than Path.expanduser, this one keeps a file ~name as it is where there is no such user.
    whole = Path(os.path.expanduser(local))
    if "::" not in local or whole.exists():
        return whole, ""
    name, _, key = local.rpartition("::")
    return Path(os.path.expanduser(name)), key


def from_array(array: Any, axes: Sequence[str], path: str) -> Stored:
    """Describe an array in memory or mapped; without axes: yx, tyx, tczyx, or yxc and tyxc for up to four channels."""
    named = _array_axes(array, axes, path)
    name = file_and_key(path)[0].stem
    return Stored(path=path, name=name, axes=named, shape=array.shape, dtype=array.dtype, read=partial(_item, array))


def _item(array: NDArray[Any], index: Index) -> NDArray[Any]:
    return np.asarray(array[index])


def _failures() -> tuple[type[Exception], ...]:
    """Errors that NumPy raises for damaged files, or for headers of arrays that are larger than memory."""
    return (*failures(), MemoryError, tokenize.TokenError)


def read_npz(path: str, key: str, labels: bool) -> tuple[str, NDArray[Any]]:
    """The array of a key, and the key; without one, `images` or `X`, or for masks `masks` or `y`; else the only images.

    Raises
    ------
    InputError
        If there are several arrays of images, and none has such a name.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ([key] if key in archive.files else archive.files)}
    except _failures() as error:
        raise StoreError(f"Cannot read {path} as npz: {error}.") from error
    if key and key not in arrays:
        raise unknown("array", key, arrays, of=path)
    for wanted in [key] if key else _MASKS if labels else _IMAGES:
        if wanted in arrays:
            return wanted, np.asarray(arrays[wanted])
    pictures = {name: array for name, array in arrays.items() if array.ndim >= 2}
    if not pictures:
        raise InputError(f"{path} holds no images; its arrays are {', '.join(arrays) or 'none'}.")
    if len(pictures) > 1:
        first = next(iter(pictures))
        raise InputError(
            f"{path} holds the arrays {', '.join(pictures)}. Name the one that is meant, e.g. {path}::{first}."
        )
    (only,) = pictures.items()
    return only


def read_npy(path: str) -> NDArray[Any]:
    """Map the array of an npy file."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except _failures() as error:
        raise StoreError(f"Cannot read {path} as npy: {error}.") from error
    return array
