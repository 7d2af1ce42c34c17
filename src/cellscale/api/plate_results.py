"""Score, measure and draw the layers of all images of a plate or another collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cellscale import metrics
from cellscale.api.evaluation import count_layers
from cellscale.api.objects import count_objects, measure, parts
from cellscale.api.table_files import export_ngio, table_writer
from cellscale.ngff.label_pair import open_pair
from cellscale.ngff.labels import open_labels
from cellscale.ngff.plates import plate_images
from cellscale.progress import Progress, silent
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.storage.folder import check_file, write_file
from cellscale.storage.urls import Location, check_apart, url_of
from cellscale.viewers.pictures import plate_of_counts


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
    images = plate_images(url_of(plate, "plate"), wells=wells, storage_options=storage_options)
    counted = {}
    for number, (name, url) in enumerate(images.items(), 1):
        found, true = open_pair(url, layer, ground_truth, storage_options=storage_options)
        counted[name] = count_layers(
            found, true, chosen_frames(frames, found.size("t"), url), ignore_label=ignore_label
        )
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

    Parameters
    ----------
    plate, wells
        As for `segment_plate`.
    on_progress : callable
        Called with step, done and total; counts images.
    **options
        Those of `measure`.

    Returns
    -------
    int
        Number of rows of all tables.

    Raises
    ------
    CellscaleError
        For a plate or wells that do not exist; and as `measure` does, for the first image that fails. Tables of the
        images before it stay.

    Examples
    --------
    >>> from cellscale.api.plate_results import measure_plate
    >>> measure_plate("plate.zarr", layer="truth")
    9
    """
    images = plate_images(url_of(plate, "plate"), wells=wells, storage_options=options.get("storage_options"))
    rows = 0
    for number, url in enumerate(images.values(), 1):
        rows += measure(url, **options)
        on_progress("measure", number, len(images))
    return rows


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
    tables = (
        part.add_column(0, "image", pa.array([name] * len(part), pa.string()))
        for name, url in images.items()
        for part in parts(open_labels(url, layer, storage_options=storage_options))
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
        For a plate or wells that do not exist; and as `export_ngio` does, for the first image that fails. Tables of
        the images before it stay.

    Examples
    --------
    >>> from cellscale.api.plate_results import export_plate_ngio
    >>> export_plate_ngio("plate.zarr", layer="truth")
    9
    """
    images = plate_images(url_of(plate, "plate"), wells=wells, storage_options=options.get("storage_options"))
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
        For images without the layer or its object table, or a picture that cannot be written.
    """
    check_file(url_of(output, "output"), [url_of(plate)], storage_options)
    counts: dict[str, int] = {}
    for name, url in plate_images(plate, wells=wells, storage_options=storage_options).items():
        well = name.rpartition("/")[0] or name
        found = count_objects(open_labels(url, layer, storage_options=storage_options))
        counts[well] = counts.get(well, 0) + found
    write_file(url_of(output, "output"), plate_of_counts(counts, f"cells in {layer!r}"), storage_options)
    return counts
