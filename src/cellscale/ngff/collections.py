"""Collections: a group with one image in each of the groups 0, 1, … below it, in the bioformats2raw layout.

The images are written first, the group's own metadata last: a half-made collection is not one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from cellscale.ngff.image import NgffImage
from cellscale.ngff.import_labels import Planes
from cellscale.ngff.import_planes import ImportOptions, import_planes
from cellscale.ngff.metadata import write_group
from cellscale.ngff.stores import Store
from cellscale.progress import silent
from cellscale.storage.urls import address

_LAYOUT = 3
"""The version of the layout that NGFF knows."""


def import_collection(
    images: Sequence[tuple[Planes, Planes | None]], destination: str, **options: Unpack[ImportOptions]
) -> tuple[NgffImage, ...]:
    """Copy several images, with the labels of each, into a new collection.

    Parameters
    ----------
    images : sequence of tuple
        Each image and its labels, or None.
    destination : str
        URL of the new collection; its images are destination/0, destination/1, …
    **options
        See `ImportOptions`.

    Returns
    -------
    tuple of NgffImage
        The images.

    Raises
    ------
    ExistsError
        If the destination is occupied.
    InputError
        If labels do not fit their image; nothing is left behind then.
    StoreError
        If the destination cannot be written.
    """
    version = options.get("ome_zarr_version", "0.5")
    root = Store(url=address(destination), storage_options=dict(options.get("storage_options") or {}))
    root.make_room(overwrite=options.pop("overwrite", False))
    progress = options.pop("on_progress", silent)
    paths = [str(number) for number in range(len(images))]
    made = []
    try:
        for path, (planes, labels) in zip(paths, images, strict=True):
            options["name"] = planes.name
            made.append(import_planes(planes, root.child(path).url, labels=labels, **options))
            progress("import", len(made), len(images))
        write_group(root.child("OME"), version, {"series": paths})
        write_group(root, version, {"bioformats2raw.layout": _LAYOUT})
    except BaseException:
        root.remove()
        raise
    return tuple(made)
