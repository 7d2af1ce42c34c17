"""Feature tables of ngio: copies of object tables in the group `tables` of an image, each as one Parquet file.

The group `tables` lists their names. The attributes of each table name the label layer, relative to the table, and the
column that has the labels. A table has one row for each label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cellscale.errors import DamagedError, ExistsError, InputError, MissingError, StoreError
from cellscale.ngff import consolidated
from cellscale.ngff.attempts import attempt_of
from cellscale.ngff.label_layer import LabelLayer
from cellscale.ngff.layer_tables import table_parts, write_parquet
from cellscale.ngff.metadata import Node, read_node, update_group
from cellscale.ngff.names import check_name
from cellscale.ngff.stores import DOCUMENTS, Store, joined
from cellscale.ngff.table_list import TABLES, change_tables, described_layer, listed_tables, notes_of
from cellscale.storage.outputs import new_file

FILE = "table.parquet"
"""Name of the file in a table's group."""
_PLACES = ("frame", "slice", "slice_end", "track", "parent", "generation")


def _home(layer: LabelLayer) -> Store:
    """The group that holds a layer's `labels`."""
    return Store(url=layer.url.rpartition("/labels/")[0], storage_options=layer.storage_options)


def check_feature_table(layer: LabelLayer, name: str, *, overwrite: bool) -> list[str]:
    """Check that `write_feature_table` can write a table; return the names of its columns.

    Raises
    ------
    CellscaleError
        As `write_feature_table` does.
    """
    check_name(name, "table")
    home = _home(layer)
    image = read_node(home, layer.version)
    if image is None or "multiscales" not in image.ome:
        raise MissingError(
            f"{home.url} holds label layers and no image; ngio opens tables of images. Write a file instead, with "
            "--output."
        )
    tables = home.child(TABLES)
    group, node = tables.child(name), read_node(tables.child(name))
    if node is None and group.occupied():
        raise _made_by_others(group)
    _check_replaceable(node, tables, layer, name, overwrite=overwrite)
    return _distinct_labels(layer)


def write_feature_table(layer: LabelLayer, name: str, rows: Iterable[pa.Table], *, overwrite: bool) -> int:
    """Write the object table of a layer as a feature table of the image that holds the layer.

    The file appears when it is complete, then the name is listed.

    Parameters
    ----------
    layer : LabelLayer
        A published layer with an object table.
    name : str
        Name of the table.
    rows : iterable of pyarrow.Table
        The parts of the object table.
    overwrite : bool
        Replace a table that was written by this function.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ExistsError
        If there is a table that must not be replaced.
    InputError
        If a label has several rows, or the name is not valid.
    MissingError
        If the layer's store holds no image, or the layer was replaced meanwhile.
    StoreError
        If the store cannot be written.
    """
    names = check_feature_table(layer, name, overwrite=overwrite)
    tables = _home(layer).child(TABLES)
    _claim(tables, layer, name, names, overwrite=overwrite)
    with new_file(joined(tables.url, name, FILE), layer.storage_options) as stream:
        count = write_parquet(rows, stream, tables.url)
    change_tables(tables, layer.version, add=name)
    found, listed = (read_node(store, layer.version) for store in (tables.child(name), tables))
    notes = notes_of(layer.name, layer.attempt)
    if found is None or found.notes != notes or name not in listed_tables(listed, tables.url):
        raise StoreError(f"Another process writes the table {joined(tables.url, name)}. Repeat with --overwrite.")
    if attempt_of(read_node(layer.store, layer.version)) != layer.attempt:
        change_tables(tables, layer.version, drop=frozenset((name,)))
        raise MissingError(f"{layer.url} was replaced or removed while its table was written. Write it again.")
    consolidated.refresh(tables, layer.version, name, ["", name])
    return count


def _distinct_labels(layer: LabelLayer) -> list[str]:
    """Check that no label has two rows; return the names of the table's columns."""
    labels: list[Any] = []
    names: list[str] = []
    for table in table_parts(layer):
        names = names or table.column_names
        if table.column_names.count("label") != 1 or not pa.types.is_integer(table["label"].type):
            raise DamagedError(
                f"The object table of {layer.url} has no column 'label' of whole numbers. Make it anew with "
                "`cellscale measure --overwrite`."
            )
        labels.append(table["label"].to_numpy())
    every = np.concatenate(labels) if labels else np.zeros(0)
    if len(np.unique(every)) < len(every):
        raise InputError(
            f"Labels of {layer.url} occur in several frames or slices, and a feature table has one row for each label. "
            "Number the cells through all frames with `cellscale segment --unique-ids`, or write a file with --output."
        )
    return names


def _made_by_others(group: Store) -> ExistsError:
    return ExistsError(
        f"{group.url} exists and was not made by cellscale; it is not overwritten. Choose another name with --name."
    )


def _check_replaceable(node: Node | None, tables: Store, layer: LabelLayer, name: str, *, overwrite: bool) -> None:
    """Refuse the place of a table, whose document is `node`, that must not be replaced."""
    group = tables.child(name)
    empty = node is None or (not node.attributes and not group.folder.names() - {*DOCUMENTS})
    if not empty and described_layer(node) is None:
        raise _made_by_others(group)
    listed = name in listed_tables(read_node(tables, layer.version), tables.url)
    if listed and not empty and not overwrite:
        raise ExistsError(f"{group.url} exists already. Replace it with --overwrite, or choose another --name.")


def _claim(tables: Store, layer: LabelLayer, name: str, columns: Iterable[str], *, overwrite: bool) -> None:
    """Make the group of a table, or take over one that cellscale has made."""
    group = tables.child(name)

    def changed(node: Node | None) -> Mapping[str, Any]:
        """Return the attributes of the table's group; refuse what another program has written."""
        _check_replaceable(node, tables, layer, name, overwrite=overwrite)
        places = [column for column in columns if column in _PLACES or column.startswith("bbox_")]
        return {
            **(node.attributes if node else {}),
            "type": "feature_table",
            "table_version": "1",
            "region": {"path": f"../labels/{layer.name}"},
            "backend": "parquet",
            "index_key": "label",
            "index_type": "int",
            "instance_key": "label",
            "metadata_columns": places,
            "cellscale": notes_of(layer.name, layer.attempt),
        }

    update_group(group, layer.version, changed)
