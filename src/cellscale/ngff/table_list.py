"""The list of an image's tables, which ngio defines: names in the group `tables`, changed by several programs.

Tables of cellscale are copies that describe one layer. One whose layer is replaced leaves the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellscale.errors import DamagedError
from cellscale.ngff import consolidated
from cellscale.ngff.attempts import ATTEMPT, attempt_of
from cellscale.ngff.metadata import Node, read_node, update_group
from cellscale.ngff.names import is_name
from cellscale.ngff.stores import Store

TABLES = "tables"
"""Name of the group of tables in an image's group, and of the list of their names in its attributes."""
LAYER = "layer"
"""Entry of a table's attributes under `cellscale`: the layer that it describes. `attempt` has the layer's token."""


def listed_tables(node: Node | None, url: str) -> list[Any]:
    """Names that a group of tables lists, as they are; DamagedError for another kind of list."""
    found = node.attributes.get(TABLES, []) if node else []
    if not isinstance(found, list):
        raise DamagedError(f"{url} is not a valid group of tables: its attribute `tables` is not a list. Correct it.")
    return found


def change_tables(tables: Store, version: str, *, add: str | None = None, drop: frozenset[str] = frozenset()) -> None:
    """Add a name to the list of tables, or remove some; changes of other writers are kept."""

    def changed(node: Node | None) -> Mapping[str, Any] | None:
        names = listed_tables(node, tables.url)
        wanted = [name for name in names if not (isinstance(name, str) and name in drop)]
        wanted += [add] if add is not None and add not in names else []
        return None if wanted == names else {**(node.attributes if node else {}), TABLES: wanted}

    update_group(tables, version, changed)


def described_layer(node: Node | None) -> str | None:
    """The layer that a table of cellscale describes; None for tables of other programs."""
    layer = node.notes.get(LAYER) if node else None
    return layer if isinstance(layer, str) else None


def notes_of(layer: str, attempt: str | None) -> dict[str, str]:
    """Attributes of cellscale of the table of a layer."""
    return {LAYER: layer, **({ATTEMPT: attempt} if attempt else {})}


def unlist_tables(home: Store, version: str, *, layer: str | None = None, kept: str | None = None) -> None:
    """Take the tables of cellscale from an image's list that describe replaced pixels; tables of others stay listed.

    Parameters
    ----------
    home : Store
        The image.
    version : str
        Its NGFF version.
    layer : str, optional
        The layer; None: all layers of the image.
    kept : str, optional
        The attempt whose table stays; None: none.
    """
    tables = home.child(TABLES)
    node = read_node(tables, version)
    names = node.attributes.get(TABLES) if node else None
    stale = set()
    for name in filter(is_name, names if isinstance(names, list) else ()):
        table = read_node(tables.child(name), version)
        described = described_layer(table)
        if described and layer in (None, described) and (kept is None or attempt_of(table) != kept):
            stale.add(name)
    if stale:
        change_tables(tables, version, drop=frozenset(stale))
        for name in stale:
            consolidated.refresh(tables, version, name, [""])
