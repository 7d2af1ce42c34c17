"""The object table of a label layer: measured, counted, read part by part."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from cellscale.errors import InputError, MissingError, StoreError
from cellscale.ngff.frame_ranges import annotated_among
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import LabelLayer, open_labels
from cellscale.ngff.layer_tables import (
    MEASURED,
    count_rows,
    new_table,
    part_name,
    switch_table,
    table_files,
    table_parts,
)
from cellscale.progress import Progress, silent
from cellscale.segmentation.measurement import measured_planes
from cellscale.segmentation.object_table import parquet
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.storage.folder import Folder
from cellscale.storage.urls import Location, url_of

KEPT = {
    "track": "tracks (track, parent, generation, velocity). Measure the layer that was tracked",
    "volume_px": "objects over several slices (volume, centroid along z). Export it as it is",
}
"""Columns that only the command which made a layer can fill, and so no new measurement may replace."""


def parts(layer: LabelLayer) -> Iterator[pa.Table]:
    """The table's files in the order of frames and labels.

    Raises
    ------
    MissingError
        If the layer has no table.
    """
    _check_table(layer)
    return table_parts(layer)


def _check_table(layer: LabelLayer) -> None:
    """Raise MissingError if a layer has no table."""
    if not table_files(layer)[1]:
        raise MissingError(f"{layer.url} has no object table; make one with `cellscale measure`.")


def _check_replaceable(layer: LabelLayer) -> None:
    """Refuse a layer whose table has columns that a measurement plane by plane does not have."""
    try:
        held = next(table_parts(layer, tuple(KEPT)), None)
    except StoreError:
        return  # nobody can read this table, and a new one replaces it
    for column in held.column_names if held is not None else ():
        raise InputError(
            f"The object table of {layer.url} has {KEPT[column]}, or compute this layer again: a new measurement would "
            "lose these columns."
        )


def _measurable(layer: LabelLayer, frames: Frames) -> list[int]:
    """The chosen frames that have labels; MissingError if there are none."""
    return annotated_among(layer, chosen_frames(frames, layer.size("t"), layer.url))


def plan_table(layer: LabelLayer, frames: Frames, *, overwrite: bool) -> tuple[str, list[int]]:
    """Name of the folder of a new table, and the frames that it will have; nothing is written.

    Raises
    ------
    ExistsError
        If the layer has a table and `overwrite` is not set.
    MissingError
        If none of the frames has labels.
    InputError
        If the existing table has columns that a new one would not have.
    """
    made = new_table(layer, overwrite=overwrite)
    _check_replaceable(layer)
    return made, _measurable(layer, frames)


def measurement(image: NgffImage, layer: LabelLayer, frames: Sequence[int]) -> str:
    """Digest of what a table depends on: the layer, the image as its metadata describe it, frames and version."""
    levels = [dataclasses.asdict(dataclasses.replace(level, document=None)) for level in image.levels]
    described = (levels, image.axes, image.units, image.channels, str(image.dtype))
    text = json.dumps([described, layer.attempt, list(frames), version("cellscale")])
    return hashlib.sha256(text.encode()).hexdigest()


def is_measured(image: NgffImage, layer: LabelLayer, frames: Frames) -> bool:
    """Whether a layer has the table that `measure` would make."""
    chosen = _measurable(layer, frames)
    return layer.table is not None and layer.metadata.get(MEASURED) == measurement(image, layer, chosen)


def count_objects(layer: LabelLayer) -> int:
    """Count the rows of a layer's table; only the end of each file is read, where Parquet keeps their number.

    Raises
    ------
    MissingError
        If the layer has no table.
    """
    _check_table(layer)
    return count_rows(layer)


def measure(
    image: Location,
    *,
    layer: str,
    layer_store: Location | None = None,
    frames: Frames = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> int:
    """Make the object table of any label layer: imported, corrected, or written by another program.

    The columns are those of a segmentation, and the same sums fill them; `cut` and `unconverged` are false. The table
    is computed tile by tile and kept on this machine until it is complete, then written into the layer. A table that is
    there already stays until the new one is complete.

    Parameters
    ----------
    image : str or path
        URL of the image.
    layer : str
        Name of the layer.
    layer_store : str
        Store that holds the layer; None: the image's own.
    frames : tuple of int
        Half-open range of frames; None: all that the layer lists as annotated.
    overwrite : bool
        Replace the layer's table.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ExistsError
        If the layer has a table and `overwrite` is not set.
    MissingError
        If none of the frames has labels.
    InputError
        If the layer's table has columns that only `track`, or a segmentation linked along z, can fill.
    CellscaleError
        For an image, layer or frames that do not exist, sizes that differ, or a store that cannot be written.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.measure("movie.zarr", layer="truth") > 0
    True
    """
    image = url_of(image, "image")
    pixels = open_image(image, storage_options=storage_options)
    labels = open_labels(url_of(layer_store or image), layer, storage_options=storage_options)
    made, chosen = plan_table(labels, frames, overwrite=overwrite)
    # A table of many frames takes hours and is written last.
    labels.store.folder.check_writable()
    rows, total = 0, len(chosen) * labels.size("z")
    with TemporaryDirectory() as kept:
        spool = Path(kept)
        for done, (plane, table) in enumerate(measured_planes(labels, pixels, chosen), 1):
            (spool / part_name(plane, 0)).write_bytes(parquet(table))
            rows += len(table)
            on_progress("measure", done, total)
        _write(labels.store.folder.child(made), spool)
    switch_table(labels, made, measurement(pixels, labels, chosen))
    return rows


def _write(folder: Folder, spool: Path) -> None:
    """Copy a complete table from this machine into a folder; no other process may write there meanwhile."""
    names = [path.name for path in spool.iterdir()]
    for name in names:
        folder.write(name, (spool / name).read_bytes(), flush=False)
    folder.flush(names)
    if folder.names() != set(names):
        raise StoreError(f"Another process writes an object table into {folder.url}. Measure again with --overwrite.")
