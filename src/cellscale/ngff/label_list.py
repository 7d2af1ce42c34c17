"""The list of an image's label layers, and layers that are on it.

The list is one document that all writers of layers change: each change is made on what is there when it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellscale.errors import InputError, MissingError, unknown
from cellscale.ngff import consolidated
from cellscale.ngff.image import described, resolve
from cellscale.ngff.label_layer import LabelLayer
from cellscale.ngff.metadata import NO_GROUP, Node, checked_version, read_node, update_group
from cellscale.ngff.names import check_layer_name, child_path
from cellscale.ngff.stores import DOCUMENTS, Store, joined
from cellscale.storage.urls import address

SOURCE, ATTEMPT, REPLACED = "image", "attempt", "replaced"
"""Entries of a layer's attributes under `cellscale` that are not its metadata."""


def attempt_of(node: Node | None) -> str | None:
    """Token of the attempt that has made a group, or None."""
    found = node.attributes.get("cellscale") if node else None
    token = found.get(ATTEMPT) if isinstance(found, Mapping) else None
    return token if isinstance(token, str) else None


def names_of(node: Node | None) -> list[str]:
    """Names that a group of labels lists."""
    labels = node.ome.get("labels") if node else None
    return [str(name) for name in labels] if isinstance(labels, list) else []


def change_names(group: Store, version: str, *, add: str | None = None, drop: str | None = None) -> None:
    """Put a name into the list of label layers, or take one from it; names that others add or drop stay so."""

    def changed(node: Node | None) -> Mapping[str, Any] | None:
        names = names_of(node)
        wanted = [name for name in names if name != drop]
        wanted += [add] if add is not None and add not in names else []
        if wanted == names or not wanted:
            # A group of labels must list one.
            return None if wanted == names else NO_GROUP
        kept = dict(node.attributes) if node else {}
        if version == "0.5":
            ome = {**(node.ome if node else {}), "version": "0.5", "labels": wanted}
            return {**kept, "ome": ome}
        return {**kept, "version": "0.4", "labels": wanted}

    update_group(group, version, changed)


def _image_home(url: str, options: Mapping[str, Any] | None) -> Store:
    """The group that holds `labels`: the URL's, or that of the only image that it holds."""
    store = Store(url=address(url), storage_options=dict(options or {}))
    node = read_node(store)
    holds_images = node is not None and any(key in node.ome for key in ("plate", "well", "bioformats2raw.layout"))
    return resolve(store)[0] if holds_images else store


def list_labels(url: str, *, storage_options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Names of the published label layers of an image or store; () where there are none.

    Raises
    ------
    InputError
        For a name that leads out of the group of labels.
    """
    group = _image_home(url, storage_options).child("labels")
    return tuple(child_path(name, group.url) for name in names_of(read_node(group)))


def open_labels(url: str, name: str, *, storage_options: Mapping[str, Any] | None = None) -> LabelLayer:
    """Open a published label layer.

    Parameters
    ----------
    url : str
        The image or store that holds `labels`.
    name : str
        Name of the layer.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    LabelLayer
        Parsed metadata; no pixel is read.

    Raises
    ------
    MissingError
        If no such layer is listed.
    InputError
        If its pixels are no integers, or its version is not supported.
    """
    home = _image_home(url, storage_options)
    listed = list_labels(home.url, storage_options=home.storage_options)
    if name not in listed:
        raise _not_listed(home, name, listed)
    store, node = resolve(home.child("labels", name))
    found = described(store, node)
    if found["dtype"].kind not in "uib":
        raise InputError(f"{store.url} has pixels of type {found['dtype']}; labels are integers.")
    noted = node.attributes.get("cellscale")
    metadata = dict(noted) if isinstance(noted, Mapping) else {}
    attempt = attempt_of(node)
    for entry in (ATTEMPT, REPLACED):
        metadata.pop(entry, None)
    image_label = node.ome.get("image-label") or {}
    source = metadata.pop(SOURCE, None) or (image_label.get("source") or {}).get("image")
    return LabelLayer(
        url=store.url,
        storage_options=home.storage_options,
        name=name,
        source=source,
        metadata=metadata,
        attempt=attempt,
        published=True,
        **found,
    )


def _not_listed(home: Store, name: str, listed: tuple[str, ...]) -> MissingError:
    group = home.child("labels")
    there = read_node(group.child(check_layer_name(name))) if name else None
    if there is not None and "multiscales" in there.ome:
        document = "zarr.json" if there.zarr_format == 3 else ".zattrs"
        return MissingError(
            f"{group.url} holds a layer {name!r} that its list of labels does not name. If it is complete, put its "
            f"name into `labels` of {joined(group.url, document)}."
        )
    if not listed:
        return MissingError(f"{home.url} has no label layers; {name!r} was asked for.")
    return unknown(f"label layer of {home.url}", name, listed)


def remove_labels(url: str, name: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
    """Unlist a published layer, then delete its data; a layer that is not listed is left as it is."""
    home = _image_home(url, storage_options)
    group = home.child("labels")
    node = read_node(group)
    if node is None or name not in names_of(node):
        return
    change_names(group, checked_version(node, group.url), drop=name)
    consolidated.refresh(group, child_path(name, group.url), [""])
    layer = group.child(child_path(name, group.url))
    for document in DOCUMENTS:
        layer.delete_object(document)
    layer.remove()
