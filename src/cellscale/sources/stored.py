"""Arrays of npz and npy files, and what every stored array has: axes, shape, type, and a way to read one plane."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError, StoreError, unknown

AXES = "tczyx"
_DEFAULT_AXES = {2: "yx", 3: "tyx", 5: "tczyx"}

Index: TypeAlias = tuple[int | slice, ...]
Reader: TypeAlias = Callable[[Index], NDArray[Any]]
"""Index of a plane → the plane, in the order of the stored axes."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An array of a file: axes, shape and type, and how one of its planes is read."""

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Reader
    pixel_size_um: tuple[float, float] | None = None

    def size(self, axis: str) -> int:
        """Length of an axis; 1 for a missing axis."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def plane(self, t: int, c: int, z: int) -> NDArray[Any]:
        """Return one plane, (y, x)."""
        places = {"t": t, "c": c, "z": z}
        plane = self.read(tuple(places.get(axis, slice(None)) for axis in self.axes))
        return plane if self.axes.index("y") < self.axes.index("x") else plane.T


def checked_axes(axes: str, shape: Sequence[int], path: str) -> str:
    """Axes that a user gave, in small letters; InputError where they do not fit the shape."""
    axes = axes.lower()
    if sorted(set(axes)) != sorted(axes) or not set("yx") <= set(axes) <= set(AXES):
        raise InputError(f"Axes {axes!r}: expected letters of tczyx, each at most once, with y and x.")
    if len(axes) != len(shape):
        raise InputError(f"Axes {axes!r} name {len(axes)} dimensions; {path} has {len(shape)}: {tuple(shape)}.")
    return axes


def _array_axes(array: NDArray[Any], axes: str | None, path: str) -> str:
    if axes is not None:
        return checked_axes(axes, array.shape, path)
    if array.ndim not in _DEFAULT_AXES:
        raise InputError(f"{path} has the shape {array.shape}; say what its axes are with --axes, e.g. tcyx or zcyx.")
    return _DEFAULT_AXES[array.ndim]


def from_array(array: NDArray[Any], axes: str | None, path: str) -> Stored:
    """Describe an array in memory or mapped; axes None: yx, tyx or tczyx by the number of dimensions."""
    named = _array_axes(array, axes, path)
    return Stored(path=path, axes=named, shape=array.shape, dtype=array.dtype, read=partial(_item, array))


def _item(array: NDArray[Any], index: Index) -> NDArray[Any]:
    return np.asarray(array[index])


def read_npz(path: str, key: str, labels: bool) -> NDArray[Any]:
    """The array of a key; without one, `images` or `masks`, or the first with three dimensions."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            shapes = {name: archive[name] for name in ([key] if key in archive.files else archive.files)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"Cannot read {path} as npz: {error}.") from error
    if key and key not in shapes:
        raise unknown(f"array of {path}", key, shapes)
    wanted = key or ("masks" if labels else "images")
    if wanted in shapes:
        return np.asarray(shapes[wanted])
    pictures: list[NDArray[Any]] = [array for array in shapes.values() if array.ndim >= 2]
    if not pictures:
        raise InputError(f"{path} holds no images; its arrays are {', '.join(shapes) or 'none'}.")
    return next((array for array in pictures if array.ndim == 3), pictures[0])


def read_npy(path: str) -> NDArray[Any]:
    """Map the array of an npy file."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"Cannot read {path} as npy: {error}.") from error
    return array
