"""New images: arrays first, pixels plane by plane, metadata last, so that an incomplete image is never visible.

An image that replaces another has arrays of other names next to the old ones. The group's document changes from the old
arrays to the new ones in one write, and replaced data are deleted after it. A writer holds nothing open and is
picklable: several processes may write different boxes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.ngff import array_io
from cellscale.ngff.attempts import discard
from cellscale.ngff.metadata import AXES, VERSIONS, Level, omero_document
from cellscale.ngff.multiscale import Multiscale
from cellscale.ngff.pyramids import halved, level_count, mean_of_blocks
from cellscale.ngff.replacing import Place, Replaced, claim_place, switch
from cellscale.storage.pixel_types import pixel_type
from cellscale.storage.urls import address
from cellscale.types import Box

_WINDOW_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class ImageWriter(Multiscale):
    """An image that is being made; a context that removes it after an error and finishes it otherwise."""

    channels: tuple[str, ...]
    """Names of the channels."""
    name: str = ""
    """Name of the image in its metadata; empty: that of its URL."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Kept under `cellscale` in the image's attributes."""
    attempt: str
    """Unique token that distinguishes this writer's data from those of others."""
    overwrite: bool = False
    """Whether it may replace an image that another writer has made."""

    @property
    def place(self) -> Place:
        """The image's group, and this attempt."""
        return Place(store=self.store, version=self.version, attempt=self.attempt, overwrite=self.overwrite)

    def boxes(self, level: int = 0) -> list[Box]:
        """Boxes that may be written one at a time, in raster order."""
        return array_io.grid_boxes(self.plane_shape(level))

    def _put(self, values: NDArray[Any], box: Box, place: tuple[int, int, int], level: int) -> None:
        t, c, z = place
        index = self.index(box, t=t, c=c, z=z, level=level)
        array_io.write_plane(self.store, self.levels[level], self.axes, index, values, empty=True)

    def _get(self, box: Box, place: tuple[int, int, int], level: int) -> NDArray[Any]:
        t, c, z = place
        index = self.index(box, t=t, c=c, z=z, level=level)
        plane: NDArray[Any] = array_io.read_plane(self.store, self.levels[level], self.axes, index)[0]
        return plane

    def write(self, array: NDArray[Any], *, t: int = 0, c: int = 0, z: int = 0, box: Box | None = None) -> None:
        """Write pixels of the finest level.

        Parameters
        ----------
        array : array (y, x)
            Pixels of the image's type, or of one that it holds exactly.
        t, c, z : int
            Frame, channel and slice.
        box : Box, optional
            Whole chunks or shards, e.g. one of `boxes()`; None: the whole plane.

        Raises
        ------
        InputError
            If shape, type or box do not fit.
        StoreError
            If the store cannot be written.
        """
        box = box or Box.of(self.plane_shape())
        if array.shape != box.shape:
            raise InputError(
                f"Frame {t}, channel {c}, slice {z} of {self.url}: expected {box.shape} px, got {array.shape}."
            )
        if not np.can_cast(array.dtype, self.dtype):
            raise InputError(f"Frame {t} of {self.url}: {array.dtype} does not fit into the image's type {self.dtype}.")
        self._put(array.astype(self.dtype, copy=False), box, (t, c, z), 0)

    def flush(self, *, t: int) -> None:
        """Return when the finest level of a frame is on the disk, so that a record may vouch for it."""
        whole = Box.of(self.plane_shape())
        places = np.ndindex(self.size("c"), self.size("z"))
        indices = [self.index(whole, t=t, c=c, z=z) for c, z in places]
        array_io.flush(self.store, self.levels[0], indices)

    def _coarsen(self, box: Box, place: tuple[int, int, int], level: int) -> None:
        finer = Box.of(self.plane_shape(level - 1))
        source = Box(2 * box.y0, 2 * box.x0, 2 * box.y1, 2 * box.x1).clip(finer)
        self._put(mean_of_blocks(self._get(source, place, level - 1)), box, place, level)

    def build(self, level: int, *, t: int) -> None:
        """Write a coarser level of one frame from the level before."""
        for c in range(self.size("c")):
            for z in range(self.size("z")):
                for box in self.boxes(level):
                    self._coarsen(box, (t, c, z), level)

    def _window(self, c: int, frames: Sequence[int]) -> tuple[float, float, float, float]:
        """Display range of a channel: that of the type, and the 0.1 and 99.9 percentiles of the coarsest level."""
        level = len(self.levels) - 1
        whole = Box.of(self.plane_shape(level))
        chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(len(frames), _WINDOW_FRAMES))]
        values = np.concatenate([self._get(whole, (t, c, self.size("z") // 2), level).ravel() for t in chosen])
        finite = values[np.isfinite(values)].astype(np.float64)
        start, end = (float(v) for v in np.percentile(finite, (0.1, 99.9))) if finite.size else (0.0, 1.0)
        if self.dtype.kind in "ui":
            limits = np.iinfo(self.dtype)
            return float(limits.min), float(limits.max), start, max(end, start + 1)
        return min(start, 0.0), max(end, 1.0), start, max(end, start + 1e-6)

    def coarsen(self, frames: Sequence[int] | None = None) -> None:
        """Write the pyramid of these frames, None for all."""
        for level in range(1, len(self.levels)):
            for t in range(self.size("t")) if frames is None else frames:
                self.build(level, t=t)

    def publish(self, frames: Sequence[int] | None = None) -> Replaced:
        """Write the metadata that make it an image; its display range comes from these frames, None for all.

        Returns
        -------
        Replaced
            Data that are no longer needed; call `Replaced.delete` when the image and its layers are complete.

        Raises
        ------
        ExistsError
            If another writer came first and must not be replaced.
        """
        name = self.name or self.url.rsplit("/", 1)[-1].split(".")[0]
        # The document that names the arrays is written after all of them are on the disk.
        for level in self.levels:
            self.store.folder.child(level.path).flush_all()
        shown = range(self.size("t")) if frames is None else frames
        omero = omero_document(self.channels, [self._window(c, shown) for c in range(self.size("c"))])
        return switch(self.place, {"multiscales": [self.document(name)], "omero": omero}, self.metadata)

    def finish(self, frames: Sequence[int] | None = None) -> None:
        """Write the pyramid of these frames, None for all, then the metadata; last, delete the replaced data."""
        self.coarsen(frames)
        self.publish(frames).delete()

    def remove(self) -> None:
        """Delete the data of this writer, unless they are published; those of other writers stay."""
        discard(self.store, self.attempt)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the image, or remove it after an error."""
        if error is not None:
            self.remove()
            return
        try:
            self.finish()
        except BaseException:
            self.remove()
            raise


def _levels(axes: Sequence[str], sizes: Mapping[str, int], steps: Mapping[str, float], count: int) -> tuple[Level, ...]:
    """Levels with the names 0, 1 and so on."""
    levels, (height, width) = [], (sizes["y"], sizes["x"])
    for number in range(count):
        now = {**sizes, "y": height, "x": width}
        factors = {"y": 2.0**number, "x": 2.0**number}
        scale = tuple(steps.get(axis, 1.0) * factors.get(axis, 1.0) for axis in axes)
        # A coarser pixel is the mean of a block of the finest ones, and its centre lies between theirs.
        translation = tuple(steps.get(axis, 1.0) * (factors.get(axis, 1.0) - 1) / 2 for axis in axes)
        shape = tuple(now[axis] for axis in axes)
        levels.append(Level(path=str(number), shape=shape, scale=scale, translation=translation))
        height, width = halved((height, width))
    return tuple(levels)


def _checked(axes: Sequence[str], shape_tczyx: Sequence[int], version: str, channels: Sequence[str]) -> dict[str, int]:
    sizes = dict(zip(AXES, shape_tczyx, strict=True))
    if version not in VERSIONS:
        raise InputError(f"NGFF version {version!r} cannot be written; expected one of {', '.join(VERSIONS)}.")
    if [axis for axis in AXES if axis in axes] != list(axes) or not {"y", "x"} <= set(axes):
        raise InputError(f"Axes {''.join(axes)!r}: expected a selection of tczyx in this order, with y and x.")
    if min(sizes.values()) < 1:
        raise InputError(f"An image of shape {tuple(shape_tczyx)} (t, c, z, y, x) has no pixels.")
    lost = [axis for axis in AXES if axis not in axes and sizes[axis] > 1]
    if lost:
        raise InputError(f"Axes {''.join(axes)!r} lack {', '.join(lost)}, whose length is more than 1.")
    if channels and len(channels) != sizes["c"]:
        raise InputError(f"{len(channels)} channel names for {sizes['c']} channels.")
    return sizes


class ImageOptions(TypedDict, total=False):
    """Options for creating an image."""

    version: str
    """NGFF version, 0.4 or 0.5. Default: 0.5."""
    name: str
    """Name of the image in its metadata. Default: the last part of its URL."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel, µm."""
    z_step_um: float | None
    """Distance of two slices, µm."""
    frame_interval_s: float | None
    """Time between two frames, s."""
    channels: Sequence[str]
    """Names of the channels."""
    levels: int | None
    """Number of levels; None: until both sides are at most 512 px."""
    storage_options: Mapping[str, Any] | None
    """For fsspec."""
    attempt: str
    """Token of this attempt to make the image. One that was given before finds its arrays again; new where it is left
    out."""


def _steps(options: ImageOptions) -> dict[str, float]:
    """Lengths of the steps along the axes, µm and s, where they are known."""
    height, width = options.get("pixel_size_um") or (None, None)
    steps = {"t": options.get("frame_interval_s"), "z": options.get("z_step_um"), "y": height, "x": width}
    wrong = {axis: step for axis, step in steps.items() if step is not None and not (step > 0 and np.isfinite(step))}
    if wrong:
        raise InputError(f"Pixel sizes and intervals must be positive; got {wrong}.")
    return {axis: float(step) for axis, step in steps.items() if step is not None}


def create_image(
    url: str,
    *,
    shape_tczyx: Sequence[int],
    dtype: Any,
    axes: Sequence[str],
    overwrite: bool = False,
    **options: Unpack[ImageOptions],
) -> ImageWriter:
    """Start a new image: create its arrays and return their writer.

    Parameters
    ----------
    url : str
        URL of the new image: a free place, or with `overwrite` a Zarr store.
    shape_tczyx : five ints
        Lengths of all axes.
    dtype : dtype
        Integers, floats or booleans.
    axes : sequence of str
        Which axes are stored: a selection of t, c, z, y, x in this order.
    overwrite : bool
        Replace an existing Zarr store.
    **options
        See `ImageOptions`.

    Returns
    -------
    ImageWriter
        Write all planes, then call `finish()`; or use it as a context manager.

    Raises
    ------
    ExistsError
        If the place is occupied.
    InputError
        If the arguments contradict one another.
    """
    version, names = options.get("version", "0.5"), tuple(options.get("channels", ()))
    pixels = pixel_type(dtype, url)
    sizes, steps = _checked(axes, shape_tczyx, version, names), _steps(options)
    count = options.get("levels") or level_count((sizes["y"], sizes["x"]))
    writer = ImageWriter(
        url=address(url),
        storage_options=dict(options.get("storage_options") or {}),
        version=version,
        axes=tuple(axes),
        units=tuple(("second" if axis == "t" else "micrometer") if axis in steps else None for axis in axes),
        levels=_levels(axes, sizes, steps, count),
        channels=names or tuple(str(c) for c in range(sizes["c"])),
        dtype=pixels,
        attempt=options.get("attempt") or uuid.uuid4().hex[:16],
        overwrite=overwrite,
        name=options.get("name", ""),
    )
    prefix = claim_place(writer.place)
    writer = replace(writer, levels=tuple(replace(level, path=f"{prefix}{level.path}") for level in writer.levels))
    return replace(writer, levels=writer.created())
