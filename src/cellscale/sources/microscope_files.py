"""Files of microscope makers (nd2, lif, czi, …), read plane by plane by bioio and its plug-ins: the extra `bioio`."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import CellscaleError, InputError, StoreError
from cellscale.sources.stored import Index, Stored
from cellscale.types import Calibration
from cellscale.units import positive

_PLUGINS = {
    ".nd2": "bioio-nd2", ".lif": "bioio-lif", ".czi": "bioio-czi", ".dv": "bioio-dv", ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy", ".oib": "bioio-bioformats", ".oif": "bioio-bioformats", ".vsi": "bioio-bioformats",
    ".ims": "bioio-bioformats", ".lsm": "bioio-bioformats",
}  # fmt: skip
"""Packages by the endings that they read."""
_IN_EXTRA = ("bioio-nd2", "bioio-lif")
_LICENCES = {"bioio-czi": "GPL-3.0", "bioio-bioformats": "GPL-2.0, needs Java"}
"""Plug-ins with licences that users must choose themselves, so that the extra does not install them."""


def is_microscope_file(path: Path) -> bool:
    """Whether a file's ending is one that a plug-in of bioio reads."""
    return path.suffix.lower() in _PLUGINS


def _missing(path: str) -> InputError:
    """Message that names the packages which read a file."""
    plugin = _PLUGINS[Path(path).suffix.lower()]
    extra = "pip install 'cellscale[bioio]'"
    if plugin not in _IN_EXTRA:
        extra += f" {plugin} ({plugin} is {_LICENCES[plugin]})" if plugin in _LICENCES else f" {plugin}"
    return InputError(f"Reading {path} needs bioio and its plug-in: {extra}. Or export the images as OME-TIFF.")


def _read_plane(data: Any, index: Index) -> NDArray[Any]:
    return np.asarray(data[index].compute(scheduler="synchronous"))


def _interval_s(image: Any, data: Any) -> float | None:
    """Time between two frames; bioio-lif has no interval, its T coordinates are seconds."""
    if image.time_interval is not None:
        return positive(image.time_interval.total_seconds())
    if type(image.reader).__module__.startswith("bioio_lif") and "T" in data.coords and data.sizes["T"] > 1:
        return positive(float(data.coords["T"][1] - data.coords["T"][0]))
    return None


def _calibration(image: Any, data: Any, channels: int) -> Calibration:
    size = image.physical_pixel_sizes
    height, width = positive(size.Y), positive(size.X)
    names = tuple(str(name) for name in image.channel_names)
    return Calibration(
        pixel_size_um=None if height is None or width is None else (height, width),
        z_step_um=positive(size.Z),
        frame_interval_s=_interval_s(image, data),
        channels=names if len(names) == channels else (),
    )


def _unrecorded(path: str) -> list[dict[str, int]]:
    """Planes (p, t, z) that an nd2 file announces but does not contain; bioio returns zeros for them."""
    if Path(path).suffix.lower() != ".nd2":
        return []
    from nd2 import ND2File

    with ND2File(path) as file:
        return [{axis.lower(): at for axis, at in place.items()} for place in file.loop_indices][
            file.attributes.sequenceCount :
        ]


def _gaps(unrecorded: Sequence[dict[str, int]], scene: int, slices: int) -> tuple[frozenset[int], dict[int, str]]:
    """Frames of an image without any recorded plane, and the missing planes of the others."""
    lacking: dict[int, list[int]] = defaultdict(list)
    for place in unrecorded:
        if place.get("p", 0) == scene:
            lacking[place.get("t", 0)].append(place.get("z", 0))
    empty = frozenset(t for t, found in lacking.items() if len(found) == slices)
    return empty, {t: f"it lacks slice {found[0]}" for t, found in lacking.items() if t not in empty}


def _scene(image: Any, scene: int, path: str, unrecorded: Sequence[dict[str, int]]) -> Stored:
    image.set_scene(scene)
    data = image.xarray_dask_data
    if "S" in data.dims and data.sizes["C"] == 1:  # samples of a pixel are its colours
        data = data.isel(C=0, drop=True).rename(S="C")
    axes = "".join(str(axis) for axis in data.dims).lower()
    if set(axes) - set("tczyx"):
        raise InputError(
            f"Image {scene} of {path} has the axes {axes} of {tuple(data.shape)}; expected t, c, z, y and x. Export it "
            "as OME-TIFF."
        )
    empty, incomplete = _gaps(unrecorded, scene, int(data.sizes.get("Z", 1)))
    return Stored(
        path=path,
        name=str(image.current_scene),
        axes=axes,
        shape=tuple(map(int, data.shape)),
        dtype=np.dtype(data.dtype).newbyteorder("="),
        read=partial(_read_plane, data.data),
        calibration=_calibration(image, data, data.sizes.get("C", 1)),
        empty=empty,
        incomplete=incomplete,
    )


def microscope_images(path: str, axes: Sequence[str]) -> tuple[Stored, ...]:
    """Describe all images (scenes, positions) of a file.

    Parameters
    ----------
    path : str
        A file that bioio has a plug-in for.
    axes : sequence of str
        Must be empty: these files name their axes.

    Returns
    -------
    tuple of Stored
        The images in the file's order.

    Raises
    ------
    InputError
        If the plug-in is not installed, or axes are given.
    StoreError
        If the file is damaged.
    """
    try:
        importlib.import_module(_PLUGINS[Path(path).suffix.lower()].replace("-", "_"))
        from bioio import BioImage
    except ImportError as error:
        raise _missing(path) from error
    if axes:
        raise InputError(f"{path} names its axes itself; --axes {axes[0]} is for files that do not.")
    try:
        image, unrecorded = BioImage(path), _unrecorded(path)
        return tuple(_scene(image, scene, path, unrecorded) for scene in range(len(image.scenes)))
    except CellscaleError:
        raise
    except Exception as error:  # each plug-in raises what its parser does
        raise StoreError(
            f"Cannot read {path}: {type(error).__name__}: {error}. Check that the file is whole."
        ) from error
