"""Collections: a group with one image in each of the groups 0, 1, … below it, in the bioformats2raw layout.

The images are written first, the group's own metadata last: an incomplete collection is not visible. The images of a
collection that replaces another have other names; the old ones are deleted after the list of series names the new ones.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from cellscale.errors import CellscaleError, ExistsError
from cellscale.ngff.attempts import attempt_of, claim, delete_parts, discard
from cellscale.ngff.image import NgffImage
from cellscale.ngff.import_labels import Planes
from cellscale.ngff.import_planes import ImportOptions, import_planes
from cellscale.ngff.metadata import Node, attributes_of, checked_version, items_of, read_node, update_group
from cellscale.ngff.names import child_path
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
        If the destination cannot be written; the images stay if the list of series names them already.
    """
    version, attempt = options.get("ome_zarr_version", "0.5"), uuid.uuid4().hex[:16]
    root = Store(url=address(destination), storage_options=dict(options.get("storage_options") or {}))
    prefix = _claim_place(root, version, attempt, overwrite=options.pop("overwrite", False))
    progress, origin = options.pop("on_progress", silent), options.pop("origin", None)
    paths = [f"{prefix}{number}" for number in range(len(images))]
    made = []
    try:
        for path, (planes, labels) in zip(paths, images, strict=True):
            options["name"] = planes.name
            made.append(import_planes(planes, root.child(path).url, labels=labels, **options))
            progress("import", len(made), len(images))
        replaced = _switch(root, version, paths, origin)
    except BaseException:
        if not _listed(root, version, paths):
            discard(root, attempt)
        raise
    delete_parts(root, replaced)
    return tuple(made)


def _claim_place(root: Store, version: str, attempt: str, *, overwrite: bool) -> str:
    """Check that a collection may be written to a place; return the prefix of the names of its images."""
    root.writable()
    node = read_node(root)
    if node is None and not root.occupied():
        claim(root, version, attempt)
        node = read_node(root)
        if attempt_of(node) == attempt:
            return ""
    if not overwrite:
        raise ExistsError(f"{root.url} exists already. Choose another destination, or use --overwrite.")
    if node is None or "bioformats2raw.layout" not in node.ome or checked_version(node, root.url) != version:
        raise ExistsError(
            f"{root.url} is not a collection of OME-Zarr {version}; it is not overwritten by one. "
            "Choose another destination."
        )
    return f"{attempt}-"


def _listed(root: Store, version: str, paths: Sequence[str]) -> bool:
    """Whether the list of series names new images, or cannot be read: they must not be deleted then."""
    try:
        node = read_node(root.child("OME"), version)
    except CellscaleError:
        return True
    return not {*paths}.isdisjoint(map(str, items_of(node.ome.get("series") if node else None)))


def _switch(root: Store, version: str, paths: Sequence[str], origin: Mapping[str, str] | None) -> list[str]:
    """Let the list of series name the new images, in one write; return the names of those that it named before."""
    before: list[str] = []

    def listed(node: Node | None) -> Mapping[str, Any]:
        old = node.ome.get("series") if node else None
        before[:] = [child_path(path, root.url) for path in old] if isinstance(old, list) else []
        return attributes_of(version, {"series": list(paths)})

    update_group(root.child("OME"), version, listed)
    notes = {"cellscale": {"origin": dict(origin)}} if origin else None
    update_group(root, version, lambda node: attributes_of(version, {"bioformats2raw.layout": _LAYOUT}, notes))
    return [path for path in before if path not in paths and path in root.folder.names()]
