"""OME-XML: names, physical sizes, time steps, channel names and files of the images that a TIFF file describes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from xml.etree import ElementTree

from cellscale.errors import InputError
from cellscale.types import Calibration
from cellscale.units import positive, unit_s, unit_um, unknown_unit

_IRREGULAR = 0.1
"""Relative deviation from the mean beyond which time stamps have no common interval."""


@dataclass(frozen=True, kw_only=True)
class OmeImage:
    """One image of the document."""

    name: str
    calibration: Calibration
    files: tuple[str, ...]
    """Names of the files that hold its planes; empty where the document names none."""


def _named(parent: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """Children with this tag in any version of the schema."""
    return (child for child in parent if child.tag.rpartition("}")[2] == tag)


def _length(pixels: ElementTree.Element, axis: str) -> float | None:
    size, unit = positive(pixels.get(f"PhysicalSize{axis}")), unit_um(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if size is None or unit is None else size * unit


def _interval(pixels: ElementTree.Element) -> float | None:
    """The time increment, or the step of regular time stamps of the first channel and slice."""
    step, unit = positive(pixels.get("TimeIncrement")), unit_s(pixels.get("TimeIncrementUnit", "s"))
    if step is not None and unit is not None:
        return step * unit
    stamps: dict[int, float] = {}
    for plane in _named(pixels, "Plane"):
        seconds, delta = unit_s(plane.get("DeltaTUnit", "s")), plane.get("DeltaT")
        if plane.get("TheC") == plane.get("TheZ") == "0" and delta is not None and seconds is not None:
            stamps[int(plane.get("TheT", "0"))] = float(delta) * seconds
    times = [stamps[t] for t in sorted(stamps)]
    if len(times) < 2 or sorted(stamps) != list(range(len(times))):
        return None
    mean = (times[-1] - times[0]) / (len(times) - 1)
    regular = all(abs(b - a - mean) <= _IRREGULAR * mean for a, b in itertools.pairwise(times))
    return mean if mean > 0 and regular else None


def _channels(pixels: ElementTree.Element) -> tuple[str, ...]:
    """Names of the channels; none where one channel is several samples, such as colours, or none has a name."""
    found = list(_named(pixels, "Channel"))
    if any(channel.get("SamplesPerPixel", "1") != "1" for channel in found):
        return ()
    names = tuple(channel.get("Name") or str(c) for c, channel in enumerate(found))
    return names if any(channel.get("Name") for channel in found) else ()


def _calibration(pixels: ElementTree.Element) -> Calibration:
    height, width = _length(pixels, "Y"), _length(pixels, "X")
    known = Calibration(
        pixel_size_um=None if height is None or width is None else (height, width),
        z_step_um=_length(pixels, "Z"),
        frame_interval_s=_interval(pixels),
        channels=_channels(pixels),
    )
    length_units = {axis: pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XYZ"}
    x, y, z = (unknown_unit(pixels.get(f"PhysicalSize{axis}"), length_units[axis], unit_um) for axis in "XYZ")
    stamps = (
        unknown_unit(plane.get("DeltaT"), plane.get("DeltaTUnit", "s"), unit_s) for plane in _named(pixels, "Plane")
    )
    step = unknown_unit(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"), unit_s)
    units = {"pixel_size_um": y or x, "z_step_um": z, "frame_interval_s": step or next(filter(None, stamps), None)}
    return known.with_unknown_units(units)


def _image(image: ElementTree.Element, pixels: ElementTree.Element) -> OmeImage:
    files = [uuid.get("FileName", "") for data in _named(pixels, "TiffData") for uuid in _named(data, "UUID")]
    return OmeImage(
        name=image.get("Name", ""),
        calibration=_calibration(pixels),
        files=tuple(dict.fromkeys(name for name in files if name)),
    )


def ome_images(text: str, path: str) -> tuple[OmeImage, ...]:
    """Images of an OME-XML document, in their order.

    Raises
    ------
    InputError
        If the text is not such a document, leaves the description to another file, or names files elsewhere.
    """
    try:
        root = ElementTree.fromstring(text)
        found = [_image(image, pixels) for image in _named(root, "Image") for pixels in _named(image, "Pixels")]
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} has OME-XML that cannot be read ({error}).") from error
    for part in _named(root, "BinaryOnly"):
        raise InputError(f"{path} is a part of a set of files that {part.get('MetadataFile')} describes. Import that.")
    for name in (name for image in found for name in image.files):
        if PurePath(name).name != name or "\\" in name:
            raise InputError(f"{path} names planes in {name!r}; the files of a set must lie in one folder.")
    return tuple(found)
