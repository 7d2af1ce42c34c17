"""A published layer's object table made anew: written under a name of its own, then named in the layer's document.

A table whose folder the document does not name is one that is being written, or that a killed process has left.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cellscale.errors import ExistsError, MissingError
from cellscale.ngff import consolidated
from cellscale.ngff.attempts import OBJECTS, TABLE, attempt_of, delete_parts, noted, table_of
from cellscale.ngff.label_layer import LabelLayer
from cellscale.ngff.metadata import Node, update_group
from cellscale.ngff.stores import Store


def new_table(layer: LabelLayer, *, overwrite: bool) -> str:
    """Return the name of a folder for a new table of a layer, which nothing else has.

    Raises
    ------
    ExistsError
        If there is a table, or a part of one that a killed process has left, and `overwrite` is not set.
    """
    layer.store.writable()
    there, name = layer.store.folder.names(), f"{layer.prefix}{OBJECTS}"
    if not overwrite and layer.table:
        raise ExistsError(f"{layer.url} has an object table already. Replace it with --overwrite.")
    if not overwrite and name in there:
        raise ExistsError(
            f"{layer.url} holds an object table that is being written, or was left unfinished. Start over with "
            "--overwrite."
        )
    return f"{uuid.uuid4().hex[:16]}-{OBJECTS}" if name in there else name


def switch_table(layer: LabelLayer, name: str) -> None:
    """Let the layer's document name a complete table, in one write, then delete the tables that are no longer named.

    Raises
    ------
    MissingError
        If the layer was replaced or removed meanwhile; its successor keeps its own table.
    """
    old: set[str] = {f"{layer.prefix}{OBJECTS}"}

    def changed(node: Node | None) -> Mapping[str, Any]:
        if node is None or attempt_of(node) != layer.attempt:
            raise MissingError(f"{layer.url} was replaced or removed while its objects were measured. Measure again.")
        old.add(table_of(node) or name)
        return {**node.attributes, "cellscale": {**noted(node), TABLE: name}}

    update_group(layer.store, layer.version, changed)
    home, _, part = layer.url.rpartition("/")
    nodes = [part, *(f"{part}/{level.path}" for level in layer.levels), f"{part}/{layer.prefix}report"]
    consolidated.refresh(Store(url=home, storage_options=layer.storage_options), layer.version, part, nodes)
    delete_parts(layer.store, sorted((old & layer.store.folder.names()) - {name}))
