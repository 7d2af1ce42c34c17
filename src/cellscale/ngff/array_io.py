"""Rectangles of one frame and slice, read from and written to arrays of any axis order.

A stored object (a chunk, or a shard of chunks) has one writer and is written whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import numpy as np
import zarr
from numcodecs import Zstd
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from cellscale.errors import InputError, MissingError, StoreError
from cellscale.ngff.metadata import AXES, Level
from cellscale.ngff.stores import Store, joined
from cellscale.storage.errors import advice, failures
from cellscale.storage.reading import decode_errors, read_again
from cellscale.storage.together import REQUESTS
from cellscale.types import Box, Image

SHARD_PX = 2048
"""Side of a shard, and of the boxes that one task publishes, px."""
CHUNK_PX = 512
"""Side of a chunk, px; arrays smaller than this on both sides have chunks of half of it."""

AT_ONCE = {"async.concurrency": REQUESTS}
"""Setting of zarr: chunks that are read or written at once."""

Index = tuple[slice, ...]


def grid_boxes(shape: tuple[int, int]) -> list[Box]:
    """Boxes of 2048 × 2048 px that cover (y, x), in raster order."""
    height, width = shape
    starts = itertools.product(range(0, height, SHARD_PX), range(0, width, SHARD_PX))
    return [Box(y, x, min(y + SHARD_PX, height), min(x + SHARD_PX, width)) for y, x in starts]


def array_settings(axes: Sequence[str], shape: tuple[int, ...], dtype: np.dtype[Any], version: str) -> dict[str, Any]:
    """Chunks, shards, names and compression of an array that cellscale creates."""
    sizes = dict(zip(axes, shape, strict=True))
    side = CHUNK_PX if max(sizes["y"], sizes["x"]) >= CHUNK_PX else CHUNK_PX // 2
    chunks = tuple(side if axis in "yx" else 1 for axis in axes)
    settings: dict[str, Any] = {"shape": shape, "dtype": dtype, "chunks": chunks, "fill_value": 0}
    if version == "0.4":
        encoding = {"name": "v2", "separator": "/"}
        return settings | {
            "zarr_format": 2,
            "compressors": Zstd(level=3, checksum=True),
            "chunk_key_encoding": encoding,
        }
    compressor = ZstdCodec(level=3, checksum=True)
    settings |= {"zarr_format": 3, "dimension_names": tuple(axes), "compressors": compressor}
    if max(sizes["y"], sizes["x"]) > SHARD_PX:
        settings["shards"] = tuple(SHARD_PX if axis in "yx" else 1 for axis in axes)
    return settings


def stored_sides(axes: Sequence[str], shape: tuple[int, ...], dtype: np.dtype[Any], version: str) -> dict[str, int]:
    """Sides of a stored object, a shard or a chunk without sharding, of a new array by axis."""
    settings = array_settings(axes, shape, dtype, version)
    return dict(zip(axes, settings.get("shards", settings["chunks"]), strict=True))


def check_range(what: str, index: int, size: int, *, url: str) -> None:
    """Raise MissingError for a frame, slice or channel that does not exist."""
    if not 0 <= index < size:
        raise MissingError(f"{what} {index} of {url} does not exist; it has {size}, numbered from 0.")


def check_box(box: Box, shape: tuple[int, int], url: str) -> None:
    """Raise InputError for a box that is empty or leaves the image."""
    if box.area == 0 or box.clip(Box.of(shape)) != box:
        raise InputError(
            f"Rows {box.y0}:{box.y1}, columns {box.x0}:{box.x1} of {url}: "
            f"expected a box inside {shape[0]} × {shape[1]} px."
        )


def index_of(axes: Sequence[str], box: Box, *, t: int, z: slice, c: slice) -> Index:
    """The index of a box in an array with these axes."""
    rows, columns = box.slices
    places = {"t": slice(t, t + 1), "c": c, "z": z, "y": rows, "x": columns}
    return tuple(places[axis] for axis in axes)


def object_shape(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Shape of a stored object: a shard, or a chunk without sharding."""
    return tuple(array.shards or array.chunks)


def _objects(array: zarr.Array[Any], index: Index) -> list[tuple[int, ...]]:
    """Grid coordinates of the stored objects that an index touches."""
    sides = object_shape(array)
    ranges = [range(part.start // side, -(-part.stop // side)) for part, side in zip(index, sides, strict=True)]
    return list(itertools.product(*ranges))


def _damaged(array: zarr.Array[Any], index: Index) -> tuple[str, Exception] | None:
    """Key and error of the first stored object in an index that cannot be read."""
    sides = object_shape(array)
    for place in _objects(array, index):
        try:
            array[tuple(slice(i * side, (i + 1) * side) for i, side in zip(place, sides, strict=True))]
        except failures() as error:
            return array.metadata.encode_chunk_key(place), error
    return None


def _remedy(error: Exception, url: str) -> str:
    if isinstance(error, decode_errors()):
        return "Put the object back from a copy, or make the image again."
    return advice(error, url)


def opened(
    store: Store, level: Level, mode: Literal["r", "r+"] = "r", *, absent: set[str] | None = None
) -> AbstractContextManager[zarr.Array[Any]]:
    """Open the array of a level for one use, see `Store.array`."""
    return store.array(level.path, mode, document=level.document, absent=absent)


def read_block(
    store: Store, level: Level, axes: Sequence[str], index: Index, *, absent: set[str] | None = None
) -> Image:
    """Read an index and return it as (c, z, y, x), of the first frame in it, in the machine's byte order.

    `absent` gets the keys, below the store, of the chunks and shards that do not exist and read as the fill value.

    Raises
    ------
    StoreError
        Naming the chunk that cannot be read.
    MissingError
        If the array was deleted: its chunks would read as the fill value.
    """
    missing: set[str] = set()
    path = level.path
    with opened(store, level, absent=missing) as array:
        try:
            with zarr.config.set(AT_ONCE):
                block = read_again(lambda: np.asarray(array[index]))
        except failures() as error:
            key, reason = _damaged(array, index) or ("", error)
            where = ", ".join(f"{axis} {part.start}:{part.stop}" for axis, part in zip(axes, index, strict=True))
            url = joined(store.url, path)
            raise StoreError(
                f"Cannot read {where} of array {url}: chunk {key or 'unknown'} is damaged or cannot be fetched "
                f"({type(reason).__name__}: {reason}). {_remedy(reason, store.url)}"
            ) from error
        if absent is not None:
            before = len(f"{array.path}/".lstrip("/"))
            absent.update(f"{path}/{key[before:]}" for key in missing)
    if missing:
        # Chunks of background are not stored, so a missing chunk alone says nothing: only then is the array looked up.
        check_still_there(store, path)
    block = block.astype(block.dtype.newbyteorder("="), copy=False)
    order = sorted(range(len(axes)), key=lambda i: AXES.index(axes[i]))
    sizes = dict(zip(axes, block.shape, strict=True))
    return np.ascontiguousarray(block.transpose(order).reshape([sizes.get(axis, 1) for axis in AXES])[0])


def check_still_there(store: Store, path: str) -> None:
    """Raise MissingError for an array that was deleted while it was read: lost chunks read as its fill value.

    An array's document is deleted before its chunks.
    """
    if all(store.read_bytes(f"{path}/{name}") is None for name in ("zarr.json", ".zarray")):
        raise MissingError(f"{joined(store.url, path)} was replaced or removed while it was read. Open it again.")


def read_plane(
    store: Store,
    level: Level,
    axes: Sequence[str],
    index: Index,
    *,
    project: Literal["max"] | None = None,
    absent: set[str] | None = None,
) -> Image:
    """Read an index of one slice as (c, y, x), or the maximum over all slices in it, one layer of chunks at a time."""
    if project is None or "z" not in axes:
        return read_block(store, level, axes, index, absent=absent)[:, 0]
    at = list(axes).index("z")
    with opened(store, level) as array:
        depth = array.chunks[at]
    highest: Image | None = None
    for start in range(index[at].start, index[at].stop, depth):
        part = slice(start, min(start + depth, index[at].stop))
        layer = read_block(store, level, axes, (*index[:at], part, *index[at + 1 :]), absent=absent)
        values: Image = layer.max(axis=1)
        highest = values if highest is None else np.maximum(highest, values)
    if highest is None:
        raise InputError(f"{joined(store.url, level.path)} has no slices.")
    return highest


class ReadSize(NamedTuple):
    """Size of a read of a store."""

    requests: int
    pixels: int
    """Pixels of all chunks that are fetched, also those that were not asked for."""


def read_size(
    axes: Sequence[str],
    index: Index,
    *,
    shape: Sequence[int],
    chunks: Sequence[int],
    shards: Sequence[int] | None,
    project: Literal["max"] | None = None,
) -> ReadSize:
    """Count what `read_plane` fetches of an array of which every object exists.

    A shard that is wanted whole takes one request, a part of one takes a request for its index and one for each chunk.
    """
    objects = wanted = full = each = pixels = 1
    for axis, part, side, chunk, size in zip(axes, index, shards or chunks, chunks, shape, strict=True):
        first, last, inside = part.start // chunk, -(-part.stop // chunk), side // chunk
        if axis == "z" and project is not None:
            # One layer of chunks at a time.
            touched = np.ones(last - first, np.int64)
        else:
            starts = np.arange(part.start // side, -(-part.stop // side)) * inside
            touched = np.minimum(starts + inside, last) - np.maximum(starts, first)
        objects, wanted, each = objects * len(touched), wanted * int(touched.sum()), each * inside
        full, pixels = full * int((touched == inside).sum()), pixels * (min(last * chunk, size) - first * chunk)
    return ReadSize(requests=objects + wanted - full * each, pixels=pixels)


def object_keys(store: Store, level: Level, index: Index) -> list[str]:
    """Keys, below the store, of the stored objects that an index touches."""
    with opened(store, level) as array:
        return [f"{level.path}/{array.metadata.encode_chunk_key(place)}" for place in _objects(array, index)]


def flush(store: Store, level: Level, indices: Sequence[Index]) -> None:
    """Wait until the objects stored for indices are on the disk; object stores need no flush."""
    if store.on_disk:
        with opened(store, level) as array:
            places = {place for index in indices for place in _objects(array, index)}
            keys = [f"{level.path}/{array.metadata.encode_chunk_key(place)}" for place in places]
        store.folder.flush(key for key in keys if store.folder.exists(key))


def check_whole(array: zarr.Array[Any], axes: Sequence[str], index: Index, url: str) -> None:
    """Raise InputError unless an index covers whole stored objects: writing a part would lose the other pixels."""
    for axis, part, side, size in zip(axes, index, object_shape(array), array.shape, strict=True):
        if part.start % side or (part.stop % side and part.stop != size):
            raise InputError(
                f"{axis} {part.start}:{part.stop} of {url} is not made of whole chunks or shards of {side}. "
                "Write the boxes that `shards` lists."
            )


def _stored(array: zarr.Array[Any], index: Index, values: NDArray[Any], *, empty: bool) -> int:
    """Count the objects that are stored for the values of an index of whole objects."""
    places, sides = _objects(array, index), object_shape(array)
    starts = [part.start for part in index]
    corners = [[i * side - start for i, side, start in zip(place, sides, starts, strict=True)] for place in places]
    boxes = [tuple(slice(low, low + side) for low, side in zip(corner, sides, strict=True)) for corner in corners]
    return len(places) if empty else sum(bool(values[box].any()) for box in boxes)


def write_plane(
    store: Store, level: Level, axes: Sequence[str], index: Index, values: NDArray[Any], *, empty: bool
) -> int:
    """Write (y, x) into an index of whole stored objects and return how many are stored.

    `empty`: also store objects that hold only zeros.
    """
    url = joined(store.url, level.path)
    with opened(store, level, "r+") as array:
        check_whole(array, axes, index, url)
        shape = tuple(part.stop - part.start for part in index)
        ordered = values if axes.index("y") < axes.index("x") else values.T
        try:
            with zarr.config.set(AT_ONCE):
                array.with_config({"write_empty_chunks": empty})[index] = ordered.reshape(shape)
            return _stored(array, index, ordered.reshape(shape), empty=empty)
        except failures() as error:
            raise StoreError(
                f"Cannot write {url}: {type(error).__name__}: {error}. {advice(error, store.url)}"
            ) from error
