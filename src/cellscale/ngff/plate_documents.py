"""Documents of plates and their wells: what they list is added to what they listed before, and nothing else changes.

ome-zarr makes the metadata and checks rows, columns and wells against one another.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import zarr
from zarr.storage import MemoryStore

from cellscale.errors import ExistsError, InputError, MissingError
from cellscale.ngff.attempts import attempt_of
from cellscale.ngff.metadata import Node, entries_of, items_of, read_node, update_group
from cellscale.ngff.names import check_name, is_name
from cellscale.ngff.stores import Store
from cellscale.storage.together import together

Change = Callable[[Node | None], Mapping[str, Any] | None]
"""From a group's node to its new attributes, see `update_group`."""
_KINDS = {
    "multiscales": "an image",
    "image-label": "a label layer",
    "labels": "a group of labels",
    "bioformats2raw.layout": "a collection of images",
    "series": "a list of images",
    "plate": "a plate",
    "well": "a well",
}
"""Kinds of groups by the key of NGFF's metadata."""


def _ome_zarr(module: str) -> Any:
    """Import a module of ome-zarr on first use: it loads dask, and issues a warning about one of its own classes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Call to deprecated class Scaler", DeprecationWarning)
        return importlib.import_module(f"ome_zarr.{module}")


def check_fields(fields: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the images of each well, each once; InputError for wells or names that are not valid."""
    if not isinstance(fields, Mapping) or not fields:
        raise InputError(f'{fields!r} lists no wells; expected names of images by well, e.g. {{"A/1": ["0"]}}.')
    found = {}
    for well, names in fields.items():
        if not is_well(well):
            raise InputError(f"{well!r} is not a valid name of a well; expected ROW/COLUMN, e.g. A/1.")
        if isinstance(names, str) or not isinstance(names, Sequence) or not names:
            raise InputError(f'Well {well} has the images {names!r}; expected a list of their names, e.g. ["0", "1"].')
        for name in names:
            if not isinstance(name, str):
                raise InputError(f"Well {well} has an image {name!r}; expected its name as text, e.g. '0'.")
            check_name(name, "field of a well")
        found[well] = tuple(dict.fromkeys(names))
    return found


def is_well(value: Any) -> bool:
    """Return whether a value is the path of a well, ROW/COLUMN."""
    parts = value.split("/") if isinstance(value, str) else []
    return len(parts) == 2 and all(part.isalnum() and is_name(part) for part in parts)


def check_images(plate: Store, version: str, fields: Mapping[str, Sequence[str]]) -> None:
    """Make sure that the images of all wells exist and have the version of the plate.

    Raises
    ------
    MissingError
        For images that do not exist.
    InputError
        For an image of another version.
    """
    names = [f"{well}/{name}" for well, found in fields.items() for name in found]
    nodes = together([partial(read_node, plate.child(name)) for name in names])
    missing = [name for name, node in zip(names, nodes, strict=True) if node is None or "multiscales" not in node.ome]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise MissingError(
            f"{plate.url} has no image {', '.join(missing[:10])}{more}; expected images that exist. "
            "Write the images first, or correct the names."
        )
    for name, node in zip(names, nodes, strict=True):
        if node is not None and node.format_version != version:
            raise InputError(
                f"{plate.url}/{name} is OME-Zarr {node.format_version}; a plate of version {version} cannot have it. "
                f"Give the version {node.format_version}."
            )


def write_documents(plate: Store, version: str, fields: Mapping[str, Sequence[str]]) -> None:
    """Write the documents of rows and wells, then that of the plate; all are checked before the first is written.

    Raises
    ------
    ExistsError
        If one of the groups is something else, such as an image.
    InputError
        If one of them has another version, or lists what is not valid.
    StoreError
        If they cannot be written.
    """
    plate.writable()
    changes: dict[str, Change] = {}
    for well, names in fields.items():
        row = well.split("/")[0]
        changes[row] = partial(_row, plate.child(row), version)
        changes[well] = partial(_well, plate.child(well), version, names)
    changes[""] = partial(_plate, plate, version, fields)
    stores = {path: plate.child(path) if path else plate for path in changes}
    nodes = together([partial(read_node, store) for store in stores.values()])
    for change, node in zip(changes.values(), nodes, strict=True):
        change(node)
    # The plate is the last: what it lists is there.
    for path in sorted(changes, key=lambda path: -path.count("/") if path else 1):
        update_group(stores[path], version, changes[path])
        # A copy of the documents below would no longer be true.
        stores[path].delete_object(".zmetadata")


def _check_kind(group: Store, version: str, node: Node | None, kind: str) -> None:
    """Refuse a group that is anything but one of this kind, or that has no metadata yet."""
    if node is None:
        return
    others = [name for key, name in _KINDS.items() if key in node.ome and key != kind]
    if node.kind == "array" or others or attempt_of(node) is not None:
        found = "an array" if node.kind == "array" else (others or ["an image that is being written"])[0]
        wanted = _KINDS.get(kind, "a row of a plate")
        raise ExistsError(f"{group.url} is {found}; {wanted} does not replace it. Choose another destination.")
    if node.format_version != version:
        raise InputError(
            f"{group.url} is OME-Zarr {node.format_version}; expected {version}, as the new plate has. "
            f"Give the version {node.format_version}, or choose another destination."
        )


def _row(group: Store, version: str, node: Node | None) -> Mapping[str, Any] | None:
    """Attributes of a row, which lists nothing."""
    _check_kind(group, version, node, "")
    return {} if node is None else None


def _well(group: Store, version: str, names: Sequence[str], node: Node | None) -> Mapping[str, Any]:
    """Attributes of a well that lists these images after those that it has."""
    _check_kind(group, version, node, "well")
    listed = items_of(entries_of(node.ome.get("well") if node else None).get("images"))
    before = [image for image in listed if isinstance(image, Mapping)]
    there = {image.get("path") for image in before}
    images = [*before, *({"path": name} for name in names if name not in there)]
    return _attributes(group, version, node, "well", lambda writer, made: writer(made, images))


def _plate(group: Store, version: str, fields: Mapping[str, Sequence[str]], node: Node | None) -> Mapping[str, Any]:
    """Attributes of a plate that lists these wells and those that it has."""
    _check_kind(group, version, node, "plate")
    before = entries_of(node.ome.get("plate") if node else None)
    listed = {str(entry.get("path")): entry for entry in items_of(before.get("wells")) if isinstance(entry, Mapping)}
    wells = [*listed, *(well for well in fields if well not in listed)]
    wrong = [well for well in wells if not is_well(well)]
    if wrong:
        raise InputError(
            f"{group.url} lists the well {wrong[0]!r}; expected ROW/COLUMN, e.g. A/1. Correct the plate first."
        )
    sides = []
    for axis, side in enumerate(("rows", "columns")):
        names = [entry.get("name") for entry in items_of(before.get(side)) if isinstance(entry, Mapping)]
        sides.append(_in_order([*map(str, names), *(well.split("/")[axis] for well in wells)]))
    places = [
        {
            **listed.get(well, {}),
            "path": well,
            "rowIndex": sides[0].index(well.split("/")[0]),
            "columnIndex": sides[1].index(well.split("/")[1]),
        }
        for well in wells
    ]
    count = before.get("field_count")
    most = max([*map(len, fields.values()), count if type(count) is int else 0])
    return _attributes(
        group, version, node, "plate", lambda writer, made: writer(made, *sides, places, field_count=most)
    )


def _in_order(names: Iterable[str]) -> list[str]:
    """Names of rows or columns, each once: numbers by their size, then texts."""
    return sorted(set(names), key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def _attributes(
    group: Store, version: str, node: Node | None, kind: str, write: Callable[[Callable[..., Any], zarr.Group], None]
) -> dict[str, Any]:
    """Attributes of a group with the metadata that ome-zarr makes; everything else stays as it was."""
    writer, fmt = _ome_zarr("writer"), _ome_zarr("format").format_from_version(version)
    made = zarr.create_group(MemoryStore(), zarr_format=fmt.zarr_format)
    try:
        write(partial(getattr(writer, f"write_{kind}_metadata"), fmt=fmt), made)
    except ValueError as error:
        raise InputError(f"{group.url} cannot list these: {error}. Correct its metadata first.") from None
    attributes, found = dict(node.attributes) if node else {}, made.attrs.asdict()
    before = entries_of(node.ome.get(kind)) if node else {}
    if version == "0.4":
        return {**attributes, kind: {**before, **entries_of(found[kind])}}
    ome = entries_of(found["ome"])
    changed = {**entries_of(attributes.get("ome")), **ome, kind: {**before, **entries_of(ome[kind])}}
    return {**attributes, "ome": changed}
