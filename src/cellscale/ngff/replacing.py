"""Replacement of images: nothing of the old image is deleted before the new one is complete.

While both exist, the group's document names the old one. It changes in one write. The old image's label layers are
unlisted just before, since they belong to other pixels, and their data are deleted at the end with the old arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cellscale.errors import ExistsError, InputError
from cellscale.ngff import consolidated
from cellscale.ngff.attempts import (
    COMPANIONS,
    attempt_of,
    claim,
    delete_parts,
    delete_replaced,
    held,
    kept_of,
    published,
    removable,
)
from cellscale.ngff.label_list import names_of
from cellscale.ngff.metadata import NO_GROUP, Node, attributes_of, read_node, update_group
from cellscale.ngff.names import child_path
from cellscale.ngff.stores import DOCUMENTS, Store
from cellscale.ngff.table_list import unlist_tables
from cellscale.redaction import redacted_values

_STAGED = re.compile(rf"[A-Za-z0-9_-]+-(\d+|{'|'.join(map(re.escape, COMPANIONS))})")
"""Names that an attempt gives to its data next to those of another program's layer."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a new image, and the attempt to make it."""

    store: Store
    version: str
    """NGFF version."""
    attempt: str
    """Token that no other attempt has."""
    overwrite: bool
    """Whether it may replace an image of another attempt."""


@dataclass(frozen=True, kw_only=True)
class OldLayer:
    """A label layer of a replaced image, as it was before its name left the list."""

    group: Store
    node: Node | None
    parts: tuple[str, ...]
    """Names in its group, without those of attempts that are about to replace it."""

    def delete(self) -> None:
        """Delete its data, then its documents, unless these describe a newer layer by now."""
        delete_parts(self.group, self.parts)
        if self.node is not None:
            update_group(self.group, self.node.format_version, self._without_documents)
        self.group.folder.remove_empty()

    def _without_documents(self, node: Node | None) -> Mapping[str, Any] | None:
        return NO_GROUP if node is not None and attempt_of(node) == attempt_of(self.node) else None


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """Arrays and documents that a new image has replaced."""

    place: Place
    arrays: tuple[str, ...] = ()
    """Names in the image's group."""
    layers: tuple[OldLayer, ...] = ()

    def delete(self) -> None:
        """Delete the replaced data; layers of newer attempts under the same names stay."""
        delete_replaced(self.place.store, self.place.version, self.place.attempt, self.arrays)
        for layer in self.layers:
            layer.delete()
        self.place.store.child("labels").folder.remove_empty()


def claim_place(place: Place) -> str:
    """Check that an image may be written to a place; return the prefix of the names of its arrays.

    An attempt that was started before continues in its place.

    Raises
    ------
    ExistsError
        If the place is occupied by something that must not be replaced.
    InputError
        If the existing image has another version.
    """
    place.store.writable()
    node, url = read_node(place.store), place.store.url
    if node is None and not place.store.occupied():
        claim(place.store, place.version, place.attempt)
        node = read_node(place.store)
    if attempt_of(node) == place.attempt and not published(node):
        return ""
    if not place.overwrite:
        raise ExistsError(f"{url} exists already. Choose another destination, or use --overwrite.")
    if node is None:
        raise ExistsError(f"{url} exists and is not a Zarr store; it is not overwritten. Choose another destination.")
    others = [key for key in ("plate", "well", "bioformats2raw.layout", "labels") if key in node.ome]
    if node.kind == "array" or others:
        kind = {"plate": "a plate", "well": "a well", "labels": "a group of labels"}.get(
            "".join(others[:1]), "no image"
        )
        raise ExistsError(f"{url} is {kind}; it is not overwritten by an image. Choose another destination.")
    there = node.format_version
    if there != place.version:
        raise InputError(
            f"{url} is OME-Zarr {there}; an image of version {place.version} cannot replace it. "
            f"Write version {there}, or choose another destination."
        )
    return f"{place.attempt}-"


def switch(place: Place, ome: Mapping[str, Any], metadata: Mapping[str, Any]) -> Replaced:
    """Let a group's document name the new image, in one write.

    Parameters
    ----------
    place : Place
        The group.
    ome : mapping
        NGFF's metadata of the new image.
    metadata : mapping
        Kept under `cellscale`.

    Raises
    ------
    ExistsError
        If another writer has made an image there meanwhile that must not be replaced.
    """
    store, old, shown = place.store, read_node(place.store), redacted_values(metadata)
    # Before anything changes: an image that must not be replaced keeps its layers.
    _check_meanwhile(place, old)
    layers = _unlisted(place) if old is not None and attempt_of(old) != place.attempt else []
    arrays: list[str] = []
    paths = [str(dataset["path"]) for dataset in ome["multiscales"][0]["datasets"]]

    def changed(node: Node | None) -> Mapping[str, Any] | None:
        if published(node) and attempt_of(node) == place.attempt:
            return None
        _check_meanwhile(place, node)
        arrays[:] = removable(held(node), paths, store.folder.names())
        return attributes_of(place.version, ome, {"cellscale": {**shown, **kept_of(node, place.attempt, arrays)}})

    update_group(store, place.version, changed)
    store.delete_object(".zmetadata")
    parent, _, name = store.url.rpartition("/")
    consolidated.refresh(
        Store(url=parent, storage_options=store.storage_options),
        place.version,
        name,
        [name, *(f"{name}/{path}" for path in paths)],
    )
    return Replaced(place=place, arrays=tuple(arrays), layers=tuple(layers))


def _check_meanwhile(place: Place, node: Node | None) -> None:
    if node is not None and attempt_of(node) != place.attempt and not place.overwrite:
        raise ExistsError(f"{place.store.url} was written by another process meanwhile. Choose another destination.")


def _unlisted(place: Place) -> list[OldLayer]:
    """Remove the list of the old image's layers, and their tables from the list of tables; return the layers."""
    labels = place.store.child("labels")
    unlist_tables(place.store, place.version)
    names: list[str] = []

    def emptied(node: Node | None) -> Mapping[str, Any] | None:
        names[:] = [child_path(name, labels.url) for name in names_of(node)]
        return NO_GROUP if names else None

    node = read_node(labels)
    if node is None:
        return []
    # Read while they are listed: a layer that takes one of these names later belongs to another image.
    old = {name: old_layer(labels.child(name)) for name in (child_path(name, labels.url) for name in names_of(node))}
    update_group(labels, place.version, emptied)
    return [old[name] for name in names if name in old]


def old_layer(group: Store) -> OldLayer:
    """A layer as it is now, while the list names it; `delete` leaves what other attempts have made by then."""
    node, there = read_node(group), group.folder.names()
    if attempt_of(node) is not None:
        return OldLayer(group=group, node=node, parts=tuple(removable(held(node), (), there)))
    return OldLayer(
        group=group,
        node=node,
        parts=tuple(sorted(name for name in there - {*DOCUMENTS} if not _STAGED.fullmatch(name))),
    )
