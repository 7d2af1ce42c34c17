"""Images by strangers: whatever their documents say, opening and reading ends in a result or in one CellscaleError."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import BZ2, LZMA, GZip, Zlib, Zstd
from zarr.codecs import GzipCodec, ZstdCodec

import cellscale
from cellscale.errors import CellscaleError, DamagedError, InputError
from cellscale.ngff import bounded, limits
from cellscale.ngff.bounded import BoundedStore
from cellscale.ngff.frame_ranges import annotated
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.ngff.stores import Store
from cellscale.storage.documents import MAX_BYTES
from cellscale.types import Box
from cellscale.viewers.scenes import scene
from tests.support.hostile import mutants

CORNER = Box(0, 0, 8, 8)
EVERY = 61
"""Of the mutants, this one is tried: a number without a factor in common with their values."""


@pytest.fixture(scope="module", params=["0.4", "0.5"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("strangers") / "m.zarr"
    cellscale.synthesize(str(place), shape=(2, 64, 64), cells=3, ome_zarr_version=request.param)
    return place


def documents(image: Path) -> Iterator[Path]:
    yield from sorted(path for path in image.rglob("*") if path.name in limits.DOCUMENTS)


def look(image: Path) -> None:
    """Open everything as the commands do and read a corner."""
    opened = open_image(str(image))
    opened.read(CORNER)
    assert all(size > 0 for size in opened.pixel_size_um() or ())
    assert math.isfinite(opened.frame_interval_s() or 0)
    assert all(isinstance(name, str) for name in list_labels(str(image)))
    layer = open_labels(str(image), "truth")
    layer.read(CORNER)
    assert all(0 <= t < opened.size("t") for t in annotated(layer, range(opened.size("t"))))
    scene(str(image), layers=["truth"], frame=0)


def attack(image: Path, every: int) -> int:
    """Try each `every`-th mutant of each document; how many were refused."""
    refused, number = 0, 0
    for path in documents(image):
        text = path.read_text()
        for name, document in mutants(json.loads(text)):
            number += 1
            if number % every:
                continue
            path.write_text(json.dumps(document))
            try:
                look(image)
            except CellscaleError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"{path.relative_to(image)}, {name}: {error!r}") from error
        path.write_text(text)
    return refused


def test_a_field_of_another_kind_is_refused_or_ignored(image: Path) -> None:
    look(image)
    with warnings.catch_warnings():
        # Of numbers that zarr and NumPy convert before they refuse them.
        warnings.simplefilter("ignore", RuntimeWarning)
        assert attack(image, EVERY) > 10
    look(image)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::zarr.errors.ZarrUserWarning")
def test_every_field_of_another_kind_is_refused_or_ignored(image: Path) -> None:
    assert attack(image, 1) > 1000


def bare(place: Path, *, shape: Any = (64, 64), chunks: Any = (64, 64), scale: Any = (1, 1), **changes: Any) -> str:
    """An image of which only the documents exist."""
    array = zarr.create_array(str(place / "0"), shape=(64, 64), chunks=(64, 64), dtype="uint16")
    array[...] = 1
    path = place / "0" / "zarr.json"
    document = json.loads(path.read_text()) | {"shape": shape} | changes
    document["chunk_grid"]["configuration"]["chunk_shape"] = chunks
    path.write_text(json.dumps(document))
    transforms = [{"type": "scale", "scale": scale}]
    datasets = [{"path": "0", "coordinateTransformations": transforms}]
    axes = [{"name": name, "unit": "micrometer"} for name in ("y", "x")]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (place / "zarr.json").write_text(json.dumps(group))
    return str(place)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [2**40, 64]}, "has the shape more than 2147483647 × 64"),
        ({"chunks": [2**20, 2**20]}, "has chunks of 1048576 × 1048576, uint16; expected at most 2 GiB each"),
        ({"chunks": [0, 64]}, "chunk"),
        ({"scale": [float("nan"), 1]}, "expected scale or translation with 2 finite numbers"),
        ({"scale": [10**400, 1]}, "expected scale or translation with 2 finite numbers"),
        ({"scale": [True, True]}, "expected scale or translation with 2 finite numbers"),
    ],
)
def test_sizes_that_no_memory_holds_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CellscaleError, match=message):
        open_image(bare(tmp_path, **changes))


@pytest.mark.parametrize("scale", [[0, 0], [-1, 1]])
def test_a_scale_that_is_no_size_gives_no_size(tmp_path: Path, scale: list[float]) -> None:
    assert open_image(bare(tmp_path, scale=scale)).pixel_size_um() is None


def packed(image: Path, place: Path, entries: dict[str, bytes]) -> str:
    """An image as a zip file with more entries."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(image.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(image).as_posix())
        for name, data in entries.items():
            archive.writestr(name, data)
    return str(place)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "0/../../evil", "..", "C:/evil", "..\\evil", "\\evil"])
def test_a_zip_file_with_a_name_that_leads_out_is_refused(image: Path, tmp_path: Path, name: str) -> None:
    assert open_image(packed(image, tmp_path / "whole.zip", {"a..b/..c": b"x"})).read(CORNER).shape == (1, 8, 8)
    with pytest.raises(DamagedError, match="which leads out of it"):
        open_image(packed(image, tmp_path / "m.zip", {name: b"x"}))


@pytest.mark.parametrize("name", ["zarr.json", ".zattrs", "0/.zmetadata"])
def test_a_document_that_unpacks_to_more_than_a_document_has_is_refused(image: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedError, match=r"unpacks to 65 MiB; expected at most 64 MiB"):
        open_image(packed(image, tmp_path / "m.zip", {f"x/{name}": bytes(MAX_BYTES + 2**20)}))


def test_a_chunk_that_unpacks_to_more_than_a_chunk_has_is_refused(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CHUNK_BYTES", 2**20)
    with pytest.raises(DamagedError, match="'x/0', which unpacks to 2 MiB"):
        open_image(packed(image, tmp_path / "m.zip", {"x/0": bytes(2**21)}))


def test_a_zip_file_is_checked_again_when_it_changes(image: Path, tmp_path: Path) -> None:
    url = packed(image, tmp_path / "m.zip", {})
    open_image(url)
    packed(image, tmp_path / "m.zip", {"../evil": b"x"})
    with pytest.raises(DamagedError, match="leads out"):
        open_image(url)


def test_code_in_an_image_does_not_run(tmp_path: Path) -> None:
    """A filter of Zarr v2 may name any codec of numcodecs; `pickle` runs what a chunk says."""
    cellscale.synthesize(str(tmp_path / "m.zarr"), shape=(1, 64, 64), cells=3, ome_zarr_version="0.4")
    path = tmp_path / "m.zarr" / "0" / ".zarray"
    document = json.loads(path.read_text())
    pickles = [{"id": "pickle"}]
    for entry in (
        {"filters": pickles},
        {"filters": pickles, "compressor": None},
        {"compressor": pickles[0]},
        {"filters": pickles, "dtype": "|O", "fill_value": None},
        {"filters": [{"id": "vlen-utf8"}, *pickles], "dtype": "|O", "fill_value": "", "compressor": None},
    ):
        path.write_text(json.dumps(document | entry))
        for chunk in (tmp_path / "m.zarr" / "0").rglob("*"):
            if chunk.is_file() and not chunk.name.startswith("."):
                chunk.write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path).encode() + b"/ran'\ntR.")
        with pytest.raises(CellscaleError):
            open_image(str(tmp_path / "m.zarr")).read(CORNER)
        with (
            pytest.raises(CellscaleError, match=r"names the codec 'pickle'|Cannot open array"),
            Store(url=str(tmp_path / "m.zarr")).array("0") as array,
        ):
            array[:]
    assert not (tmp_path / "ran").exists()


ZEROS = bytes(2**20)
BOMBS: dict[str, Any] = {
    "zstd": lambda count: Zstd(level=1).encode(ZEROS * 8) * (count // 8),
    "gzip": lambda count: gzip.compress(ZEROS * count, 1),
    "zlib": lambda count: zlib.compress(ZEROS * count, 1),
    "bz2": lambda count: bz2.compress(ZEROS * count),
    "lzma": lambda count: lzma.compress(ZEROS * count, preset=0),
}
"""Data that unpack to a number of MiB."""


def arrays(place: Path, kind: str) -> Iterator[Path]:
    """The only stored object of arrays of one chunk with a compressor, of both versions of Zarr."""
    codec = {"gzip": GZip, "zlib": Zlib, "bz2": BZ2, "lzma": LZMA, "zstd": Zstd}[kind]()
    zarr.create_array(str(place / "v2"), data=np.ones((8, 8), "u2"), zarr_format=2, compressors=codec)
    yield place / "v2" / "0.0"
    if kind in ("gzip", "zstd"):
        codec = {"gzip": GzipCodec(), "zstd": ZstdCodec()}[kind]
        zarr.create_array(str(place / "v3"), data=np.ones((8, 8), "u2"), compressors=codec)
        yield place / "v3" / "c" / "0" / "0"


@pytest.mark.parametrize("kind", BOMBS)
def test_a_chunk_that_unpacks_to_more_than_a_limit_is_not_unpacked(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_CHUNK_BYTES", 2**24)
    monkeypatch.setattr(BoundedStore, "whole", 2**24)
    for chunk in arrays(tmp_path, kind):
        root = chunk.relative_to(tmp_path).parts[0]
        with Store(url=str(tmp_path)).array(root) as array:
            assert np.asarray(array[:]).sum() == 64
        chunk.write_bytes(BOMBS[kind](40))
        with (
            Store(url=str(tmp_path)).array(root) as array,
            pytest.raises(DamagedError, match=r"unpacks to more than 0\.0156 GiB"),
        ):
            array[:]


def test_a_part_of_a_shard_that_unpacks_to_more_than_a_limit_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_CHUNK_BYTES", 2**24)
    settings: dict[str, Any] = {"chunks": (8, 8), "shards": (16, 8), "compressors": ZstdCodec()}
    zarr.create_array(str(tmp_path / "a"), data=np.arange(128, dtype="u2").reshape(16, 8), **settings)
    shard = tmp_path / "a" / "c" / "0" / "0"
    with Store(url=str(tmp_path)).array("a") as array:
        assert np.asarray(array[8:]).min() == 64
        assert np.asarray(array[:]).max() == 127
    bomb = BOMBS["zstd"](40)
    index = np.array([[0, len(bomb)], [0, len(bomb)]], "<u8").tobytes()
    shard.write_bytes(bomb + index + google_crc32c.value(index).to_bytes(4, "little"))
    for rows in (slice(8, 16), slice(0, 16)):
        with Store(url=str(tmp_path)).array("a") as array, pytest.raises(DamagedError, match="unpacks to more than"):
            array[rows]


def test_a_shard_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"shape": (2**18, 2**18), "chunks": (512, 512), "shards": (2**17, 2**17), "dtype": "u2"}
    zarr.create_array(str(tmp_path / "a"), **settings)
    message = "has shards of 131072 × 131072, uint16; expected at most 16 GiB each"
    with pytest.raises(InputError, match=message), Store(url=str(tmp_path)).array("a"):
        pass


def test_an_array_that_is_compressed_twice_is_refused(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), data=np.ones((8, 8), "u2"), compressors=[ZstdCodec(), GzipCodec()])
    with pytest.raises(InputError, match="is compressed by zstd and gzip"), Store(url=str(tmp_path)).array("a"):
        pass


@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 256), st.booleans()), max_size=3), st.binary(max_size=4)
)
def test_the_bound_of_zstd_is_no_less_than_what_it_unpacks_to(frames: list[tuple[int, int, bool]], rest: bytes) -> None:
    noise, data, size = np.random.default_rng(0), b"\x5f\x2a\x4d\x18\x02\0\0\0ab", 0
    for length, values, checksum in frames:
        data += Zstd(level=1, checksum=checksum).encode(noise.integers(0, values, length).astype("u1").tobytes() + b"!")
        size += length + 1
    bound = bounded.zstd_bound(memoryview(data + rest))
    assert size <= bound <= size + len(frames) * bounded.ZSTD_BLOCK
