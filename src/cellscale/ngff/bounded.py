"""Compressed chunks of unknown origin: the size that they unpack to is bounded before they are unpacked.

A few kilobytes of zeros, compressed, become gigabytes in the decoder, whatever size of chunk the array declares. Blosc
and LZ4 keep sizes in 31 bits. The blocks of zstd say how much they hold, so that walking over them costs nothing; the
other streams are unpacked once to count, where they are so long that they could exceed the limit.
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from cellscale.errors import DamagedError, InputError
from cellscale.ngff.limits import MAX_CHUNK_BYTES

COMPRESSORS = frozenset({"zstd", "gzip", "zlib", "bz2", "lzma", "blosc", "lz4"})
"""Codecs whose output is larger than their input."""
ZSTD_BLOCK = 2**17
"""Greatest unpacked size of a zstd block, bytes."""
_ZSTD, _SKIPPED = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_STREAMS: dict[str, tuple[bytes, float, Callable[[Any], Any]]] = {
    "gzip": (b"\x1f\x8b", 1032, gzip.open),
    "bz2": (b"BZh", math.inf, bz2.open),
    "lzma": (b"\xfd7zXZ", math.inf, lzma.open),
}
"""First bytes, greatest unpacked bytes per byte, and a function that unpacks step by step."""
_STEP = 2**20


def zstd_bound(data: memoryview) -> int:
    """Return an upper bound of the unpacked size of the frames at the beginning of `data`, from their block headers.

    See RFC 8878, 3.1: a raw block and one of equal bytes say their size, any other holds at most 128 KiB; frames of
    another kind are skipped.
    """
    total, at = 0, 0
    while at + 5 < len(data):
        magic = bytes(data[at : at + 4])
        if magic[1:] == _SKIPPED and magic[0] >> 4 == 5:
            at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
            continue
        if magic != _ZSTD:
            break
        flags = data[at + 4]
        single, sizes = flags >> 5 & 1, flags >> 6
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[sizes]
        last = 0
        while not last and at + 3 <= len(data):
            header = int.from_bytes(data[at : at + 3], "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            total += min(size, ZSTD_BLOCK) if kind < 2 else ZSTD_BLOCK
            at += 3 + (1 if kind == 1 else size)
        at += 4 * (flags >> 2 & 1)
    return total


def _inflated(data: memoryview) -> Iterator[int]:
    """Sizes of the pieces that a zlib stream unpacks to."""
    inflate, rest = zlib.decompressobj(), bytes(data)
    while rest and not inflate.eof:
        yield len(inflate.decompress(rest, _STEP))
        rest = inflate.unconsumed_tail


def _pieces(data: memoryview, kind: str) -> Iterator[int]:
    """Sizes of the pieces that a stream unpacks to; none for other data, which no decoder unpacks."""
    if kind == "zlib":
        yield from _inflated(data) if len(data) * 1032 > MAX_CHUNK_BYTES else ()
        return
    first, ratio, unpack = _STREAMS[kind]
    if bytes(data[: len(first)]) != first or len(data) * ratio <= MAX_CHUNK_BYTES:
        return
    with unpack(io.BytesIO(data)) as stream:
        while piece := stream.read(_STEP):
            yield len(piece)


def check_unpacked(data: memoryview, kind: str, limit: int, place: str) -> None:
    """Refuse data that unpack to more than a limit.

    Raises
    ------
    DamagedError
        Naming the place; data that cannot be unpacked are left to the decoder.
    """
    total = zstd_bound(data) if kind == "zstd" else 0
    if kind in ("zlib", *_STREAMS):
        try:
            for size in _pieces(data, kind):
                total += size
                if total > limit:
                    break
        except (OSError, EOFError, zlib.error, lzma.LZMAError):
            return
    if total > limit:
        raise DamagedError(
            f"{place} unpacks to more than {limit / 2**30:.3g} GiB: it is damaged, or made to exhaust the memory."
        )


class BoundedStore(WrapperStore[Any]):
    """A store whose chunks are checked when they are read."""

    kind = ""
    """Compressor of the array that is read."""
    whole = MAX_CHUNK_BYTES
    """Greatest unpacked size of an object; parts of shards have the limit of a chunk."""

    def check(self, array: zarr.Array[Any], url: str, names: Sequence[str]) -> None:
        """Check the chunks of an array with codecs of these names from now on.

        Raises
        ------
        InputError
            For an array that is compressed twice, since the output of the first codec has no known size, or of pickles.
        """
        if "pickle" in names:
            raise InputError(
                f"{url} names the codec 'pickle', which runs code that a chunk holds. Do not trust this image."
            )
        found = [name for name in names if name in COMPRESSORS]
        if len(found) > 1:
            raise InputError(f"{url} is compressed by {' and '.join(found[:9])}; expected one compressor.")
        self.kind = found[0] if found else ""
        shard = math.prod(array.shards or array.chunks) * array.dtype.itemsize
        self.whole = max(MAX_CHUNK_BYTES, 2 * shard)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object or a part of one, and check it."""
        value = cast("Buffer | None", await self._store.get(key, prototype, byte_range))
        if value is not None and self.kind and self.kind not in ("blosc", "lz4"):
            limit = self.whole if byte_range is None else MAX_CHUNK_BYTES
            data: Any = value.as_numpy_array()
            task = memoryview(data), self.kind, limit, f"{self._store}/{key}"
            if self.kind == "zstd":
                check_unpacked(*task)
            else:
                await asyncio.to_thread(check_unpacked, *task)
        return value


def codec_names(value: Any) -> Iterator[str]:
    """Names of the codecs in an array's metadata, of both versions and inside of shards."""
    if isinstance(value, dict):
        for key in ("name", "id"):
            if isinstance(value.get(key), str):
                yield value[key].removeprefix("numcodecs.")
        for key, part in value.items():
            if key != "attributes":
                yield from codec_names(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from codec_names(part)
