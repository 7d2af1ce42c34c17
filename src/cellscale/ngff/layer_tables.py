"""Files of a layer's object table: their names, reading, and a table made anew for a published layer.

The name of a file depends only on the frame and the row group, so that a file that is written again replaces the
earlier one. A new table is written under a name of its own, then named in the layer's document: one that the document
does not name is being written, or was left by a killed process.
"""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cellscale.errors import ExistsError, InputError, MissingError
from cellscale.ngff import consolidated
from cellscale.ngff.attempts import OBJECTS, TABLE, attempt_of, delete_parts, noted, table_of
from cellscale.ngff.label_layer import LabelLayer
from cellscale.ngff.metadata import Node, update_group
from cellscale.ngff.stores import Store
from cellscale.storage.errors import explained
from cellscale.storage.folder import Folder
from cellscale.storage.urls import file_system

MEASURED = "measured"
"""Entry of a layer's attributes under `cellscale`: the digest of what its table was measured from."""
_PART = re.compile(r"part-(\d{6,})-(\d{6,})\.parquet")


def part_name(plane: int, row_group: int) -> str:
    """Name of the file of a plane's row group."""
    return f"part-{plane:06d}-{row_group:06d}.parquet"


def part_names(names: Iterable[str]) -> list[str]:
    """Names of the table's files among those in its folder, in the order of frames and labels."""
    found = [match for match in map(_PART.fullmatch, names) if match]
    return [match.string for match in sorted(found, key=lambda match: (int(match[1]), int(match[2])))]


def table_files(layer: LabelLayer) -> tuple[Folder, list[str]]:
    """Folder of a layer's object table, and the names of its files in their order; none for a layer without one.

    Raises
    ------
    InputError
        For a layer in a zip file, which has no folders.
    """
    if layer.store.zip_file:
        raise InputError(f"{layer.url} lies in a zip file, from which object tables are not read. Unpack it first.")
    folder = Folder(url=layer.place(OBJECTS), storage_options=layer.storage_options)
    return folder, part_names(folder.names()) if layer.table else []


def count_rows(layer: LabelLayer) -> int:
    """Count the rows of a layer's table; only the end of each file is read, where Parquet keeps their number."""
    folder, names = table_files(layer)
    system, root = file_system(folder.url, folder.storage_options)
    count = 0
    for name in names:
        where = f"{folder.url}/{name}"
        with explained("read", where, folder.storage_options), system.open(f"{root}/{name}", "rb") as stream:
            count += int(pq.read_metadata(stream).num_rows)
    return count


def table_parts(layer: LabelLayer, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read a layer's object table file by file, in the order of frames and labels.

    Parameters
    ----------
    layer : LabelLayer
        The layer.
    columns : sequence of str, optional
        The columns to read; those that the table does not have are passed over. None: all.
    """
    folder, names = table_files(layer)
    for name in names:
        data = folder.read(name) or b""
        with explained("read", f"{folder.url}/{name}"):
            part = pq.ParquetFile(io.BytesIO(data))
            known = set(part.schema_arrow.names)
            table = part.read(columns=None if columns is None else [column for column in columns if column in known])
        yield table


def alike(tables: Iterable[pa.Table], output: str) -> Iterator[pa.Table]:
    """Pass tables on; InputError, naming their output, for one whose columns differ from those of the first."""
    schema: pa.Schema = None
    for table in tables:
        schema = schema or table.schema
        if table.schema != schema:
            raise InputError(
                f"Object tables for {output} differ in columns: {table.schema.names}, expected {schema.names}. "
                "Write one file for each image."
            )
        yield table


def write_parquet(tables: Iterable[pa.Table], stream: IO[bytes], output: str) -> int:
    """Write tables of equal columns as one Parquet file; return the number of rows."""
    rows, writer = 0, None
    try:
        for table in alike(tables, output):
            writer = writer or pq.ParquetWriter(stream, table.schema)
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


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


def switch_table(layer: LabelLayer, name: str, measured: str) -> None:
    """Let the layer's document name a complete table, in one write, then delete the tables that are no longer named.

    Parameters
    ----------
    layer : LabelLayer
        The layer.
    name : str
        Folder of the table.
    measured : str
        Digest of all that the table depends on, which the document keeps.

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
        return {**node.attributes, "cellscale": {**noted(node), TABLE: name, MEASURED: measured}}

    update_group(layer.store, layer.version, changed)
    home, _, part = layer.url.rpartition("/")
    nodes = [part, *(f"{part}/{level.path}" for level in layer.levels), f"{part}/{layer.prefix}report"]
    consolidated.refresh(Store(url=home, storage_options=layer.storage_options), layer.version, part, nodes)
    delete_parts(layer.store, sorted((old & layer.store.folder.names()) - {name}))
