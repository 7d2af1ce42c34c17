"""Plates and other collections: several images below one URL, each named by its path, such as A/1/0.

Paths come from the metadata of the plate and its wells and lead to places below the plate. Plate and well metadata are
written by ome-zarr, which checks rows, columns and wells against one another.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cellscale.errors import InputError, MissingError
from cellscale.ngff.image import list_images
from cellscale.ngff.metadata import VERSIONS
from cellscale.ngff.stores import Store
from cellscale.storage.errors import explained
from cellscale.storage.urls import Location, address, url_of


def plate_images(
    url: Location, *, wells: str | Sequence[str] | None = None, storage_options: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """List the images of a plate, a well or a collection.

    Parameters
    ----------
    url : str or path
        The plate, well or collection; a single image is a collection of one, with the name "".
    wells : str or sequence of str, optional
        Wells of a plate as ROW/COLUMN, where `*` and `?` stand for any characters, e.g. "A/1,B/*"; None: all.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    dict of str to str
        URL of each image by its path below `url`: ROW/COLUMN/FIELD in a plate.

    Raises
    ------
    MissingError
        If no well matches one of the patterns, or the collection holds no image.
    InputError
        If wells are given for an image or a collection that is not a plate.

    Examples
    --------
    >>> import cellscale
    >>> list(cellscale.plate_images("plate.zarr", wells="A/*"))
    ['A/1/0', 'A/2/0']
    """
    root = address(url_of(url, "plate")).rstrip("/")
    found = {image[len(root) :].strip("/"): image for image in list_images(root, storage_options=storage_options)}
    if not found:
        raise MissingError(f"{root} names no images. Give the URL of an image, a plate or a collection.")
    return found if wells is None else _of_wells(found, wells, root)


def _of_wells(images: Mapping[str, str], wells: str | Sequence[str], root: str) -> dict[str, str]:
    """Images whose wells match one of the patterns, in the order of the plate."""
    patterns = [word.strip() for word in (wells.split(",") if isinstance(wells, str) else wells)]
    names = {name: "/".join(name.split("/")[:2]) for name in images}
    if not all("/" in name for name in names.values()):
        raise InputError(f"{root} is not a plate, and --wells selects wells of a plate. Omit --wells.")
    for pattern in patterns:
        if not any(fnmatchcase(well, pattern) for well in names.values()):
            known = ", ".join(list(dict.fromkeys(names.values()))[:12])
            raise MissingError(f"No well of {root} matches {pattern!r}; it has {known}. Expected e.g. A/1 or B/*.")
    return {
        name: images[name] for name, well in names.items() if any(fnmatchcase(well, pattern) for pattern in patterns)
    }


def _ome_zarr(module: str) -> Any:
    """Import a module of ome-zarr on first use: it loads dask, and issues a warning about one of its own classes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Call to deprecated class Scaler", DeprecationWarning)
        return importlib.import_module(f"ome_zarr.{module}")


def write_plate(
    url: Location,
    fields: Mapping[str, Sequence[str]],
    *,
    version: str = "0.5",
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Make a plate of existing images: write the metadata of each well, then of the plate.

    Parameters
    ----------
    url : str or path
        The plate.
    fields : mapping of str to sequences of str
        Names of the images in the group of each well, by the well's ROW/COLUMN.
    version : str
        NGFF version, 0.4 or 0.5; that of the images.
    storage_options : mapping, optional
        For fsspec.

    Raises
    ------
    InputError
        For a version that cannot be written, or wells that are not named ROW/COLUMN.
    StoreError
        If the plate cannot be written.

    Examples
    --------
    >>> import cellscale
    >>> for well in ("A/1", "A/2", "B/1"):
    ...     image = cellscale.synthesize(f"plate.zarr/{well}/0", shape=(1, 64, 64), cells=3)
    >>> cellscale.write_plate("plate.zarr", {well: ["0"] for well in ("A/1", "A/2", "B/1")})
    """
    if version not in VERSIONS:
        raise InputError(f"NGFF version {version!r} cannot be written; expected one of {', '.join(VERSIONS)}.")
    wrong = [well for well in fields if well.count("/") != 1 or not all(part.isalnum() for part in well.split("/"))]
    if wrong or not fields:
        raise InputError(f"{(wrong or [''])[0]!r} is not a valid name of a well; expected ROW/COLUMN, e.g. A/1.")
    writer, fmt = _ome_zarr("writer"), _ome_zarr("format").format_from_version(version)
    store = Store(url=address(url_of(url, "plate")), storage_options=dict(storage_options or {}))
    rows, columns = (sorted({well.split("/")[axis] for well in fields}) for axis in (0, 1))
    with explained("write plate", store.url, store.storage_options), store.group(fmt.zarr_format) as plate:
        for well, images in fields.items():
            plate.require_group(well.split("/")[0])
            writer.write_well_metadata(plate.require_group(well), list(images), fmt=fmt)
        writer.write_plate_metadata(
            plate, rows, columns, list(fields), fmt=fmt, field_count=max(map(len, fields.values()))
        )
