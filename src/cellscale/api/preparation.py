"""Prepare an image for segmentation: flat-field, background, noise and drift, frame by frame."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from cellscale import sources
from cellscale.engine.ray_dask import dask_on_ray
from cellscale.errors import InputError
from cellscale.ngff.attempts import attempt_of, published
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.metadata import read_node
from cellscale.ngff.stores import Store
from cellscale.ngff.writer import ImageWriter, create_image
from cellscale.preparation import filters
from cellscale.preparation.options import PreparationKeywords, PreparationOptions
from cellscale.progress import Progress, silent
from cellscale.settings.keywords import check_backend, options_from
from cellscale.storage.folder import Folder
from cellscale.storage.urls import Location, check_apart, url_of
from cellscale.storage.urls import address as address_of
from cellscale.types import Box

FLAT_FIELD_FRAMES = 31
"""Most frames whose median estimates a flat-field."""

Scheduler: TypeAlias = Callable[..., Any] | str
"""A function or name for `scheduler=` of dask."""


def prepare(
    image: Location,
    output: Location,
    *,
    backend: Literal["ray", "serial"] = "ray",
    address: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
    **options: Unpack[PreparationKeywords],
) -> str:
    """Write an image whose shading, background, noise and drift are corrected, as another OME-Zarr image of float32.

    Memory holds the slices of one frame's plane, and as many frames as the median of a flat-field needs. The result
    does not depend on chunks and backend. A run that was stopped resumes with the frame it was at when the same command
    is repeated; frames whose pixels have changed meanwhile are computed again. The options are noted in the image's
    attributes under `cellscale`.

    Parameters
    ----------
    image : str or path
        URL of the image.
    output : str or path
        URL of the image to write.
    backend : {"ray", "serial"}
        Compute the chunks of a plane on a Ray cluster, or in threads of this process without Ray.
    address : str
        Address of a Ray cluster; None: RAY_ADDRESS, or a Ray started on this machine.
    overwrite : bool
        Replace an image at `output` when the new one is complete.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.
    **options
        flat_field, flat_field_um, dark, background_um, background_filter, median_px, gaussian_px, drift, z_projection,
        chunk_px: as `cellscale.preparation.options.PreparationOptions` says.

    Returns
    -------
    str
        URL of the new image.

    Raises
    ------
    CellscaleError
        For an image that does not exist, an image without a pixel size where µm are given, options that are not valid,
        filters that are larger than the image, pixels that are not finite numbers of float32, or an output that exists
        or is the image.

    Examples
    --------
    >>> import cellscale
    >>> url = cellscale.prepare("movie.zarr", "prepared.zarr", median_px=3, drift=True, backend="serial")
    >>> cellscale.open_image(url).shape == cellscale.open_image("movie.zarr").shape
    True
    """
    check_backend(backend)
    chosen = options_from(PreparationOptions, options, "a preparation")
    source_url, output_url = url_of(image, "image"), url_of(output, "output")
    check_apart(source_url, output_url)
    source = open_image(source_url, storage_options=storage_options)
    work = _Work(source=source, options=chosen)
    work.check_sizes()
    writer = _writer(work, output_url, overwrite)
    with nullcontext("threads") if backend == "serial" else dask_on_ray(address) as scheduler:
        _write_frames(work, writer, scheduler, on_progress)
    writer.coarsen()
    writer.publish().delete()
    _records(writer).remove()
    return writer.url


@dataclass(frozen=True, kw_only=True)
class _Work:
    """An image and the steps to apply to it."""

    source: NgffImage
    options: PreparationOptions

    @property
    def depth(self) -> int:
        """Number of slices of the result."""
        return 1 if self.options.z_projection else self.source.size("z")

    def plane(self, t: int, c: int, z: int) -> NDArray[Any]:
        """Pixels of a plane, (y, x), projected if that was asked for."""
        box = Box.of(self.source.plane_shape())
        projection = self.options.z_projection
        slices = [z] if projection is None else range(self.source.size("z"))
        planes: list[NDArray[Any]] = [self.source.read(box, t=t, z=one, channels=[c])[0] for one in slices]
        for one, pixels in zip(slices, planes, strict=True):
            _check_finite(pixels, f"frame {t}, channel {c}, slice {one} of {self.source.url}")
        if projection is None:
            return planes[0]
        projected: NDArray[Any] = getattr(np, projection)(np.stack(planes), axis=0)
        return projected

    def check_sizes(self) -> None:
        """Refuse filters that are larger than the image; a median filter of the background ends at the image's edge."""
        height, width = self.source.plane_shape()
        chosen, longest = self.options, max(height, width)
        gaussians = {"flat_field_um": chosen.flat_field_um}
        if chosen.background_filter == "gaussian":
            gaussians["background_um"] = chosen.background_um
        sizes = {name: (value, max(self.pixels(value) or (0.0,)), longest) for name, value in gaussians.items()}
        sizes["median_px"] = (chosen.median_px, chosen.median_px, min(height, width))
        sizes["gaussian_px"] = (chosen.gaussian_px, chosen.gaussian_px, longest)
        for name, (given, size_px, most) in sizes.items():
            if size_px > most:
                raise InputError(
                    f"{name} = {given} is {size_px:g} px; {self.source.url} has {height} × {width} px. "
                    f"Give at most {most} px."
                )

    def pixels(self, size_um: float | None) -> tuple[float, float] | None:
        """A size in px along y and x."""
        if size_um is None:
            return None
        pixel = self.source.pixel_size_um()
        if pixel is None:
            raise InputError(
                f"{self.source.url} has no pixel size in µm, which sizes in µm need. Import it with --pixel-size."
            )
        return size_um / pixel[0], size_um / pixel[1]

    @cached_property
    def references(self) -> tuple[Any, NDArray[np.float64] | None]:
        """Dark frame, a number or (c, y, x), and the given flat-field, (c, y, x), as they are divided by."""
        given = self.options.dark
        dark: Any = float(given) if isinstance(given, int | float) else self._reference(given, "dark")
        if not np.isfinite(dark).all():
            raise InputError("The dark frame must have finite values.")
        if self.options.flat_field is None:
            return dark, None
        flat = self._reference(self.options.flat_field, "flat_field") - dark
        mean = flat.mean(axis=(1, 2), keepdims=True)
        if not (np.isfinite(flat).all() and (mean > 0).all()):
            raise InputError("The flat-field without the dark frame must have finite values and a positive mean.")
        return dark, np.maximum(flat / mean, filters.LEAST_FLAT)

    def _reference(self, given: Location | NDArray[Any], name: str) -> NDArray[np.float64]:
        """A given image as (c, y, x), one plane for each channel of the source."""
        planes = _reference_planes(given, self.source.storage_options)
        expected = self.source.plane_shape()
        if planes.shape[1:] != expected or planes.shape[0] not in (1, self.source.size("c")):
            raise InputError(
                f"{name} has {planes.shape[0]} channels of {planes.shape[1:]} px; expected 1 or "
                f"{self.source.size('c')} channels of {expected} px, as {self.source.url} has."
            )
        return np.broadcast_to(planes, (self.source.size("c"), *expected)).astype(np.float64)

    def steps(self, c: int, flat: NDArray[np.float64] | None) -> filters.Steps:
        """Steps for the planes of a channel."""
        dark, given = self.references
        return filters.Steps(
            dark=dark if isinstance(dark, float) else dark[c],
            flat=flat if given is None else given[c],
            background_px=self.pixels(self.options.background_um),
            background_filter=self.options.background_filter,
            median_px=self.options.median_px,
            gaussian_px=self.options.gaussian_px,
        )

    def flat_fields(self) -> dict[tuple[int, int], NDArray[np.float64]]:
        """Flat-field of each channel and slice, estimated from evenly spaced frames; empty: not wanted."""
        sigma_px = self.pixels(self.options.flat_field_um)
        if sigma_px is None:
            return {}
        frames = np.unique(np.linspace(0, self.source.size("t") - 1, FLAT_FIELD_FRAMES).round().astype(int))
        found = {}
        for c, z in np.ndindex(self.source.size("c"), self.depth):
            median = np.median([self.plane(int(t), c, z) for t in frames], axis=0).astype(np.float64)
            median -= self.steps(c, None).dark
            found[c, z] = filters.flat_field(median, sigma_px, chunk_px=self.options.chunk_px)
        return found


def _check_finite(pixels: NDArray[Any], place: str) -> None:
    """Refuse pixels that the prepared image, of float32, cannot hold: after a filter there would be more of them."""
    if pixels.dtype.kind != "f":
        return
    wrong = ~(np.abs(pixels) <= np.finfo(np.float32).max)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"Pixel (y {row}, x {column}) of {place} is {pixels[row, column]}; expected a finite number of float32. "
            "Replace it."
        )


def _reference_planes(given: Location | NDArray[Any], storage_options: Mapping[str, Any]) -> NDArray[Any]:
    """A given image as (c, y, x); several frames or slices are replaced by their median."""
    if isinstance(given, np.ndarray):
        if given.ndim not in (2, 3):
            raise InputError(f"An array of shape {given.shape} is not a reference image; expected (y, x) or (c, y, x).")
        return given if given.ndim == 3 else given[None]
    url = url_of(given)
    if sources.is_source(url):
        file = sources.open_source(url)
        planes = [
            np.stack([file.plane(t, c, z) for c in range(file.shape[1])])
            for t, z in np.ndindex(file.shape[0], file.shape[2])
        ]
    else:
        image = open_image(url, storage_options=storage_options)
        whole, (frames, slices) = Box.of(image.plane_shape()), (image.size("t"), image.size("z"))
        planes = [image.read(whole, t=t, z=z) for t, z in np.ndindex(frames, slices)]
    median: NDArray[Any] = np.median(planes, axis=0)
    return median


def _writer(work: _Work, url: str, overwrite: bool) -> ImageWriter:
    """The new image; the attempt of an equal command that was stopped is continued."""
    source = work.source
    axes = tuple(axis for axis in "tczyx" if axis in source.axes and (axis != "z" or not work.options.z_projection))
    made = {**work.options.noted(), "source": source.url}
    there = read_node(Store(url=address_of(url), storage_options=source.storage_options))
    # An image that an equal command has finished is replaced by another attempt, which must not have its name.
    before = attempt_of(there) if published(there) else None
    digest = hashlib.blake2b(json.dumps([made, before], sort_keys=True).encode(), digest_size=8)
    for reference in work.references:
        digest.update(b"" if reference is None else np.asarray(reference).tobytes())
    writer = create_image(
        url,
        shape_tczyx=(source.size("t"), source.size("c"), work.depth, source.size("y"), source.size("x")),
        dtype=np.float32,
        axes=axes,
        overwrite=overwrite,
        version=source.version,
        pixel_size_um=source.pixel_size_um(),
        z_step_um=None if work.options.z_projection else source.z_step_um(),
        frame_interval_s=source.frame_interval_s(),
        channels=source.channels,
        storage_options=source.storage_options,
        attempt=digest.hexdigest(),
    )
    return dataclasses.replace(writer, metadata={"preparation": made})


def _records(writer: ImageWriter) -> Folder:
    """Folder of the records of complete frames, next to the image's arrays."""
    return writer.store.folder.child(f"{writer.attempt}-frames")


def _write_frames(work: _Work, writer: ImageWriter, scheduler: Scheduler, on_progress: Progress) -> None:
    """Write every frame that has no record of the same source pixels."""
    flats, records = work.flat_fields(), _records(writer)
    shading = hashlib.blake2b(digest_size=16)
    for flat in flats.values():
        shading.update(flat.tobytes())
    total, recorded = writer.size("t"), records.names()
    moved: tuple[float, float] = (0.0, 0.0)
    before: NDArray[np.float64] | None = None
    for t in range(total):
        planes = {(c, z): work.plane(t, c, z) for c, z in np.ndindex(writer.size("c"), writer.size("z"))}
        digest = shading.copy()
        for plane in planes.values():
            digest.update(np.ascontiguousarray(plane).tobytes())
        # With drift a frame follows from all before it.
        shading = digest if work.options.drift else shading
        name, key = f"{t}.json", digest.hexdigest()
        known = _recorded(records.read_json(name), key) if name in recorded else None
        if known is not None:
            moved, before = known, None
            on_progress("prepare", t + 1, total)
            continue
        filtered = {place: _filtered(work, plane, place, flats, scheduler) for place, plane in planes.items()}
        if work.options.drift:
            if t and before is None:
                before = _filtered(work, work.plane(t - 1, 0, 0), (0, 0), flats, scheduler)
            now = filtered[0, 0]
            step = (0.0, 0.0) if before is None else filters.drift(before, now)
            moved, before = (moved[0] + step[0], moved[1] + step[1]), now
        for (c, z), plane in filtered.items():
            lazy = filters.shifted(plane, moved, chunk_px=work.options.chunk_px)
            writer.write(lazy.compute(scheduler=scheduler).astype(np.float32), t=t, c=c, z=z)
        writer.flush(t=t)
        records.write_json(name, {"source": key, "moved": moved})
        on_progress("prepare", t + 1, total)


def _recorded(record: Any, source: str) -> tuple[float, float] | None:
    """Shift of a frame by its record, px; None for a record of other pixels, or of another form."""
    moved = record.get("moved") if isinstance(record, dict) and record.get("source") == source else None
    if not isinstance(moved, list) or len(moved) != 2:
        return None
    fits = all(type(step) in (int, float) and math.isfinite(step) for step in moved)
    return (float(moved[0]), float(moved[1])) if fits else None


def _filtered(
    work: _Work,
    plane: NDArray[Any],
    place: tuple[int, int],
    flats: Mapping[tuple[int, int], NDArray[np.float64]],
    scheduler: Scheduler,
) -> NDArray[np.float64]:
    """A plane at (channel, slice) after all steps but the drift."""
    lazy = filters.prepared(plane, work.steps(place[0], flats.get(place)), chunk_px=work.options.chunk_px)
    done: NDArray[np.float64] = lazy.compute(scheduler=scheduler)
    return done
