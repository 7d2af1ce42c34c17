"""The object table of a label layer for other programs: CSV, Parquet, AnnData, and the feature table of ngio."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv

from cellscale.api.annotated_data import annotated_data, check_installed
from cellscale.api.objects import parts
from cellscale.ngff.feature_tables import write_feature_table
from cellscale.ngff.labels import open_labels
from cellscale.ngff.layer_tables import alike, write_parquet
from cellscale.storage.outputs import check_ending, new_file, new_folder
from cellscale.storage.urls import Location, check_apart, url_of


def export_table(
    image: Location, output: Location, *, layer: str = "cells", storage_options: Mapping[str, Any] | None = None
) -> int:
    """Write the object table of a label layer as one file, whose ending chooses the format.

    Parameters
    ----------
    image : str or path
        URL of the image, or of the store that holds the layer.
    output : str or path
        The file, any fsspec URL; it appears when it is complete. `.csv` and `.parquet` have a row for each object;
        `.h5ad`, and `.zarr` for a new folder on this machine, are AnnData and need the extra `anndata`.
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
    InputError
        For another ending.
    MissingError
        If the layer does not exist or has no table, or anndata is not installed.
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.export_table("movie.zarr", "objects.csv", layer="cells") > 0
    True
    """
    image, output = url_of(image, "image"), url_of(output, "output")
    check_apart(image, output)
    write = table_writer(output)
    found = open_labels(image, layer, storage_options=storage_options)
    return write(parts(found), layer, found.storage_options)


def export_ngio(
    image: Location,
    *,
    layer: str = "cells",
    name: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Write the object table of a label layer into the image as a feature table that ngio reads.

    The table is a copy. A layer that replaces this one takes its tables from the list; write them again.

    Parameters
    ----------
    image : str or path
        URL of the image.
    layer : str
        Name of the layer, whose labels are distinct in all frames and slices.
    name : str
        Name of the table; None: that of the layer.
    overwrite : bool
        Replace a table that was written by this function.
    storage_options : mapping
        Options for fsspec.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ExistsError
        If the image has a table of this name that must not be replaced.
    InputError
        If a label occurs in several frames or slices: a feature table has one row for each label.
    MissingError
        If the layer does not exist or has no object table, or its store holds no image.
    StoreError
        If the store cannot be written.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.export_ngio("plate.zarr/A/1/0", layer="cells") > 0
    True
    """
    found = open_labels(url_of(image, "image"), layer, storage_options=storage_options)
    found.store.writable()
    return write_feature_table(found, name or layer, parts(found), overwrite=overwrite)


Writer = Callable[[Iterable[pa.Table], str, Mapping[str, Any] | None], int]
"""Writes the tables of a layer of this name, with options for fsspec; returns the number of rows."""


def table_writer(output: str) -> Writer:
    """Return the function that writes tables of equal columns to an output, chosen by its ending.

    Raises
    ------
    InputError
        For an unknown ending.
    MissingError
        If the package that writes the format is not installed.
    """
    form = check_ending(output, "table", ".csv", ".parquet", ".h5ad", ".zarr")
    streams: dict[str, Callable[[Iterable[pa.Table], IO[bytes], str], int]] = {".csv": _csv, ".parquet": write_parquet}

    def streamed(tables: Iterable[pa.Table], layer: str, storage_options: Mapping[str, Any] | None) -> int:
        with new_file(output, storage_options) as stream:
            return streams[form](tables, stream, output)

    def annotated(tables: Iterable[pa.Table], layer: str, storage_options: Mapping[str, Any] | None) -> int:
        """Write the tables as AnnData; return the number of rows."""
        data = annotated_data(pa.concat_tables(alike(tables, output)), layer)
        if form == ".zarr":
            with new_folder(output) as folder:
                data.write_zarr(folder)
            return int(data.n_obs)
        with TemporaryDirectory() as spool, new_file(output, storage_options) as stream:
            made = Path(spool) / "table.h5ad"
            data.write_h5ad(made)
            with open(made, "rb") as content:
                shutil.copyfileobj(content, stream)
        return int(data.n_obs)

    if form in streams:
        return streamed
    check_installed()
    return annotated


_FORMULA = re.compile(r"[=+\-@\t\r]")
"""Beginning of a cell that spreadsheets take for a formula."""


def _as_text(name: str) -> str:
    """A text that no spreadsheet computes: an apostrophe goes before what looks like a formula."""
    return f"'{name}" if _FORMULA.match(name) else name


def _csv(tables: Iterable[pa.Table], stream: IO[bytes], output: str) -> int:
    """Write tables of equal columns as one CSV file with a header; return the number of rows."""
    rows, writer = 0, None
    for given in alike(tables, output):
        table = given.rename_columns([_as_text(name) for name in given.column_names])
        for number, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                texts = [text if text is None else _as_text(text) for text in table[number].to_pylist()]
                table = table.set_column(number, field, pa.array(texts, pa.string()))
        writer = writer or pa.csv.CSVWriter(stream, table.schema)
        writer.write_table(table)
        rows += table.num_rows
    if writer is not None:
        writer.close()
    return rows
