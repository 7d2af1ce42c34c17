"""The object table of a label layer: read part by part, written as CSV."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cellscale.errors import MissingError
from cellscale.ngff.labels import LabelLayer, open_labels
from cellscale.segmentation.object_table import TABLE, part_names
from cellscale.storage.errors import explained
from cellscale.storage.folder import Folder
from cellscale.storage.urls import address, options_for


def parts(layer: LabelLayer) -> Iterator[pa.Table]:
    """The table's files in the order of frames and labels.

    Raises
    ------
    MissingError
        If the layer has no table.
    """
    folder = Folder(url=f"{layer.url}/{TABLE}", storage_options=layer.storage_options)
    names = part_names(folder.names())
    if not names:
        raise MissingError(f"{layer.url} has no object table; only layers made by `cellscale segment` have one.")
    for name in names:
        yield pq.read_table(io.BytesIO(folder.read(name) or b""))


def export_table(
    image: str, output: str, *, layer: str = "cells", storage_options: Mapping[str, Any] | None = None
) -> int:
    """Write the object table of a label layer as one CSV file with a header.

    Parameters
    ----------
    image : str
        URL of the image, or of the store that holds the layer.
    output : str
        The file, any fsspec URL; it appears when it is complete.
    layer : str
        Name of the layer.
    storage_options : mapping
        Options for fsspec.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    MissingError
        If the layer does not exist or has no table.
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.export_table("movie.zarr", "objects.csv", layer="cells") > 0
    True
    """
    found = open_labels(image, layer, storage_options=storage_options)
    url, rows, writer = address(output), 0, None
    with explained("write", url):
        system, path = fsspec.core.url_to_fs(url, **options_for(url, found.storage_options))
        with system.transaction, system.open(path, "wb") as stream:
            for part in parts(found):
                writer = writer or pa.csv.CSVWriter(stream, part.schema)
                writer.write_table(part)
                rows += part.num_rows
            if writer is not None:
                writer.close()
    return rows
