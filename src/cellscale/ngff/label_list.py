"""The list of an image's label layers: one document that all writers of layers change.

Each change is applied to the current content, so that no name of another writer is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellscale.ngff.metadata import NO_GROUP, Node, update_group
from cellscale.ngff.stores import Store


def names_of(node: Node | None) -> list[str]:
    """Names that a group of labels lists."""
    labels = node.ome.get("labels") if node else None
    return [str(name) for name in labels] if isinstance(labels, list) else []


def change_names(group: Store, version: str, *, add: str | None = None, drop: str | None = None) -> None:
    """Add a name to the list of label layers, or remove one; changes of other writers are kept."""

    def changed(node: Node | None) -> Mapping[str, Any] | None:
        """Return the group's attributes with the new list, NO_GROUP for an empty one, None where nothing changes."""
        names = names_of(node)
        wanted = [name for name in names if name != drop]
        wanted += [add] if add is not None and add not in names else []
        if wanted == names or not wanted:
            # A group of labels must list one.
            return None if wanted == names else NO_GROUP
        kept = dict(node.attributes) if node else {}
        if version == "0.5":
            ome = {**(node.ome if node else {}), "version": "0.5", "labels": wanted}
            return {**kept, "ome": ome}
        return {**kept, "version": "0.4", "labels": wanted}

    update_group(group, version, changed)
