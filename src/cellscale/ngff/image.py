"""Images: an OME-Zarr multiscale as a value, read box by box, and written plane by plane.

A value holds the URL, options and parsed metadata, and nothing open: it is picklable and means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from cellscale.errors import InputError, MissingError
from cellscale.ngff import array_io
from cellscale.ngff.metadata import (
    Level,
    Node,
    channel_names,
    checked_version,
    entries_of,
    items_of,
    read_node,
)
from cellscale.ngff.multiscale import Multiscale, common, read_multiscale
from cellscale.ngff.names import child_path
from cellscale.ngff.stores import Store, joined
from cellscale.ngff.writer import ImageWriter, create_image
from cellscale.storage.pixel_types import pixel_type
from cellscale.storage.urls import address, is_local, local_path
from cellscale.types import Box, Image
from cellscale.units import unit_s, unit_um

__all__ = ["ImageWriter", "Level", "NgffImage", "create_image", "open_image", "resolve"]


@dataclass(frozen=True, kw_only=True)
class NgffImage(Multiscale):
    """A multiscale image that exists."""

    channels: tuple[str, ...]
    """Names; "0", "1", … where they have none."""

    def _step(self, axis: str, unit_size: Callable[[str], float | None]) -> float | None:
        if axis not in self.axes:
            return None
        at = self.axes.index(axis)
        step = self.levels[0].scale[at] * (unit_size(self.units[at] or "") or 0.0)
        return step if step > 0 else None

    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel, µm; None without a unit of length."""
        height, width = self._step("y", unit_um), self._step("x", unit_um)
        return None if height is None or width is None else (height, width)

    def z_step_um(self) -> float | None:
        """Distance of two slices, µm; None without a z axis or a unit of length."""
        return self._step("z", unit_um)

    def frame_interval_s(self) -> float | None:
        """Time between two frames, s; None without a time axis or a unit of time."""
        return self._step("t", unit_s)

    def _runs(self, channels: Sequence[int] | None) -> list[slice]:
        """Channels as slices, one for neighbours in ascending order."""
        runs: list[slice] = []
        for c in range(self.size("c")) if channels is None else channels:
            array_io.check_range("Channel", c, self.size("c"), url=self.url)
            if runs and runs[-1].stop == c:
                runs[-1] = slice(runs[-1].start, c + 1)
            else:
                runs.append(slice(c, c + 1))
        return runs

    def read(
        self,
        box: Box,
        *,
        t: int = 0,
        z: int | Literal["max"] = 0,
        channels: Sequence[int] | None = None,
        level: int = 0,
        absent: set[str] | None = None,
    ) -> Image:
        """Read a box of one frame.

        Parameters
        ----------
        box : Box
            In px of the level, inside the image.
        t : int
            Frame.
        z : int or "max"
            Slice, or the maximum over all slices.
        channels : sequence of int, optional
            Numbers of channels; None: all.
        level : int
            Level of the pyramid, 0 is the finest.
        absent : set of str, optional
            Gets the keys of chunks (or shards) that do not exist and read as the fill value.

        Returns
        -------
        array (c, y, x)
            In the stored type.

        Raises
        ------
        MissingError
            For a frame, slice, channel or level that does not exist.
        InputError
            For a box that leaves the image.
        StoreError
            For a chunk that cannot be read.
        """
        project: Literal["max"] | None = "max" if z == "max" else None
        parts = []
        for run in self._runs(channels):
            index = self.index(box, t=t, z=z, c=run, level=level)
            array = self.levels[level]
            parts.append(array_io.read_plane(self.store, array, self.axes, index, project=project, absent=absent))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read_size(
        self, box: Box, *, t: int = 0, z: int | Literal["max"] = 0, channels: Sequence[int] | None = None
    ) -> array_io.ReadSize:
        """Count what `read` fetches for a box of the finest level; see there for the arguments and errors."""
        project: Literal["max"] | None = "max" if z == "max" else None
        places = [self.index(box, t=t, z=z, c=run) for run in self._runs(channels)]
        with array_io.opened(self.store, self.levels[0]) as array:
            known = partial(array_io.read_size, shape=array.shape, chunks=array.chunks, shards=array.shards)
        sizes = [known(self.axes, index, project=project) for index in places]
        return array_io.ReadSize(*map(sum, zip(*sizes, strict=True)))

    def chunk_shape(self, level: int = 0) -> tuple[int, int]:
        """Height and width of a chunk, px."""
        with array_io.opened(self.store, self.levels[level]) as array:
            sides = dict(zip(self.axes, array.chunks, strict=True))
        return sides["y"], sides["x"]

    def object_shape(self, level: int = 0) -> tuple[int, int]:
        """Height and width of what is stored as one object, a chunk or a shard of chunks, px."""
        with array_io.opened(self.store, self.levels[level]) as array:
            sides = dict(zip(self.axes, array_io.object_shape(array), strict=True))
        return sides["y"], sides["x"]

    def chunk_keys(self, box: Box, *, t: int = 0, z: int | Literal["max"] = 0, channel: int = 0) -> list[str]:
        """Keys of the chunks (or shards) that hold a box of the finest level, below the image's URL."""
        return array_io.object_keys(self.store, self.levels[0], self.index(box, t=t, z=z, c=channel))

    def reread(self) -> NgffImage:
        """The same image, whose arrays' documents are read again whenever its pixels are read."""
        return replace(self, levels=tuple(replace(level, document=None) for level in self.levels))


def unfinished_image(writer: ImageWriter) -> NgffImage:
    """The image that a writer makes, before it is published: for label layers that are published with it."""
    return NgffImage(**common(writer), channels=writer.channels)


def _plate_images(store: Store, node: Node, limit: int | None) -> list[str]:
    """Paths of the images of a plate's wells, from at most `limit` wells; of a well without images, its own path."""
    wells = [
        child_path(well["path"], store.url)
        for well in items_of(entries_of(node.ome["plate"]).get("wells"))
        if isinstance(well, Mapping) and "path" in well
    ]
    found = []
    for well in wells[:limit]:
        inner = read_node(store.child(well))
        images = _children(store.child(well), inner) if inner else []
        found += [f"{well}/{path}" for path in images] or [well]
    return found


def _children(store: Store, node: Node, limit: int | None = None) -> list[str]:
    """Paths of the images, all below it, that a plate (its first `limit` wells), a well or a collection holds."""
    if "plate" in node.ome:
        return _plate_images(store, node, limit)
    if "well" in node.ome:
        images = items_of(entries_of(node.ome["well"]).get("images"))
        return [child_path(image.get("path"), store.url) for image in images if isinstance(image, Mapping)]
    listed = read_node(store.child("OME"))
    if listed is not None and items_of(listed.ome.get("series")):
        return [child_path(path, store.url) for path in listed.ome["series"]]
    found: list[str] = []
    while read_node(store.child(str(len(found)))) is not None:
        found.append(str(len(found)))
    return found


def _collection(node: Node) -> str | None:
    """Kind of collection of images that a group is, or None."""
    kinds = {"plate": "a plate", "well": "a well of a plate", "bioformats2raw.layout": "a collection of images"}
    return next((kind for key, kind in kinds.items() if key in node.ome), None)


def _check_no_file(store: Store) -> None:
    """Refuse a file that is not a zipped store, before a store is looked for inside it."""
    if is_local(store.url) and store.zip_file is None and local_path(store.url).is_file():
        raise InputError(
            f"{store.url} is a file; expected an OME-Zarr image. `cellscale import` makes one of TIFF, npz and npy."
        )


def resolve(store: Store) -> tuple[Store, Node]:
    """Find the multiscale group at a URL: the node itself, or the only image that it holds.

    Raises
    ------
    MissingError
        If there is not a Zarr node.
    InputError
        If it is a file, not an OME-Zarr image, or several images.
    """
    _check_no_file(store)
    node = read_node(store)
    if node is None and (inner := store.zipped_folder()):
        return resolve(store.child(inner))
    if node is None:
        there = store.occupied() if is_local(store.url) else False
        what = "is not a Zarr store: it has neither zarr.json nor .zgroup" if there else "does not exist"
        raise MissingError(
            f"{store.url} {what}. Give the URL of an OME-Zarr image's group; `cellscale import` makes one of TIFFs."
        )
    if node.kind == "array":
        raise InputError(
            f"{store.url} is a plain Zarr array, not an OME-Zarr image. Give the URL of the image's group."
        )
    if "multiscales" in node.ome:
        return store, node
    kind = _collection(node)
    if kind is None:
        checked_version(node, store.url)
        hint = f" It lists the label layers {node.ome['labels']}." if "labels" in node.ome else ""
        raise InputError(
            f"{store.url} is a Zarr group without `multiscales`, not an OME-Zarr image.{hint} Give the image's group."
        )
    children = _children(store, node, limit=4)
    if len(children) == 1:
        return resolve(store.child(children[0]))
    if not children:
        raise InputError(f"{store.url} is {kind} that lists no images. Give an image, or add its images to its list.")
    named = ", ".join(joined(store.url, path) for path in children[:8])
    raise InputError(f"{store.url} is {kind}, not one image. Give one of its images: {named}.")


def list_images(url: str, *, storage_options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """List the images at a URL: the URL itself, or the images of a plate, a well or a collection.

    Parameters
    ----------
    url : str
        An image's group, or a group of such groups.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    tuple of str
        Their URLs, in the order of the collection.

    Raises
    ------
    InputError
        If it is a file.
    StoreError
        If the store cannot be read.
    """
    store = Store(url=address(url), storage_options=dict(storage_options or {}))
    _check_no_file(store)
    node = read_node(store)
    if node is None or "multiscales" in node.ome or _collection(node) is None:
        return (store.url,)
    return tuple(joined(store.url, path) for path in _children(store, node))


def open_image(url: str, *, storage_options: Mapping[str, Any] | None = None) -> NgffImage:
    """Open an OME-Zarr image: 0.4 or 0.5, a folder, a zip file, or any URL that fsspec knows.

    Parameters
    ----------
    url : str
        The image's group; a plate, well or collection is accepted if it holds one image.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    NgffImage
        Parsed metadata; no pixel is read.

    Raises
    ------
    MissingError
        If nothing exists at the URL, or an array is missing.
    InputError
        If it is not an OME-Zarr image of a supported version, with numbers as pixels.
    StoreError
        If the store cannot be read.
    """
    store, node = resolve(Store(url=address(url), storage_options=dict(storage_options or {})))
    found = read_multiscale(store, node)
    pixel_type(found.dtype, store.url)
    if 0 in found.levels[0].shape:
        raise InputError(f"{store.url} has no pixels: its shape is {found.levels[0].shape}.")
    return NgffImage(**common(found), channels=channel_names(node.ome, found.size("c")))
