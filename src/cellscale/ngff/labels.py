"""Label layers: staged unlisted, written shard by shard, published last.

A layer has the levels of its image with the same factors and scales, one channel, uint32 pixels, and is listed only
when it is complete. Published data are never overwritten: the arrays of a layer that replaces another lie next to the
old ones in the layer's group, under other names. One write of the group's document then switches to them, and only
after it are the old ones deleted. Every attempt to make a layer has a token; it deletes only data with this token, and
the data that it replaces.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cellscale.errors import ExistsError, InputError, StoreError
from cellscale.ngff import consolidated
from cellscale.ngff.attempts import (
    COMPANIONS,
    OBJECTS,
    REPLACED,
    TABLE,
    attempt_of,
    claim,
    delete_replaced,
    discard,
    held,
    kept_of,
    listed_in,
    prefix_of,
    published,
    removable,
)
from cellscale.ngff.image import NgffImage
from cellscale.ngff.label_layer import (
    IN_PLACE,
    SOURCE,
    LabelLayer,
    as_labels,
    list_labels,
    open_labels,
    remove_labels,
)
from cellscale.ngff.label_list import change_names, names_of
from cellscale.ngff.metadata import (
    VERSIONS,
    Level,
    Node,
    attributes_of,
    read_node,
    update_group,
)
from cellscale.ngff.names import check_layer_name
from cellscale.ngff.stores import Store, joined
from cellscale.ngff.table_list import unlist_tables
from cellscale.redaction import redacted, redacted_values
from cellscale.storage.together import both
from cellscale.storage.urls import address, is_local

__all__ = [
    "LabelLayer",
    "Place",
    "as_labels",
    "check_free",
    "check_target",
    "discard_labels",
    "list_labels",
    "open_labels",
    "place_of",
    "publish_labels",
    "remove_labels",
    "stage_labels",
]

_PUBLICATIONS = 8


def _levels(image: NgffImage, planes_z: int, prefix: str) -> tuple[Level, ...]:
    """The image's levels, with one channel, and one slice for a projection."""
    projected = planes_z == 1
    if not projected and planes_z != image.size("z"):
        raise InputError(
            f"A layer of {planes_z} slices for {image.url}, which has {image.size('z')}; expected that or 1."
        )
    made = []
    for number, level in enumerate(image.levels):
        single = {"c"} | ({"z"} if projected else set())
        shape = tuple(1 if axis in single else size for axis, size in zip(image.axes, level.shape, strict=True))
        made.append(Level(path=f"{prefix}{number}", shape=shape, scale=level.scale, translation=level.translation))
    return tuple(made)


def _home(image: NgffImage, output: str | None, version: str | None) -> tuple[Store, str]:
    """Store that gets the layer, and its version."""
    wanted = version or image.version
    if wanted not in VERSIONS:
        raise InputError(f"NGFF version {wanted!r} cannot be written; expected one of {', '.join(VERSIONS)}.")
    if output is None and wanted == image.version:
        # Its document was read when it was opened.
        return image.store, wanted
    store = image.store if output is None else Store(url=address(output), storage_options=image.storage_options)
    node = read_node(store)
    if node is None:
        return store, wanted
    if node.kind == "array":
        raise InputError(f"{store.url} is a Zarr array; labels go into a group.")
    there = node.format_version
    if version not in (None, there):
        raise InputError(
            f"{store.url} is OME-Zarr {there}; a layer in version {version} does not fit. Use another --output."
        )
    return store, there


def check_target(
    image: NgffImage,
    name: str,
    *,
    output: str | None = None,
    version: str | None = None,
) -> None:
    """Raise the errors of `stage_labels` about names, versions and stores before anything is computed."""
    check_layer_name(name)
    home, _ = _home(image, output, version)
    home.writable()


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a layer, and whether something is there."""

    group: Store
    version: str
    """NGFF version of the layer."""
    node: Node | None
    """Node of the layer's group."""
    occupied: bool
    """Whether there are any data, Zarr or not."""


def place_of(image: NgffImage, name: str, *, output: str | None = None, version: str | None = None) -> Place:
    """Look up the place of a layer, see `stage_labels` for the arguments."""
    home, version = _home(image, output, version)
    return _looked_up(home.child("labels", name), version)


def _looked_up(group: Store, version: str) -> Place:
    node, occupied = both(partial(read_node, group, version), group.occupied)
    return Place(group=group, version=version, node=node, occupied=occupied)


def check_free(place: Place, attempt: str | None) -> None:
    """Raise the error of `stage_labels` about data in the layer's place before anything is computed."""
    _prefix(place, attempt, overwrite=False)


def stage_labels(  # noqa: PLR0913
    image: NgffImage,
    name: str,
    *,
    output: str | None = None,
    version: str | None = None,
    planes_z: int,
    metadata: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    attempt: str | None = None,
    overwrite: bool = False,
) -> LabelLayer:
    """Create a layer's arrays; existing data do not change, and the layer is not listed before `publish_labels`.

    The same attempt may stage its layer again, after a crash or from another process: data already written stay. The
    first layer of a name has arrays with the names 0, 1 and so on; another attempt, while something is there, puts its
    token before them.

    Parameters
    ----------
    image : NgffImage
        The segmented image.
    name : str
        Name of the layer, see `check_layer_name`.
    output : str, optional
        Another store; None: the image's own.
    version : str, optional
        NGFF version of another store; None: the image's.
    planes_z : int
        Number of slices: the image's, or 1 for a projection.
    metadata : mapping, optional
        Kept under `cellscale` in the layer's attributes.
    storage_options : mapping, optional
        For fsspec; None: the image's.
    attempt : str, optional
        Token of this attempt, of letters, digits, "-" and "_"; None: one that no other attempt has. An attempt that
        may be resumed names the same token again, and two attempts that may run at once have two.
    overwrite : bool
        Whether the layer may replace a published one, or be written next to files of another program.

    Returns
    -------
    LabelLayer
        Ready to be written; `place` returns the folders of its table and report.

    Raises
    ------
    ExistsError
        If the place is occupied and `overwrite` is not set.
    InputError
        If name, version or slices do not fit.
    StoreError
        If the store cannot be written.
    """
    check_layer_name(name)
    attempt = attempt or uuid.uuid4().hex[:16]
    if not re.fullmatch("[A-Za-z0-9_-]+", attempt):
        raise InputError(f"{attempt!r} is not a valid token of an attempt; expected letters, digits, '-' and '_'.")
    options = dict(image.storage_options if storage_options is None else storage_options)
    home, version = _home(image, output, version)
    home = Store(url=home.url, storage_options=options)
    group = home.child("labels", name)
    home.writable()
    if output is not None and read_node(home) is None:
        update_group(home, version, lambda node: attributes_of(version, {}) if node is None else None)
    prefix, new = _claim_place(_looked_up(group, version), attempt, overwrite=overwrite)
    layer = LabelLayer(
        url=group.url,
        storage_options=options,
        version=version,
        axes=image.axes,
        units=image.units,
        levels=_levels(image, planes_z, prefix),
        dtype=np.dtype(np.uint32),
        name=name,
        source=IN_PLACE if home.url == image.url else redacted(image.url),
        metadata=redacted_values(json.loads(json.dumps(dict(metadata or {})))),
        attempt=attempt,
    )
    return replace(layer, levels=layer.created(new=new))


def _prefix(place: Place, attempt: str | None, *, overwrite: bool) -> str | None:
    """Prefix of an attempt's names in the layer's group, see `LabelLayer.prefix`; None: the group is to be made.

    Raises
    ------
    ExistsError
        If the place is occupied by something that must not be replaced.
    """
    group, version = place.group, place.version
    if place.node is None and not place.occupied:
        return None
    prefix = None if attempt is None else prefix_of(group, place.node, version, attempt)
    if prefix is not None:
        return prefix
    if overwrite:
        return f"{attempt}-"
    home, _, name = group.url.rpartition("/labels/")
    if name in names_of(read_node(Store(url=f"{home}/labels", storage_options=group.storage_options), version)):
        raise ExistsError(f"{home} already has a label layer {name!r}. Choose another --layer, or use --overwrite.")
    raise ExistsError(
        f"{group.url} holds data which the list of label layers does not name: another program's, or an unfinished "
        "run's. Choose another --layer, or use --overwrite: the new layer is then written next to them."
    )


def _claim_place(place: Place, attempt: str, *, overwrite: bool) -> tuple[str, bool]:
    """Reserve a place for an attempt; return the prefix of its names, and whether there were no data."""
    prefix = _prefix(place, attempt, overwrite=overwrite)
    if prefix is not None:
        return prefix, False
    claim(place.group, place.version, attempt)
    # Another attempt may have claimed the place meanwhile.
    place = replace(place, node=read_node(place.group, place.version), occupied=True)
    prefix = _prefix(place, attempt, overwrite=overwrite) or ""
    return prefix, not prefix


def _extra(layer: LabelLayer, node: Node | None, replaced: list[str], there: Container[str]) -> dict[str, Any]:
    """Attributes of cellscale: metadata, attempt, table, what is replaced, and the URL of an image in another store."""
    elsewhere = {} if layer.source in (None, IN_PLACE) else {SOURCE: layer.source}
    table = f"{layer.prefix}{OBJECTS}"
    named = {TABLE: table} if table in there else {}
    return {"cellscale": {**layer.metadata, **elsewhere, **named, **kept_of(node, layer.attempt, replaced)}}


def _source(layer: LabelLayer) -> dict[str, str]:
    """The format's own link to the image: a path to an image of the same version; nothing for other stores."""
    if layer.source == IN_PLACE:
        return {"image": IN_PLACE}
    reachable = is_local(layer.url) and _version_there(layer) == layer.version
    return {"image": str(layer.source)} if reachable else {}


def _version_there(layer: LabelLayer) -> str | None:
    """NGFF version of the layer's image in a local folder, None elsewhere."""
    if layer.source in (None, IN_PLACE) or not is_local(str(layer.source)):
        return None
    store = Store(url=str(layer.source))
    node = None if store.zip_file else read_node(store)
    return None if node is None else node.version


def publish_labels(layer: LabelLayer, *, overwrite: bool = False, replaces: str | None = None) -> None:
    """Make a complete layer visible, then delete the data that it replaces; after a crash, call it again to resume.

    The layer's document changes in one write from the old arrays to the new ones. Then its name is put into the list of
    layers, with whatever names other writers put there at the same time, and read back.

    Parameters
    ----------
    layer : LabelLayer
        Staged by `stage_labels`, all its pixels written.
    overwrite : bool
        Whether it may replace a layer that another attempt has published.
    replaces : str, optional
        The only attempt whose layer it may replace, for a layer that was made from it; None: any.

    Raises
    ------
    ExistsError
        If another attempt has published a layer of this name that must not be replaced.
    StoreError
        If the store cannot be written, or does not keep the name.
    """
    # The document that names the arrays is written after all of them are on the disk.
    for part in (*(level.path for level in layer.levels), *(f"{layer.prefix}{name}" for name in COMPANIONS)):
        layer.store.folder.child(part).flush_all()
    replaced = _switch(layer, overwrite=overwrite, replaces=replaces)
    group = Store(url=layer.url.removesuffix(f"/{layer.name}"), storage_options=layer.storage_options)
    for _ in range(_PUBLICATIONS):
        change_names(group, layer.version, add=layer.name)
        node, around = both(
            partial(read_node, group, layer.version), partial(consolidated.documents_around, group, layer.version)
        )
        if layer.name in names_of(node):
            break
    else:
        raise StoreError(
            f"{group.url} did not keep the name {layer.name!r}: another process may keep overwriting the list. "
            "Repeat the command when no other run writes to this store."
        )
    parts = (*(level.path for level in layer.levels), f"{layer.prefix}report")
    nodes = ["", layer.name, *(f"{layer.name}/{part}" for part in parts)]
    consolidated.refresh(group, layer.version, layer.name, nodes, around=around)
    if replaced:
        home = Store(url=group.url.removesuffix("/labels"), storage_options=layer.storage_options)
        unlist_tables(home, layer.version, layer=layer.name, kept=layer.attempt)
    delete_replaced(layer.store, layer.version, layer.attempt, replaced)


def _switch(layer: LabelLayer, *, overwrite: bool, replaces: str | None) -> list[str]:
    """Let the layer's document name its arrays; return the names in the group that are no longer needed."""
    image_label: dict[str, Any] = {"version": layer.version, "source": _source(layer)}
    ome = {"multiscales": [layer.document(layer.name)], "image-label": image_label}
    own = (*(level.path for level in layer.levels), *(f"{layer.prefix}{name}" for name in COMPANIONS))
    replaced: list[str] = []

    def changed(node: Node | None) -> Mapping[str, Any] | None:
        """Return the attributes that name this attempt's arrays, None if they do already; note what they replace."""
        if published(node) and attempt_of(node) == layer.attempt:
            replaced[:] = removable(listed_in(node, REPLACED), own, layer.store.folder.names())
            return None
        others = node is not None and attempt_of(node) != layer.attempt
        if others and not (overwrite and replaces in (None, attempt_of(node))):
            raise ExistsError(
                f"{layer.url} was published by another run meanwhile. Choose another --layer, or use --overwrite."
            )
        there = layer.store.folder.names()
        replaced[:] = removable(held(node), own, there)
        return attributes_of(layer.version, ome, _extra(layer, node, replaced, there))

    update_group(layer.store, layer.version, changed)
    return replaced


def discard_labels(url: str, name: str, attempt: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
    """Delete the staged, unpublished data of an attempt; nothing else in the layer's group is touched."""
    group = Store(url=address(url), storage_options=dict(storage_options or {})).child("labels", check_layer_name(name))
    discard(group, attempt)
    Store(url=joined(address(url), "labels"), storage_options=group.storage_options).folder.remove_empty()
