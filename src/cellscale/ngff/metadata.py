"""NGFF's documents: axes, levels, channels and labels of groups, read and written for 0.4 and 0.5.

0.4 is Zarr v2 with `.zattrs`; 0.5 is Zarr v3 with everything under `attributes.ome` and a version in every group.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellscale.errors import InputError, StoreError
from cellscale.ngff.names import child_path
from cellscale.ngff.stores import Store

VERSIONS = ("0.4", "0.5")
AXES = "tczyx"
NO_GROUP: Mapping[str, Any] = {}
"""Attributes that mean "no group", see `update_group`."""
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

MAX_NUMBER = 1e100
"""Bound of scales and translations, in the axes' units."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One array of a pyramid; scale and translation for each axis, in the axes' units."""

    path: str
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    document: str | None = field(default=None, repr=False, compare=False)
    """The array's own document, see `Store.array_document`: it is read once and travels with the level, so that reading
    and writing pixels takes no further request. None: it is read whenever the array is opened."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A Zarr group or array as its documents describe it."""

    zarr_format: int
    kind: str
    attributes: Mapping[str, Any]

    @property
    def ome(self) -> Mapping[str, Any]:
        """NGFF metadata of the node; empty for none."""
        return entries_of(self.attributes.get("ome")) if self.zarr_format == 3 else self.attributes

    @property
    def notes(self) -> Mapping[str, Any]:
        """Metadata of a label layer by cellscale; an invalid list of frames is dropped."""
        found = entries_of(self.attributes.get("cellscale"))
        frames = items_of(found.get("frames"))
        known = bool(frames) and all(type(frame) is int for frame in frames)
        return found if known else {name: value for name, value in found.items() if name != "frames"}

    @property
    def label_source(self) -> str | None:
        """The image that a label layer names as its own."""
        return _text(entries_of(entries_of(self.ome.get("image-label")).get("source")).get("image"))

    @property
    def version(self) -> str | None:
        """The NGFF version that the node names."""
        if self.zarr_format == 3:
            return _text(self.ome.get("version"))
        places = [*items_of(self.ome.get("multiscales")), self.ome.get("plate"), self.ome.get("well"), self.ome]
        named = [_text(place.get("version")) for place in places if isinstance(place, Mapping)]
        return next((version for version in named if version), None)

    @property
    def format_version(self) -> str:
        """The NGFF version that goes with the node's Zarr format."""
        return "0.4" if self.zarr_format == 2 else "0.5"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def items_of(value: Any) -> list[Any]:
    """A list of a document; empty for what is of another type."""
    return value if isinstance(value, list) else []


def entries_of(value: Any) -> Mapping[str, Any]:
    """An object of a document; empty for what is of another type."""
    return value if isinstance(value, Mapping) else {}


def read_node(store: Store, version: str | None = None) -> Node | None:
    """Read a node's documents; None where there is not a Zarr node.

    With an NGFF version, only documents of its Zarr version are looked for: one request instead of up to four.
    """
    document = None if version == "0.4" else store.read_json("zarr.json")
    if document is not None:
        attributes = document.get("attributes") or {}
        if not isinstance(attributes, Mapping):
            raise StoreError(
                f"{store.url}/zarr.json is damaged: its attributes are not an object but {type(attributes).__name__}."
            )
        return Node(zarr_format=3, kind=str(document.get("node_type")), attributes=attributes)
    if version == "0.5":
        return None
    if store.read_bytes(".zarray") is not None:
        return Node(zarr_format=2, kind="array", attributes=store.read_json(".zattrs") or {})
    attributes = store.read_json(".zattrs")
    if attributes is None and store.read_bytes(".zgroup") is None:
        return None
    return Node(zarr_format=2, kind="group", attributes=attributes or {})


def checked_version(node: Node, url: str) -> str:
    """The version of a node, "0.4" or "0.5"; InputError for any other."""
    version = node.version or ("0.4" if node.zarr_format == 2 else "none")
    expected = node.format_version
    # Releases before the final one, and SpatialData's own ("0.5-dev-spatialdata"), write the same documents.
    if version.partition("-")[0] == expected:
        return expected
    if node.zarr_format == 3 and not node.ome:
        raise InputError(
            f"{url} has no NGFF metadata: no `ome` in the group's attributes. Give the URL of an OME-Zarr image."
        )
    raise InputError(
        f"{url} is OME-Zarr {version} in Zarr v{node.zarr_format}; supported are 0.4 (Zarr v2) and 0.5 (Zarr v3). "
        "Convert the image to one of these."
    )


def attributes_of(version: str, ome: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A group's attributes: NGFF's metadata where the version has them, and others."""
    return {**({"ome": {"version": version, **ome}} if version == "0.5" else ome), **(extra or {})}


def write_group(store: Store, version: str, ome: Mapping[str, Any], *, extra: Mapping[str, Any] | None = None) -> None:
    """Write a group's documents: NGFF metadata and other attributes."""
    attributes = attributes_of(version, ome, extra)
    if version == "0.5":
        store.write_json("zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})
        return
    store.write_json(".zgroup", {"zarr_format": 2})
    store.write_json(".zattrs", attributes)


def update_group(store: Store, version: str, change: Callable[[Node | None], Mapping[str, Any] | None]) -> None:
    """Change a group's attributes, or create the group; concurrent changes of other processes are not lost.

    Parameters
    ----------
    store : Store
        The group.
    version : str
        NGFF version, 0.4 or 0.5.
    change : callable
        From the node (None: there is none) to its new attributes; None: it stays as it is; NO_GROUP: its documents are
        deleted. It is called again if another writer came first, and must be pure.

    Raises
    ------
    InputError
        If there is an array.
    StoreError
        If the documents are damaged or cannot be written.
    """
    store.writable()
    if version == "0.4":
        store.folder.update(".zgroup", lambda content: b'{"zarr_format": 2}' if content is None else None)

    made: Mapping[str, Any] | None = None

    def changed(content: bytes | None) -> bytes | None:
        """Return the document with the new attributes, or None where nothing changes."""
        nonlocal made
        found = None if content is None else store.parsed(content, name)
        rest: dict[str, Any] = {}
        if found is None:
            node = None
        elif version == "0.4":
            node = Node(zarr_format=2, kind="group", attributes=found)
        else:
            node = Node(zarr_format=3, kind=str(found.get("node_type")), attributes=found.get("attributes") or {})
            # A copy of the documents below would no longer be true.
            rest = {key: value for key, value in found.items() if key != "consolidated_metadata"}
        if node is not None and node.kind == "array":
            raise InputError(f"{store.url} is a Zarr array; expected a group. Choose another name or place.")
        made = change(node)
        if made is None or made is NO_GROUP:
            return None if made is None else b""
        group = {"zarr_format": 3, "node_type": "group", **rest, "attributes": made}
        return json.dumps(made if version == "0.4" else group, indent=2).encode()

    name = "zarr.json" if version == "0.5" else ".zattrs"
    store.folder.update(name, changed)
    if version == "0.4" and made is NO_GROUP:
        store.delete_object(".zgroup")


def axes_document(axes: Sequence[str], units: Sequence[str | None]) -> list[dict[str, str]]:
    """The `axes` of a multiscale."""
    return [
        {"name": axis, "type": TYPES[axis], **({"unit": unit} if unit else {})}
        for axis, unit in zip(axes, units, strict=True)
    ]


def multiscale_document(
    name: str, axes: Sequence[str], units: Sequence[str | None], levels: Sequence[Level]
) -> dict[str, Any]:
    """One entry of `multiscales`."""
    datasets = []
    for level in levels:
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": list(level.scale)}]
        if any(level.translation):
            transforms.append({"type": "translation", "translation": list(level.translation)})
        datasets.append({"path": level.path, "coordinateTransformations": transforms})
    return {"name": name, "axes": axes_document(axes, units), "datasets": datasets}


def parse_axes(multiscale: Mapping[str, Any], url: str) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Names and units of the axes, as stored."""
    found = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in items_of(multiscale.get("axes"))]
    names = tuple(str(axis.get("name")) for axis in found)
    unknown = [name for name in names if name not in AXES or len(name) != 1]
    if unknown or len(set(names)) < len(names) or not {"y", "x"} <= set(names):
        raise InputError(
            f"{url} has the axes {names}; expected t, c, z, y and x, each at most once, with y and x among them."
        )
    return names, tuple(_text(axis.get("unit")) for axis in found)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number below MAX_NUMBER; larger ones overflow when multiplied with sizes."""
    return type(value) in (int, float) and -MAX_NUMBER < value < MAX_NUMBER


def _transforms(entry: Mapping[str, Any], count: int, url: str) -> tuple[list[float] | None, list[float]]:
    """Scale (None: not given) and translation of a dataset or multiscale."""
    scale, translation = None, [0.0] * count
    for transform in items_of(entry.get("coordinateTransformations")):
        kind = transform.get("type") if isinstance(transform, Mapping) else None
        if kind == "identity":
            continue
        values = items_of(transform.get(kind)) if kind in ("scale", "translation") else []
        if len(values) != count or not all(_is_number(value) for value in values):
            raise InputError(
                f"{url} has the coordinate transformation {reprlib.repr(transform)}; "
                f"expected scale or translation with {count} finite numbers."
            )
        if kind == "scale":
            scale = [float(value) for value in values]
        else:
            translation = [float(value) for value in values]
    return scale, translation


def parse_level(
    multiscale: Mapping[str, Any],
    dataset: Mapping[str, Any],
    *,
    shape: tuple[int, ...],
    first: tuple[int, ...],
    document: str,
    url: str,
) -> Level:
    """A level's scale and translation; without a scale, the factor between its shape and the first level's."""
    count = len(shape)
    inner, shift = _transforms(dataset, count, url)
    outer, outer_shift = _transforms(multiscale, count, url)
    scale = inner or [float(round(a / b)) if b else 1.0 for a, b in zip(first, shape, strict=True)]
    factors = outer or [1.0] * count
    return Level(
        path=str(dataset["path"]),
        shape=shape,
        scale=tuple(a * b for a, b in zip(scale, factors, strict=True)),
        translation=tuple(a * f + b for a, f, b in zip(shift, factors, outer_shift, strict=True)),
        document=document,
    )


def parse_datasets(multiscale: Mapping[str, Any], url: str) -> list[Mapping[str, Any]]:
    """The datasets of a multiscale, at least one; their paths lead to places below the group."""
    listed = items_of(multiscale.get("datasets"))
    found = [entry for entry in listed if isinstance(entry, Mapping) and "path" in entry]
    datasets: list[Mapping[str, Any]] = [{**entry, "path": child_path(entry["path"], url)} for entry in found]
    if not datasets:
        raise StoreError(f"{url} is incomplete: its multiscales name no datasets.")
    return datasets


def channel_names(ome: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of the channels, each once; their numbers where omero is missing or does not fit."""
    channels = items_of(entries_of(ome.get("omero")).get("channels"))
    if len(channels) != count:
        return tuple(str(c) for c in range(count))
    labels = [channel.get("label") if isinstance(channel, Mapping) else None for channel in channels]
    names = [str(label) if label else str(c) for c, label in enumerate(labels)]
    made: list[str] = []
    for c, name in enumerate(names):
        unique = f"{name}_{c}" if name in made else name
        while unique != name and unique in {*names, *made}:
            unique += "_"
        made.append(unique)
    return tuple(made)


def omero_document(names: Sequence[str], windows: Sequence[tuple[float, float, float, float]]) -> dict[str, Any]:
    """The `omero` document, display settings of the channels; a window is (min, max, start, end)."""
    colours = ("FFFFFF",) if len(names) == 1 else ("00FF00", "FF0000", "0000FF", "FF00FF", "00FFFF", "FFFF00", "FFFFFF")
    channels = [
        {
            "label": name,
            "color": colours[c % len(colours)],
            "active": True,
            "window": dict(zip(("min", "max", "start", "end"), window, strict=True)),
        }
        for c, (name, window) in enumerate(zip(names, windows, strict=True))
    ]
    return {"channels": channels, "rdefs": {"model": "greyscale" if len(names) == 1 else "color"}}
