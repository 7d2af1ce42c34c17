"""Consolidated metadata: a group's copy of the documents of all nodes below it, updated when a part changes.

Zarr v2 has it in `.zmetadata`, Zarr v3 in the group's own document. Readers that find it read no other document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from cellscale.ngff.stores import Store
from cellscale.storage.documents import parsed
from cellscale.storage.together import together

_V2 = ".zmetadata"
_GROUP = {"0.4": ".zgroup", "0.5": "zarr.json"}
"""Document of a group, by NGFF version."""
_COPIES = {"0.4": _V2, "0.5": "zarr.json"}
"""Document with the copies, by NGFF version."""
_MEMBER = "consolidated_metadata"


def documents_around(store: Store, version: str) -> list[bytes | None]:
    """Read the documents of a group and of the two groups around it at once; None where there is no such group."""
    return together([partial(here.read_bytes, _GROUP[version]) for here in islice(_enclosing(store), 3)])


def _enclosing(store: Store) -> Iterator[Store]:
    """Yield a group and the places that it lies in, up to the root of its store."""
    url = store.url
    while url and not url.endswith(("/", ":")):
        yield Store(url=url, storage_options=store.storage_options)
        url = url.rpartition("/")[0]


def refresh(
    store: Store, version: str, part: str, nodes: Sequence[str], *, around: Sequence[bytes | None] = ()
) -> None:
    """Bring the consolidated metadata of a group, and of the groups that it lies in, up to date.

    Parameters
    ----------
    store : Store
        The group.
    version : str
        Its NGFF version; a group of another Zarr version around it is not one of its parents.
    part : str
        Path of the changed node below the group. Copies of documents at and below it are dropped.
    nodes : sequence of str
        Paths of the groups and arrays whose documents are copied anew, "" for the group's own.
    around : sequence of bytes or None
        Result of `documents_around`, if it is known.
    """
    group, name = _GROUP[version], _COPIES[version]
    for number, here in enumerate(_enclosing(store)):
        document = around[number] if number < len(around) else here.read_bytes(group)
        if document is None:
            return
        before = store.url.removeprefix(here.url).strip("/")
        paths = [f"{before}/{node}".strip("/") for node in nodes]
        held = document if name == group else here.read_bytes(name)
        if _entries(_parsed(held), name) is not None:
            _refresh_one(here, name, f"{before}/{part}".strip("/"), paths)


def _refresh_one(store: Store, name: str, part: str, nodes: Sequence[str]) -> None:
    def changed(content: bytes | None) -> bytes | None:
        """Return the document with the current entries of `part`, or None where nothing changes."""
        document = _parsed(content)
        held = _entries(document, name)
        if document is None or held is None:
            return None
        kept = {key: value for key, value in held.items() if not f"{key}/".startswith(f"{part}/")}
        made = {**kept, **_documents(store, nodes, name)}
        if made == held:
            return None
        whole = document if name == _V2 else document[_MEMBER]
        whole["metadata"] = dict(sorted(made.items()))
        return json.dumps(document, indent=2).encode()

    store.folder.update(name, changed)


def _parsed(content: bytes | None) -> dict[str, Any] | None:
    document = None if content is None else parsed(content, "the consolidated metadata")
    return document if isinstance(document, dict) else None


def _entries(document: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """Copies of documents by path, or None where nothing is consolidated."""
    holder = document if name == _V2 or document is None else document.get(_MEMBER)
    found = holder.get("metadata") if isinstance(holder, Mapping) else None
    return found if isinstance(found, dict) else None


def _documents(store: Store, nodes: Sequence[str], name: str) -> dict[str, Any]:
    found = {}
    for node in nodes:
        for document in (".zgroup", ".zarray", ".zattrs") if name == _V2 else ("zarr.json",):
            path = f"{node}/{document}".lstrip("/")
            content = store.read_json(path) if node or name == _V2 else None
            if content is not None:
                key = path if name == _V2 else node
                found[key] = {member: value for member, value in content.items() if member != _MEMBER}
    return found
