"""TIFF files: axes, pixel size, and pages read one at a time without a file kept open."""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellscale.errors import CellscaleError, InputError, StoreError
from cellscale.sources.stored import AXES, Index, Reader, Stored, checked_axes

_LENGTHS_UM = {"micron": 1.0, "um": 1.0, "µm": 1.0, "\\u00B5m": 1.0, "nm": 1e-3, "mm": 1e3}


def _tiff_axes(series: Any, axes: str | None, path: str) -> str:
    """The axes of a TIFF series: those given, or those in the file, with unknown pages as frames."""
    if axes is not None:
        return checked_axes(axes, series.shape, path)
    named = str(series.axes).lower()
    if "s" in named and "c" not in named:
        named = named.replace("s", "c")
    unknown_ = [axis for axis in named if axis not in AXES]
    if len(unknown_) == 1 and "t" not in named:
        named = named.replace(unknown_[0], "t")
    if set(named) <= set(AXES) and len(set(named)) == len(named):
        return named
    raise InputError(f"{path} has the axes {series.axes} of {series.shape}; say what they are with --axes, e.g. tczyx.")


def _number(value: Any) -> float:
    return float(value[0]) / float(value[1]) if isinstance(value, tuple) else float(value)


def _imagej_pixel_um(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    factor = _LENGTHS_UM.get(str((tiff.imagej_metadata or {}).get("unit", "")))
    tags = [tiff.pages.first.tags.get(name) for name in ("YResolution", "XResolution")]
    per_unit = [_number(tag.value) for tag in tags if tag is not None]
    if factor is None or len(per_unit) < 2 or 0 in per_unit:
        return None
    return factor / per_unit[0], factor / per_unit[1]


def _ome_pixel_um(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    text = tiff.ome_metadata or ""
    found = []
    for axis in "YX":
        size = re.search(rf'PhysicalSize{axis}="([^"]+)"', text)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', text)
        factor = _LENGTHS_UM.get(unit[1]) if unit else 1.0
        if not size or factor is None:
            return None
        found.append(float(size[1]) * factor)
    return found[0], found[1]


def _tiff_page(path: str, offsets: tuple[int, ...], leading: tuple[int, ...], index: Index) -> NDArray[Any]:
    """Read one page by the offset of its directory, so that no other page is parsed."""
    places = [place for place in index[: len(leading)] if isinstance(place, int)]
    number = int(np.ravel_multi_index(places, leading)) if leading else 0
    with _tiff(path) as tiff:
        tiff.filehandle.seek(offsets[number])
        return np.asarray(tifffile.TiffPage(tiff, 0).asarray()[index[len(leading) :]])


def _tiff_mapped(path: str, offset: int, shape: tuple[int, ...], dtype: str, index: Index) -> NDArray[Any]:
    """Read from uncompressed pixels that lie in one piece."""
    try:
        return np.array(np.memmap(path, dtype, "r", offset, shape)[index])
    except (OSError, ValueError) as error:
        raise StoreError(f"Cannot read {path}: {error}. Check that the file is whole.") from error


def _tiff_whole(path: str, index: Index) -> NDArray[Any]:
    with _tiff(path) as tiff:
        return np.asarray(tiff.series[0].asarray()[index])


@contextlib.contextmanager
def _tiff(path: str) -> Iterator[tifffile.TiffFile]:
    """Open a file for one use; whatever the decoders raise is a StoreError."""
    try:
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    except (OSError, RuntimeError, ValueError, struct.error, tifffile.TiffFileError) as error:
        if isinstance(error, CellscaleError):
            raise
        raise StoreError(f"Cannot read {path} as TIFF: {error}. Check that the file is whole.") from error


def _tiff_reader(path: str, series: Any, axes: str) -> Reader:
    """The cheapest way to read one plane: from the mapped file, page by page, or the whole series."""
    shape = tuple(series.shape)
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder).str
        return partial(_tiff_mapped, path, series.dataoffset, shape, dtype)
    leading = shape[: len(shape) - len(series.keyframe.shape)]
    paged = shape[len(leading) :] == tuple(series.keyframe.shape) and len(series.pages) == math.prod(leading)
    if paged and not set("yx") & set(axes[: len(leading)]):
        offsets = tuple(page.offset for page in series.pages if page is not None)
        if len(offsets) == len(series.pages):
            return partial(_tiff_page, path, offsets, leading)
    return partial(_tiff_whole, path)


def from_tiff(path: str, axes: str | None) -> Stored:
    """Open the first series of a TIFF file; axes None: those that the file names, with unknown pages as frames."""
    with _tiff(path) as tiff:
        if not tiff.series:
            raise StoreError(f"{path} holds no image.")
        series = tiff.series[0]
        named = _tiff_axes(series, axes, path)
        return Stored(
            path=path,
            axes=named,
            shape=tuple(series.shape),
            dtype=np.dtype(series.dtype).newbyteorder("="),
            read=_tiff_reader(path, series, named),
            pixel_size_um=_imagej_pixel_um(tiff) if tiff.is_imagej else _ome_pixel_um(tiff),
        )
