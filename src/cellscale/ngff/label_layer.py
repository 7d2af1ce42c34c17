"""A label layer as a value: read box by box, and written in whole shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError, MissingError, unknown
from cellscale.kernels.arguments import label_image
from cellscale.ngff import array_io, consolidated
from cellscale.ngff.attempts import ATTEMPT, OBJECTS, PLAIN, REMOVED, REPLACED, TABLE, attempt_of, noted, table_of
from cellscale.ngff.image import resolve
from cellscale.ngff.label_list import change_names, names_of
from cellscale.ngff.metadata import Node, checked_version, read_node, update_group
from cellscale.ngff.multiscale import Multiscale, common, read_multiscale
from cellscale.ngff.names import check_layer_name, child_path
from cellscale.ngff.pyramids import Part
from cellscale.ngff.replacing import old_layer
from cellscale.ngff.stores import Store, joined
from cellscale.ngff.table_list import unlist_tables
from cellscale.storage.urls import address
from cellscale.types import Box, Labels

IN_PLACE = "../../"
SOURCE = "image"
"""Entry of a layer's attributes under `cellscale`: URL of an image in another store."""


@dataclass(frozen=True, kw_only=True)
class LabelLayer(Multiscale):
    """A label layer, published or staged: its URL is …/labels/NAME."""

    name: str
    source: str | None = IN_PLACE
    """The image, as the layer names it: its URL, or "../../" for the image that holds the layer."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Provenance metadata of the layer."""
    attempt: str | None = None
    """Token of the attempt that made the layer; None for layers of other programs."""
    table: str | None = None
    """Name of the object table's folder in the layer's group; None for a layer that has none, or is not published."""
    published: bool = field(default=False, compare=False)
    """Whether others may replace the layer while it is read."""

    @property
    def prefix(self) -> str:
        """Beginning of the names of this attempt's data in the layer's group.

        It is empty for a layer that was the first of its name, and the token of the attempt for one that has replaced
        another: published data are never overwritten.
        """
        token = f"{self.attempt}-"
        return token if self.levels[0].path.startswith(token) else ""

    def place(self, name: str) -> str:
        """URL of a folder in the layer's group: `objects.parquet`, which may have been made again, or `report`."""
        return joined(self.url, self.table if name == OBJECTS and self.table else f"{self.prefix}{name}")

    def shards(self, level: int = 0) -> list[Box]:
        """The publication grid of a level, in raster order: boxes of 2048 × 2048 px; one task writes one box."""
        return array_io.grid_boxes(self.plane_shape(level))

    def read(self, box: Box, *, t: int = 0, z: int | Literal["max"] = 0, level: int = 0) -> Labels:
        """Read a box of one frame and slice, (y, x), uint32.

        Raises
        ------
        MissingError
            For a frame, slice or level that does not exist, and for a layer that was replaced or removed meanwhile.
        InputError
            For a box that leaves the layer, or pixels that are not labels below 2³².
        StoreError
            For a chunk that cannot be read.
        """
        if z == "max":
            if self.size("z", level) > 1:
                raise InputError(f"{self.url} has {self.size('z', level)} slices; labels have no maximum projection.")
            z = 0
        index = self.index(box, t=t, z=z, level=level)
        labels = array_io.read_plane(self.store, self.levels[level], self.axes, index)[0]
        return as_labels(labels, f"Frame {t} of {self.url}")

    def write(self, labels: NDArray[Any], box: Box, *, t: int = 0, z: int = 0, level: int = 0) -> int:
        """Write a box of one frame and slice; return the number of stored objects: those of background are not stored.

        Parameters
        ----------
        labels : integer array (y, x)
            Labels of the box.
        box : Box
            Whole chunks or shards, or up to the border; `shards` lists boxes that fit.
        t, z, level : int
            Frame, slice and level.

        Raises
        ------
        InputError
            If box, shape or values do not fit.
        StoreError
            If the store cannot be written.
        """
        index = self.index(box, t=t, z=z, level=level)
        if labels.shape != box.shape:
            raise InputError(f"Labels of {labels.shape} px for a box of {box.shape} px of {self.url}.")
        whole = as_labels(labels, f"Frame {t} of {self.url}")
        return array_io.write_plane(self.store, self.levels[level], self.axes, index, whole, empty=False)

    def flush(self, parts: Iterable[Part]) -> None:
        """Wait until the stored objects of parts of levels are on the disk, so that a record may vouch for them."""
        indices: dict[int, list[array_io.Index]] = {}
        for part in parts if self.store.on_disk else ():
            indices.setdefault(part.level, []).append(self.index(part.box, t=part.t, z=part.z, level=part.level))
        for level, found in indices.items():
            array_io.flush(self.store, self.levels[level], found)


def as_labels(values: NDArray[Any], where: str) -> Labels:
    """A plane of labels (y, x) as uint32; booleans become 0 and 1. InputError, naming `where`, for anything else."""
    return label_image(values.astype(np.uint8) if values.dtype == np.bool_ else values, where)


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
        If its pixels are not integers, it has several channels, or its version is not supported.
    """
    home = _image_home(url, storage_options)
    listed = list_labels(home.url, storage_options=home.storage_options)
    if name not in listed:
        raise _not_listed(home, name, listed)
    store, node = resolve(home.child("labels", name))
    found = read_multiscale(store, node)
    if found.dtype.kind not in "uib":
        raise InputError(f"{store.url} has pixels of type {found.dtype}; labels are integers.")
    channels = found.size("c")
    if channels > 1:
        raise InputError(
            f"{store.url} has {channels} channels of labels; a layer has one. Save each channel as a layer of its own."
        )
    metadata = {key: value for key, value in node.notes.items() if key not in (ATTEMPT, REPLACED, PLAIN, TABLE)}
    source = metadata.pop(SOURCE, None) or node.label_source
    return LabelLayer(
        **common(found),
        name=name,
        source=source,
        metadata=metadata,
        attempt=attempt_of(node),
        table=table_of(node),
        published=True,
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
    return unknown("label layer", name, listed, of=home.url)


def remove_labels(url: str, name: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
    """Unlist a published layer, then delete its data; a layer that is not listed is left as it is.

    So is a layer of the same name that another attempt publishes meanwhile. A removal that was stopped after the layer
    left the list is completed.
    """
    home = _image_home(url, storage_options)
    group = home.child("labels")
    place, node = group.child(child_path(name, group.url)), read_node(group)
    if node is None or name not in names_of(node):
        if noted(read_node(place)).get(REMOVED) is True:
            old_layer(place).delete()
            group.folder.remove_empty()
        return
    version = checked_version(node, group.url)
    old = old_layer(place)

    def marked(now: Node | None) -> Mapping[str, Any] | None:
        """Return the attributes of the layer with a note that it is being removed; None where another one is there."""
        if now is None or attempt_of(now) != attempt_of(old.node) or noted(now).get(REMOVED) is True:
            return None
        return {**now.attributes, "cellscale": {**noted(now), REMOVED: True}}

    # Once it is not listed, only this note tells its data from those of a run that has not published yet.
    update_group(place, version, marked)
    change_names(group, version, drop=name)
    unlist_tables(home, version, layer=name)
    consolidated.refresh(group, version, child_path(name, group.url), [""])
    old.delete()
    group.folder.remove_empty()
