"""TIFF files: their images, with axes and physical sizes as OME-XML, ImageJ or the tags say.

Every page of a file belongs to one of the images that are returned, or to a smaller copy of one; else the file is
refused.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellscale.errors import InputError
from cellscale.sources.ome_xml import OmeImage, ome_images
from cellscale.sources.stored import AXES, Stored, check_frames, checked_axes, listed
from cellscale.sources.tiff_pages import OpenTiff, check_end, leading_shape, opened, pages_of, reader
from cellscale.types import Calibration
from cellscale.units import positive, unit_s, unit_um, unknown_unit

_PRINTED_UM = 20.0
"""Pixel size from which a resolution is that of a printer (72 dpi is 353 µm), not of a microscope."""
_TAG_UNITS = {2: "inch", 3: "cm"}
_AS_THEY_LIE = "To take all pages in their order, name them with --axes, e.g. tyx."


def _series_axes(series: Any, axes: Sequence[str], path: str) -> str:
    """The axes of a TIFF series: those given, or those in the file, with unnamed pages as frames."""
    shape = tuple(series.shape)
    if axes:
        return checked_axes(axes, shape, path)
    named = str(series.axes)
    if series.kind == "shaped" and "S" in named[:-1]:
        planes = shape[named.index("S")]
        raise InputError(
            f"{path} stores {planes} planes as colours, which tifffile does with {planes} frames unless told otherwise "
            f"(shape {shape}). Say --axes {'t' * (len(shape) > 3)}cyx for colours, "
            + ("--axes tyx for frames." if len(shape) == 3 else "--axes tzyx for slices.")
        )
    if "S" in named and "C" not in named:
        named = named.replace("S", "C")
    unnamed = [axis for axis in named if axis in "IQ"]
    if len(unnamed) == 1 and "T" not in named:
        named = named.replace(unnamed[0], "T")
        check_frames(named.lower(), shape, path)
    named = named.lower()
    if set(named) <= set(AXES) and len(set(named)) == len(named) and set("yx") <= set(named):
        return named
    if "C" in str(series.axes) and "S" in str(series.axes):
        raise InputError(f"{path} has channels of several colours each (axes {series.axes}). Save them as channels.")
    raise InputError(f"{path} has the axes {series.axes} of {shape}; name them with --axes, e.g. tczyx.")


def _resolution_um(page: Any, unit: float | None) -> tuple[float, float] | None:
    """Height and width of a pixel from the tags of a page, which count pixels in a unit of length."""
    tags = [page.tags.get(name) for name in ("YResolution", "XResolution")]
    pairs = [tag.value if isinstance(tag.value, tuple) else (tag.value, 1) for tag in tags if tag is not None]
    per_unit = [(positive(count), positive(of)) for count, of in pairs]
    sizes = [of / count for count, of in per_unit if count is not None and of is not None]
    return None if unit is None or len(sizes) < 2 else (sizes[0] * unit, sizes[1] * unit)


def _imagej_channels(meta: dict[str, Any], count: int) -> tuple[str, ...]:
    """Names of the channels from the labels of the planes, where each channel has one of its own."""
    texts = meta.get("Labels") or []
    labels = [re.sub(r"^(?:[czt]:\d+/\d+\s*)+-?\s*", "", str(label)).strip() for label in texts]
    if count < 2 or len(labels) % count or not labels or str(meta.get("order", "czt")) not in ("czt", "default"):
        return ()
    names = tuple(labels[:count])
    repeated = all(label == names[i % count] for i, label in enumerate(labels))
    return names if repeated and all(names) and len(set(names)) == count else ()


def _imagej_calibration(tiff: Any, series: Any) -> Calibration:
    meta, named = tiff.imagej_metadata or {}, str(series.axes)
    unit_x = str(meta.get("unit", ""))
    unit_y, unit_z, unit_t = (
        str(meta.get(name, unit)) for name, unit in (("yunit", unit_x), ("zunit", unit_x), ("tunit", "sec"))
    )
    page, step, interval = tiff.pages.first, positive(meta.get("spacing")), positive(meta.get("finterval"))
    width, height = _resolution_um(page, unit_um(unit_x)), _resolution_um(page, unit_um(unit_y))
    depth, seconds = unit_um(unit_z), unit_s(unit_t)
    known = Calibration(
        pixel_size_um=None if width is None or height is None else (height[0], width[1]),
        z_step_um=None if depth is None or step is None else step * depth,
        frame_interval_s=None if seconds is None or interval is None else interval * seconds,
        channels=_imagej_channels(meta, series.shape[named.index("C")] if "C" in named else 1),
    )
    stated = 1 if _resolution_um(page, 1.0) else None
    return known.with_unknown_units(
        {
            "pixel_size_um": unknown_unit(stated, unit_x, unit_um) or unknown_unit(stated, unit_y, unit_um),
            "z_step_um": unknown_unit(step, unit_z, unit_um),
            "frame_interval_s": unknown_unit(interval, unit_t, unit_s),
        }
    )


def _tag_calibration(tiff: Any) -> Calibration:
    """The pixel size by the resolution tags, where it can be a microscope's."""
    tag = tiff.pages.first.tags.get("ResolutionUnit")
    unit = _TAG_UNITS.get(int(tag.value)) if tag is not None else None
    size = _resolution_um(tiff.pages.first, unit_um(unit or ""))
    return Calibration(pixel_size_um=size if size and max(size) < _PRINTED_UM else None)


def _in_order(series: Sequence[Any], images: Sequence[OmeImage]) -> list[OmeImage | None]:
    """The description of each series; documents may describe images that have no planes, and so no series."""
    if len(series) == len(images):
        return list(images)
    rest = list(images)
    found: list[OmeImage | None] = []
    for one in series:
        names = [image.name for image in rest]
        at = names.index(one.name or "") if (one.name or "") in names else None
        found.append(None if at is None else rest[at])
        rest = rest[0 if at is None else at + 1 :]
    return found


def _images(tiff: Any) -> list[Any]:
    """The series of a file without thumbnails."""
    series = list(tiff.series)
    return [one for one in series if not one.keyframe.is_reduced] or series


def _unread(tiff: Any) -> list[int]:
    """Pages of the file itself that belong to no series and no level of one."""
    levels = [level for series in tiff.series for level in series.levels]
    used = {page.index for level in levels for page in level.pages if page is not None and page.parent is tiff}
    return [number for number in range(len(tiff.pages)) if number not in used]


def _disagreement(file: OpenTiff, images: Sequence[Any]) -> str | None:
    """Return the contradiction between the file's description and its pages; None if they agree."""
    if file.complaints:
        return f"{file.path} contradicts itself: {file.complaints[0]}."
    meta = file.tiff.imagej_metadata or {}
    for series in images:
        leading = leading_shape(series)
        planes = math.prod(series.shape) // max(math.prod(series.keyframe.shape), 1)
        has = len(series.pages)
        if leading is not None and series.dataoffset is None and has != planes:
            return f"{file.path} describes {planes} planes and has {has} pages."
        if series.kind == "imagej" and int(meta.get("images", 1)) > math.prod(series.shape[:-2]):
            return f"{file.path} describes {meta['images']} planes and has {math.prod(series.shape[:-2])}."
    unread = _unread(file.tiff)
    if unread:
        pages = f"page{'s' * (len(unread) > 1)} {listed(unread)}"
        return f"{file.path} has {len(file.tiff.pages)} pages; its description leaves out {pages}."
    return None


def _gaps(series: Any, axes: str, absent: Sequence[str]) -> tuple[frozenset[int], dict[int, str]]:
    """Frames without any plane, and the missing planes of others; `absent` are missing files of the set."""
    pages, leading = pages_of(series), leading_shape(series)
    if None not in pages or leading is None:
        return frozenset(), {}
    lacking: dict[int, list[str]] = defaultdict(list)
    for number, page in enumerate(pages):
        place = dict(zip(axes, map(int, np.unravel_index(number, leading)), strict=False)) if leading else {}
        if page is None:
            lacking[place.get("t", 0)].append(f"channel {place.get('c', 0)}, slice {place.get('z', 0)}")
    if absent:
        return frozenset(), dict.fromkeys(lacking, f"files of its set are not there: {', '.join(absent)}")
    each = len(pages) // (leading[axes.index("t")] if "t" in axes[: len(leading)] else 1)
    empty = frozenset(t for t, planes in lacking.items() if len(planes) == each)
    return empty, {t: f"it lacks {planes[0]}" for t, planes in lacking.items() if t not in empty}


def _calibration(file: OpenTiff, series: Any, ome: OmeImage | None) -> Calibration:
    if ome is not None:
        return ome.calibration
    return _imagej_calibration(file.tiff, series) if file.tiff.is_imagej else _tag_calibration(file.tiff)


def _stored(file: OpenTiff, series: Any, axes: str, calibration: Calibration, ome: OmeImage | None) -> Stored:
    folder, stem = Path(file.path).parent, Path(file.path).name.split(".")[0]
    absent = [name for name in (ome.files if ome else ()) if not (folder / name).exists()]
    empty, incomplete = _gaps(series, axes, absent)
    return Stored(
        path=file.path,
        name=str(series.name or "") or stem,
        axes=axes,
        shape=tuple(series.shape),
        dtype=np.dtype(series.dtype).newbyteorder("="),
        read=reader(file, series, axes),
        calibration=calibration,
        empty=empty,
        incomplete=incomplete,
        files=frozenset(page[0] for page in pages_of(series) if page),
    )


def _appended(images: Sequence[Any]) -> bool:
    """Whether single images of equal size were appended to the file one after the other, like frames."""
    alike = {(series.kind, tuple(series.shape), str(series.dtype), str(series.axes)) for series in images}
    return len(images) > 1 and len(alike) == 1 and images[0].kind == "shaped" and len(images[0].pages) == 1


def tiff_images(path: str, axes: Sequence[str] = ()) -> tuple[Stored, ...]:
    """Describe all images of a TIFF file, or of the set of files that it belongs to.

    Parameters
    ----------
    path : str
        A TIFF file.
    axes : sequence of str
        Names of the stored dimensions; the first that fit are used. None: those in the file, with unnamed pages as
        frames.

    Returns
    -------
    tuple of Stored
        The images in the file's order, without thumbnails and smaller copies.

    Raises
    ------
    InputError
        If the file's description and its pages disagree, or its axes are not known.
    StoreError
        If the file is damaged or cut off.
    """
    with opened(path) as file:
        check_end(file.tiff, path)
        ome: tuple[OmeImage, ...] = ()
        images: list[Any] = []
        try:
            ome = ome_images(file.tiff.ome_metadata, path) if file.tiff.is_ome else ()
            images = _images(file.tiff)
            problem = _disagreement(file, images)
        except InputError as error:
            problem = str(error)
        if problem is not None and not axes:
            raise InputError(f"{problem} {_AS_THEY_LIE}")
        described = _in_order(images, ome)
        calibrations = [_calibration(file, *pair) for pair in zip(images, described, strict=True)]
        if problem is None and not _appended(images):
            named = [_series_axes(series, axes, path) for series in images]
            return tuple(_stored(file, *parts) for parts in zip(images, named, calibrations, described, strict=True))
    # The sizes of the description still hold where its list of pages does not.
    known = replace(calibrations[0], channels=()) if calibrations else Calibration()
    with opened(path, headers=False) as file:
        return tuple(
            _stored(file, series, _series_axes(series, axes, path), known, None) for series in _images(file.tiff)
        )
