"""Label layers: staged unlisted, written shard by shard, published last.

A layer has as many levels as its image, the same factors and scales, one channel, uint32 pixels, and is listed only
when it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import ExistsError, InputError, MissingError, StoreError, unknown
from cellscale.ngff import array_io
from cellscale.ngff.image import NgffImage, described, resolve
from cellscale.ngff.metadata import VERSIONS, Level, Node, checked_version, multiscale_document, read_node, write_group
from cellscale.ngff.pyramids import size_of
from cellscale.ngff.stores import Store, joined
from cellscale.storage.urls import address, is_local
from cellscale.types import Box, Labels

IN_PLACE = "../../"
_SOURCE = "image"
_ATTEMPTS = 8


@dataclass(frozen=True, kw_only=True)
class LabelLayer:
    """A label layer, published or staged; nothing open, picklable."""

    url: str
    """URL of the layer's group, …/labels/NAME."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    version: str
    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    levels: tuple[Level, ...]
    dtype: np.dtype[Any]
    name: str
    source: str | None = IN_PLACE
    """The image, as the layer names it: its URL, or "../../" for the image that holds the layer."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What cellscale has noted of the layer's making."""

    @property
    def store(self) -> Store:
        """Where the layer lies."""
        return Store(url=self.url, storage_options=self.storage_options)

    def size(self, axis: str, level: int = 0) -> int:
        """Length of an axis; 1 for a missing axis."""
        return size_of(self.axes, self.levels[level], axis)

    def shards(self, level: int = 0) -> list[Box]:
        """The publication grid of a level, in raster order: boxes of 2048 × 2048 px; one task writes one box."""
        return array_io.grid_boxes((self.size("y", level), self.size("x", level)))

    def _index(self, box: Box, t: int, z: int, *, level: int) -> array_io.Index:
        array_io.check_range("Level", level, len(self.levels), url=self.url)
        array_io.check_range("Frame", t, self.size("t", level), url=self.url)
        array_io.check_range("Slice", z, self.size("z", level), url=self.url)
        array_io.check_box(box, (self.size("y", level), self.size("x", level)), self.url)
        return array_io.index_of(self.axes, box, t=t, z=slice(z, z + 1), c=slice(0, 1))

    def read(self, box: Box, *, t: int = 0, z: int | Literal["max"] = 0, level: int = 0) -> Labels:
        """Read a box of one frame and slice, (y, x), uint32.

        Raises
        ------
        MissingError
            For a frame, slice or level that does not exist.
        InputError
            For a box that leaves the layer, or pixels that are no labels below 2³².
        StoreError
            For a chunk that cannot be read.
        """
        if z == "max":
            if self.size("z", level) > 1:
                raise InputError(f"{self.url} has {self.size('z', level)} slices; labels have no maximum projection.")
            z = 0
        index = self._index(box, t, z, level=level)
        labels = array_io.read_plane(self.store, self.levels[level].path, self.axes, index)[0]
        return as_labels(labels, f"Frame {t} of {self.url}")

    def write(self, labels: NDArray[Any], box: Box, *, t: int = 0, z: int = 0, level: int = 0) -> int:
        """Write a box of one frame and slice; return the number of stored objects: background alone is not stored.

        Parameters
        ----------
        labels : integer array (y, x)
            As large as the box.
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
        index = self._index(box, t, z, level=level)
        if labels.shape != box.shape:
            raise InputError(f"Labels of {labels.shape} px for a box of {box.shape} px of {self.url}.")
        whole = as_labels(labels, f"Frame {t} of {self.url}")
        return array_io.write_plane(self.store, self.levels[level].path, self.axes, index, whole, empty=False)


def as_labels(values: NDArray[Any], where: str) -> Labels:
    """Integers as uint32; InputError for other types, negative numbers and numbers from 2³²."""
    if values.dtype == np.uint32:
        return values
    if values.dtype.kind not in "uib":
        raise InputError(f"{where}: labels are {values.dtype}; expected integers.")
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high >= 2**32:
        raise InputError(f"{where}: label {low if low < 0 else high} does not fit into uint32 (0 … 4294967295).")
    return values.astype(np.uint32)


def _levels(image: NgffImage, planes_z: int) -> tuple[Level, ...]:
    """The image's levels, with one channel, and one slice for a projection."""
    projected = planes_z == 1
    if not projected and planes_z != image.size("z"):
        raise InputError(
            f"A layer of {planes_z} slices for {image.url}, which has {image.size('z')}; expected that or 1."
        )
    made = []
    for level in image.levels:
        single = {"c"} | ({"z"} if projected else set())
        shape = tuple(1 if axis in single else size for axis, size in zip(image.axes, level.shape, strict=True))
        made.append(Level(path=level.path, shape=shape, scale=level.scale, translation=level.translation))
    return tuple(made)


def _home(image: NgffImage, output: str | None, version: str | None) -> tuple[Store, str]:
    """Store that gets the layer, and its version."""
    wanted = version or image.version
    if wanted not in VERSIONS:
        raise InputError(f"NGFF version {wanted!r} cannot be written; expected one of {', '.join(VERSIONS)}.")
    store = image.store if output is None else Store(url=address(output), storage_options=image.storage_options)
    node = read_node(store)
    if node is None:
        return store, wanted
    if node.kind == "array":
        raise InputError(f"{store.url} is a Zarr array; labels go into a group.")
    there = "0.4" if node.zarr_format == 2 else "0.5"
    if version not in (None, there):
        raise InputError(
            f"{store.url} is OME-Zarr {there}; a layer in version {version} does not fit. Use another --output."
        )
    return store, there


def check_target(image: NgffImage, name: str, *, output: str | None = None, version: str | None = None) -> None:
    """Raise what `stage_labels` would, before anything is computed; nothing is written."""
    if not name.strip("/") or {".", ".."} & set(name.split("/")):
        raise InputError(f"{name!r} is no name for a label layer.")
    _home(image, output, version)[0].writable()


def stage_labels(
    image: NgffImage,
    name: str,
    *,
    output: str | None = None,
    version: str | None = None,
    planes_z: int,
    metadata: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> LabelLayer:
    """Create a layer's arrays; it is listed nowhere until `publish_labels`.

    Staging the same layer again keeps what is written; an unlisted layer with other metadata is replaced.

    Parameters
    ----------
    image : NgffImage
        What the labels are of.
    name : str
        Name of the layer.
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

    Returns
    -------
    LabelLayer
        Ready to be written.

    Raises
    ------
    ExistsError
        If another layer of this name is published.
    InputError
        If name, version or slices do not fit.
    StoreError
        If the store cannot be written.
    """
    check_target(image, name, output=output, version=version)
    home, version = _home(image, output, version)
    home = Store(
        url=home.url, storage_options=dict(image.storage_options if storage_options is None else storage_options)
    )
    layer = LabelLayer(
        url=joined(home.url, "labels", name),
        storage_options=home.storage_options,
        version=version,
        axes=image.axes,
        units=image.units,
        levels=_levels(image, planes_z),
        dtype=np.dtype(np.uint32),
        name=name,
        source=IN_PLACE if home.url == image.url else image.url,
        metadata=json.loads(json.dumps(dict(metadata or {}))),
    )
    if _staged(layer):
        return layer
    if name in list_labels(home.url, storage_options=home.storage_options):
        raise ExistsError(
            f"{home.url} has another label layer {name!r} already. Choose another name, or remove it first."
        )
    _create(layer, home)
    return layer


def _ome(layer: LabelLayer) -> dict[str, Any]:
    multiscale = multiscale_document(layer.name, layer.axes, layer.units, layer.levels)
    if layer.version == "0.4":
        multiscale["version"] = "0.4"
    return {"multiscales": [multiscale]}


def _extra(layer: LabelLayer) -> dict[str, Any]:
    """Attributes beside NGFF's: the metadata, and the URL of an image in another store."""
    noted = dict(layer.metadata) if layer.source in (None, IN_PLACE) else {**layer.metadata, _SOURCE: layer.source}
    return {"cellscale": noted} if noted else {}


def _source(layer: LabelLayer) -> dict[str, str]:
    """The format's own link to the image: a path to an image of the same version, so nothing for other stores."""
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


def _staged(layer: LabelLayer) -> bool:
    """Whether the same layer is there already, its metadata written after all its arrays."""
    node = read_node(layer.store)
    if node is None:
        return False
    same = node.ome.get("multiscales") == _ome(layer)["multiscales"]
    there, wanted = node.attributes.get("cellscale", {}), _extra(layer).get("cellscale", {})
    if isinstance(there, dict) and "attempt" in wanted:
        return bool(same and there.get("attempt") == wanted["attempt"])
    return bool(same and there == wanted)


def _create(layer: LabelLayer, home: Store) -> None:
    layer.store.remove()
    if read_node(home) is None:
        write_group(home, layer.version, {})
    for level in layer.levels:
        settings = array_io.array_settings(layer.axes, level.shape, layer.dtype, layer.version)
        layer.store.create_array(level.path, **settings)
    write_group(layer.store, layer.version, _ome(layer), extra=_extra(layer))


def _labels_group(layer: LabelLayer) -> Store:
    return Store(url=layer.url.removesuffix(f"/{layer.name}"), storage_options=layer.storage_options)


def publish_labels(layer: LabelLayer) -> None:
    """Make a complete layer visible: its own metadata, then its name in the labels group.

    The list is read, changed and written; it is read again, in case another writer came between.
    """
    image_label: dict[str, Any] = {"version": layer.version, "source": _source(layer)}
    write_group(layer.store, layer.version, {**_ome(layer), "image-label": image_label}, extra=_extra(layer))
    group = _labels_group(layer)
    for _ in range(_ATTEMPTS):
        names = _names(read_node(group))
        if layer.name in names:
            return
        _write_names(group, [*names, layer.name], layer.version)
    raise StoreError(f"{group.url} does not keep the name {layer.name!r}. Publish again when no one else writes there.")


def _names(node: Node | None) -> list[str]:
    labels = node.ome.get("labels") if node else None
    return [str(name) for name in labels] if isinstance(labels, list) else []


def _write_names(group: Store, names: list[str], version: str) -> None:
    node = read_node(group)
    ome = (
        {key: value for key, value in (node.ome if node else {}).items() if key != "version"}
        if version == "0.5"
        else {}
    )
    kept = node.attributes if node else {}
    extra = {key: value for key, value in kept.items() if key != ("ome" if version == "0.5" else "labels")}
    if version == "0.4":
        extra["version"] = "0.4"
    write_group(group, version, {**ome, "labels": names}, extra=extra)


def _image_home(url: str, options: Mapping[str, Any] | None) -> Store:
    """The group that holds `labels`: the URL's, or that of the only image that it holds."""
    store = Store(url=address(url), storage_options=dict(options or {}))
    node = read_node(store)
    holds_images = node is not None and any(key in node.ome for key in ("plate", "well", "bioformats2raw.layout"))
    return resolve(store)[0] if holds_images else store


def list_labels(url: str, *, storage_options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Names of the published label layers of an image or store; () where there are none."""
    return tuple(_names(read_node(_image_home(url, storage_options).child("labels"))))


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
    if not listed:
        raise MissingError(f"{home.url} has no label layers; {name!r} was asked for.")
    if name not in listed:
        raise unknown(f"label layer of {home.url}", name, listed)
    store, node = resolve(home.child("labels", name))
    found = described(store, node)
    if found["dtype"].kind not in "uib":
        raise InputError(f"{store.url} has pixels of type {found['dtype']}; labels are integers.")
    metadata = dict(node.attributes.get("cellscale") or {})
    image_label = node.ome.get("image-label") or {}
    source = metadata.pop(_SOURCE, None) or (image_label.get("source") or {}).get("image")
    options = home.storage_options
    return LabelLayer(url=store.url, storage_options=options, name=name, source=source, metadata=metadata, **found)


def remove_labels(url: str, name: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
    """Unlist a layer, then delete its data; a layer that does not exist is no error."""
    home = _image_home(url, storage_options)
    group = home.child("labels")
    node = read_node(group)
    names = _names(node)
    if node is not None and name in names:
        left = [other for other in names if other != name]
        version = checked_version(node, group.url)
        if left:
            _write_names(group, left, version)
        else:
            for document in ("zarr.json", ".zattrs", ".zgroup"):
                group.delete_object(document)
    home.child("labels", name).remove()
