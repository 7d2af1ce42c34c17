"""Attempts to make an image or a label layer in a group; each has a token and never touches the data of another.

The first one in an empty group has arrays with plain names, 0, 1 and so on; the others put their token before theirs. A
group's document names the attempt that made its arrays, and the data that they have replaced.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from cellscale.ngff.metadata import Node, attributes_of, entries_of, items_of, read_node, update_group
from cellscale.ngff.stores import DOCUMENTS, Store

ATTEMPT, REPLACED, PLAIN, TABLE, REMOVED = "attempt", "replaced", "plain", "table", "removed"
"""Entries of a group's attributes under `cellscale`: the token, the names of what is no longer needed, the token of an
attempt that has the plain names and has not published, the name of the object table's folder, and whether the removal
of a layer has begun."""
OBJECTS = "objects.parquet"
"""Name of an object table's folder, or its end."""
COMPANIONS = (OBJECTS, "report")
"""Folders next to a label layer's arrays."""
_NEVER = frozenset({*DOCUMENTS, "labels", "tables", "OME"})
"""Places of the format in a group: they hold more than the arrays of one attempt, whatever a document says of them."""


def noted(node: Node | None) -> Mapping[str, Any]:
    """Attributes of cellscale in a group."""
    return node.notes if node else {}


def listed_in(node: Node | None, entry: str) -> list[str]:
    """Names that an entry of cellscale's attributes lists; only those of what is in the group may be used."""
    found = noted(node).get(entry)
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def attempt_of(node: Node | None) -> str | None:
    """Token of the attempt that has made a group, or None."""
    token = noted(node).get(ATTEMPT)
    return token if isinstance(token, str) else None


def table_of(node: Node | None) -> str | None:
    """Name of the folder of a layer's object table in the layer's group; None for a layer without one."""
    name = noted(node).get(TABLE)
    return name if isinstance(name, str) and re.fullmatch(rf"([\w-]+-)?{re.escape(OBJECTS)}", name) else None


def published(node: Node | None) -> bool:
    """Whether a group's document names arrays."""
    return node is not None and "multiscales" in node.ome


def plain_of(node: Node | None) -> str | None:
    """Token of the attempt that has the plain names in a group and has not published, or None."""
    token = attempt_of(node) if not published(node) else noted(node).get(PLAIN)
    return token if isinstance(token, str) else None


def prefix_of(group: Store, node: Node | None, version: str, attempt: str) -> str | None:
    """Beginning of the names that an attempt has in a group with this node, or None if it has nothing there."""
    if node is not None and not published(node) and attempt_of(node) == attempt:
        return ""
    if read_node(group.child(f"{attempt}-0"), version) is not None:
        return f"{attempt}-"
    return "" if attempt in (attempt_of(node), plain_of(node)) else None


def claim(group: Store, version: str, attempt: str) -> None:
    """Create a group for an attempt, if it does not exist; of several attempts at the same time, one succeeds."""
    attributes = attributes_of(version, {}, {"cellscale": {ATTEMPT: attempt}})
    update_group(group, version, lambda node: attributes if node is None else None)


def held(node: Node | None) -> set[str]:
    """Names in a group that belong to the arrays which its document names, or to arrays that these have replaced.

    A damaged document can be replaced as well: entries of another form name nothing.
    """
    if node is None or not published(node):
        return set()
    token, multiscales = attempt_of(node), items_of(node.ome["multiscales"])
    datasets = items_of(entries_of(multiscales[0]).get("datasets")) if multiscales else []
    paths = [path for path in (entries_of(dataset).get("path") for dataset in datasets) if isinstance(path, str)]
    prefix = f"{token}-" if paths and paths[0].startswith(f"{token}-") else ""
    companions = {f"{prefix}{name}" for name in COMPANIONS} if token else set()
    companions |= {table} if (table := table_of(node)) else set()
    return {*(path.partition("/")[0] for path in paths), *companions, *listed_in(node, REPLACED)}


def removable(names: Iterable[str], own: Iterable[str], there: Container[str]) -> list[str]:
    """Names in a group that may be deleted once its document names other data.

    A document of unknown origin may list any names. Only those of what is in the group count, and never places of the
    format, hidden files and what the document names next.

    Parameters
    ----------
    names : iterable of str
        Names that the document holds, see `held`.
    own : iterable of str
        Paths of the data that it names next.
    there : container of str
        Names in the group.
    """
    kept = {path.partition("/")[0] for path in own} | _NEVER
    return sorted(name for name in {*names} - kept if name in there and not name.startswith("."))


def delete_parts(group: Store, names: Iterable[str]) -> None:
    """Delete arrays and folders in a group; documents first, so that nobody opens an array that is being deleted."""
    for name in names:
        for document in DOCUMENTS:
            group.delete_object(f"{name}/{document}")
        group.folder.remove(name)


def delete_replaced(group: Store, version: str, attempt: str | None, names: Iterable[str]) -> None:
    """Delete the data that an attempt has replaced in a group, then drop their names: others may use them again."""

    def forgotten(node: Node | None) -> Mapping[str, Any] | None:
        if node is None or attempt_of(node) != attempt or not listed_in(node, REPLACED):
            return None
        left = {key: value for key, value in noted(node).items() if key != REPLACED}
        return {**node.attributes, "cellscale": left}

    names = list(names)
    delete_parts(group, names)
    if names:
        update_group(group, version, forgotten)


def discard(group: Store, attempt: str) -> None:
    """Delete the data of an attempt in a group, unless the group's document names them; nothing else is touched."""
    node, there = read_node(group), group.folder.names()
    delete_parts(group, sorted(part for part in there if part.startswith(f"{attempt}-") and part not in held(node)))
    if plain_of(node) == attempt:
        # Nobody else uses these names in a group that someone has claimed.
        plain = {part for part in there if part.isdecimal() or part in COMPANIONS} - held(node)
        delete_parts(group, sorted(plain))
    if attempt_of(node) == attempt and not published(node):
        for document in DOCUMENTS:
            group.delete_object(document)
        group.folder.remove_empty()


def kept_of(node: Node | None, attempt: str | None, replaced: Iterable[str]) -> dict[str, Any]:
    """Entries with which an attempt takes over a group: data to replace, and the attempt with the plain names."""
    plain, names = plain_of(node), list(replaced)
    entries: dict[str, Any] = {ATTEMPT: attempt}
    return entries | ({REPLACED: names} if names else {}) | ({PLAIN: plain} if plain not in (None, attempt) else {})
