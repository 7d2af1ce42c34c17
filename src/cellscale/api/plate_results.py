"""Score, measure and draw the layers of all images of a plate or another collection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from cellscale import metrics
from cellscale.api.evaluation import count_layers
from cellscale.api.objects import count_objects, is_measured, measure, parts, plan_table
from cellscale.api.table_files import export_ngio, table_writer
from cellscale.errors import ExistsError, InputError, MissingError
from cellscale.ngff.feature_tables import check_feature_table
from cellscale.ngff.image import open_image
from cellscale.ngff.label_pair import open_pair
from cellscale.ngff.labels import LabelLayer, open_labels
from cellscale.ngff.plates import plate_images
from cellscale.progress import Progress, silent
from cellscale.segmentation.failures import FIRST
from cellscale.segmentation.measurement import level_of
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.storage.folder import check_file, write_file
from cellscale.storage.outputs import check_ending
from cellscale.storage.urls import Location, check_apart, url_of
from cellscale.viewers.pictures import plate_of_counts

log = logging.getLogger("cellscale")
T = TypeVar("T")


def _of_each(plate: str, images: Mapping[str, str], found: Callable[[str], T]) -> dict[str, T]:
    """Results of a function of the URL of each image, by the image's name.

    Raises
    ------
    MissingError, ExistsError, InputError
        If it raises such an error for some of the images: names them, with the reason of the first.
    """
    results, reasons = dict[str, T](), dict[str, MissingError | ExistsError | InputError]()
    for name, url in images.items():
        try:
            results[name] = found(url)
        except (MissingError, ExistsError, InputError) as error:
            reasons[name] = error
    if not reasons:
        return results
    first = next(iter(reasons.values()))
    if list(images) == [""]:
        raise first
    named, more = ", ".join(list(reasons)[:FIRST]), len(reasons) - FIRST
    listed = named + (f" and {more} more" if more > 0 else "")
    # Wells can be chosen of a plate alone.
    remedy = "choose others with --wells" if all("/" in name for name in images) else "give the others one by one"
    raise type(first)(
        f"Cannot use {len(reasons)} of {len(images)} images of {plate}: {listed}. Nothing was done for any of them. "
        f"Correct these, or {remedy}. {next(iter(reasons))}: {first}"
    )


@dataclass(frozen=True, kw_only=True)
class PlateScores:
    """Scores of a plate or collection."""

    total: metrics.Scores
    """Scores of all cells of all images together."""
    images: Mapping[str, metrics.Scores]
    """Scores of each image, by its name."""

    def to_dict(self) -> dict[str, Any]:
        """Return the scores of all cells by name, and under `images` those of each image."""
        return {**self.total.to_dict(), "images": {name: scores.to_dict() for name, scores in self.images.items()}}


def evaluate_plate(
    plate: Location,
    *,
    wells: str | Sequence[str] | None = None,
    layer: str = "cells",
    ground_truth: str = "truth",
    frames: Frames = None,
    ignore_label: int = 0,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> PlateScores:
    """Score a label layer of each image of a plate or collection.

    Parameters
    ----------
    plate, wells
        As for `segment_plate`.
    layer, ground_truth, frames, ignore_label, storage_options, on_progress
        As for `evaluate`.

    Returns
    -------
    PlateScores
        Scores of all cells of all images, and those of each image.

    Raises
    ------
    CellscaleError
        As `evaluate` does, for any of the images.

    Examples
    --------
    >>> from cellscale.api.plate_results import evaluate_plate
    >>> scores = evaluate_plate("plate.zarr", wells="A/1", layer="cells")
    >>> list(scores.images), 0 <= scores.total.f1 <= 1
    (['A/1/0'], True)
    """
    plate = url_of(plate, "plate")
    images = plate_images(plate, wells=wells, storage_options=storage_options)

    def opened(url: str) -> tuple[LabelLayer, LabelLayer, range]:
        found, true = open_pair(url, layer, ground_truth, storage_options=storage_options)
        return found, true, chosen_frames(frames, found.size("t"), url)

    counted = {}
    for number, (name, (found, true, chosen)) in enumerate(_of_each(plate, images, opened).items(), 1):
        counted[name] = count_layers(found, true, chosen, ignore_label=ignore_label)
        on_progress("evaluate", number, len(images))
    total = metrics.total(sums for _, sums in counted.values())
    return PlateScores(
        total=metrics.Scores.of(sum(count for count, _ in counted.values()), total),
        images={name: metrics.Scores.of(count, sums) for name, (count, sums) in counted.items()},
    )


def measure_plate(
    plate: Location, *, wells: str | Sequence[str] | None = None, on_progress: Progress = silent, **options: Any
) -> int:
    """Make the object table of a layer of each image; return the number of rows.

    All images are checked before the first one is measured. A table that the same call has made before is kept, so that
    repeating a call that was stopped continues it.

    Parameters
    ----------
    plate, wells
        As for `segment_plate`.
    on_progress : callable
        Called with step, done and total; counts images.
    **options
        Those of `measure` without `layer_store`: the images have their own layers.

    Returns
    -------
    int
        Number of rows of all tables.

    Raises
    ------
    CellscaleError
        For a plate or wells that do not exist; and as `measure` does, for any of the images: names those without the
        layer, or that have another table already.

    Examples
    --------
    >>> from cellscale.api.plate_results import measure_plate
    >>> measure_plate("plate.zarr", layer="truth")
    9
    """
    if options.pop("layer_store", None) is not None:
        raise InputError("layer_store is for one image; the images of a plate have their own layers. Omit it.")
    plate, storage = url_of(plate, "plate"), options.get("storage_options")
    images = plate_images(plate, wells=wells, storage_options=storage)
    frames, overwrite = options.get("frames"), options.get("overwrite", False)

    def rows_before(url: str) -> int | None:
        """Number of rows of the table that an earlier call has made; None for an image to measure."""
        layer = open_labels(url, options["layer"], storage_options=storage)
        image = open_image(url, storage_options=storage)
        level_of(layer, image)
        if not overwrite and is_measured(image, layer, frames):
            return count_objects(layer)
        plan_table(layer, frames, overwrite=overwrite)
        return None

    rows = _of_each(plate, images, rows_before)
    kept = sum(count is not None for count in rows.values())
    if kept:
        log.info("%d of %d images were measured before", kept, len(images))
    total = 0
    for number, (name, url) in enumerate(images.items(), 1):
        before = rows[name]
        total += measure(url, **options) if before is None else before
        on_progress("measure", number, len(images))
    return total


def export_plate_table(
    plate: Location,
    output: Location,
    *,
    wells: str | Sequence[str] | None = None,
    layer: str = "cells",
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Write the object tables of all images as one file, whose column `image` is the name of the image.

    AnnData also has the columns `well` and `field` of a plate.

    Parameters
    ----------
    plate, wells
        As for `segment_plate`.
    output, layer, storage_options
        As for `export_table`.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    CellscaleError
        As `export_table` does, for any of the images; also if their tables differ in columns.

    Examples
    --------
    >>> from cellscale.api.plate_results import export_plate_table
    >>> export_plate_table("plate.zarr", "objects.parquet", layer="truth")
    9
    """
    plate, output = url_of(plate, "plate"), url_of(output, "output")
    check_apart(plate, output)
    write = table_writer(output)
    images = plate_images(plate, wells=wells, storage_options=storage_options)
    found = _of_each(plate, images, lambda url: parts(open_labels(url, layer, storage_options=storage_options)))
    tables = (
        part.add_column(0, "image", pa.array([name] * len(part), pa.string()))
        for name, of_image in found.items()
        for part in of_image
    )
    return write(tables, layer, storage_options)


def export_plate_ngio(plate: Location, *, wells: str | Sequence[str] | None = None, **options: Any) -> int:
    """Write the object table of each image into it as a feature table of ngio; return the number of rows.

    Parameters
    ----------
    plate, wells
        As for `segment_plate`.
    **options
        Those of `export_ngio`.

    Returns
    -------
    int
        Number of rows of all tables.

    Raises
    ------
    CellscaleError
        For a plate or wells that do not exist; and as `export_ngio` does, for any of the images, before the first table
        is written.

    Examples
    --------
    >>> from cellscale.api.plate_results import export_plate_ngio
    >>> export_plate_ngio("plate.zarr", layer="truth")
    9
    """
    plate, storage = url_of(plate, "plate"), options.get("storage_options")
    images = plate_images(plate, wells=wells, storage_options=storage)
    layer = options.get("layer", "cells")

    def check(url: str) -> None:
        found = open_labels(url, layer, storage_options=storage)
        count_objects(found)
        check_feature_table(found, options.get("name") or layer, overwrite=options.get("overwrite", False))

    _of_each(plate, images, check)
    return sum(export_ngio(url, **options) for url in images.values())


def plate_overview(
    plate: Location,
    *,
    output: Location = "preview.png",
    layer: str = "cells",
    wells: str | Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Draw the number of cells of each well of a plate, rows by columns, as one PNG.

    Parameters
    ----------
    plate, wells, storage_options
        As for `segment_plate`.
    output : str or path
        The PNG, any fsspec URL.
    layer : str
        Layer whose cells are counted, by its object tables.

    Returns
    -------
    dict of str to int
        Number of cells in all frames and fields of each well; of each image in a collection that is not a plate.

    Raises
    ------
    CellscaleError
        For images without the layer or its object table, or a picture that cannot be written or does not end with .png.
    """
    plate, output = url_of(plate, "plate"), url_of(output, "output")
    check_ending(output, "picture", ".png")
    check_file(output, [plate], storage_options)
    images = plate_images(plate, wells=wells, storage_options=storage_options)
    counts: dict[str, int] = {}
    for name, found in _of_each(
        plate, images, lambda url: count_objects(open_labels(url, layer, storage_options=storage_options))
    ).items():
        well = name.rpartition("/")[0] or name
        counts[well] = counts.get(well, 0) + found
    write_file(output, plate_of_counts(counts, f"cells in {layer!r}"), storage_options)
    return counts
