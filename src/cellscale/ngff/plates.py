"""Plates and other collections: several images below one URL, each named by its path, such as A/1/0.

Paths come from the metadata of the plate and its wells and lead to places below the plate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cellscale.errors import InputError, MissingError
from cellscale.ngff.image import list_images
from cellscale.ngff.metadata import VERSIONS
from cellscale.ngff.plate_documents import check_fields, check_images, write_documents
from cellscale.ngff.stores import Store
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


def write_plate(
    url: Location,
    fields: Mapping[str, Sequence[str]],
    *,
    version: str = "0.5",
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Make a plate of existing images: write the metadata of each well, then of the plate.

    A plate that exists keeps its wells, and they their images; the new ones are added.

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
        For a version that cannot be written or that images do not have, wells that are not named ROW/COLUMN, or images
        whose names are not valid.
    MissingError
        For images that do not exist.
    ExistsError
        If plate or well are something else, such as an image. Nothing is written then, as after any of the errors
        above.
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
    named = check_fields(fields)
    store = Store(url=address(url_of(url, "plate")), storage_options=dict(storage_options or {}))
    check_images(store, version, named)
    write_documents(store, version, named)
