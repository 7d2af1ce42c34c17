"""Images: what is written is read, in any axis order, and what is no image is refused with the right reason."""

from __future__ import annotations

import functools
import http.server
import json
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.metadata import ArrayV3Metadata

from cellscale.errors import ExistsError, InputError, MissingError, StoreError
from cellscale.ngff.image import NgffImage, create_image, open_image
from cellscale.types import Box
from tests.ngff.pictures import make, missing, noise, validate, whole


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_is_written_is_read_and_valid(tmp_path: Path, version: str) -> None:
    pixels = noise(2, 2, 3, 30, 41)
    names = ("nuclei", "membrane")
    image = make(
        tmp_path / "i.zarr",
        pixels,
        "tczyx",
        version=version,
        pixel_size_um=(0.5, 0.25),
        frame_interval_s=60,
        channels=names,
    )
    again = pickle.loads(pickle.dumps(image))
    assert again == image
    assert again.read(Box(3, 5, 20, 40), t=1, z=2).tolist() == pixels[1, :, 2, 3:20, 5:40].tolist()
    assert (
        again.read(Box(3, 5, 20, 40), t=1, z="max", channels=[1]).tolist()
        == pixels[1, 1:, :, 3:20, 5:40].max(1).tolist()
    )
    assert again.read(whole(again), channels=[1, 0]).tolist() == pixels[0, ::-1, 0].tolist()
    assert (image.pixel_size_um(), image.frame_interval_s(), image.channels) == ((0.5, 0.25), 60, names)
    assert missing(image, 1) == 0
    assert validate(image.url) == "Image"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_pyramid_is_the_mean_of_blocks(tmp_path: Path, version: str) -> None:
    pixels = noise(2, 600, 1101, dtype="uint8")
    image = make(tmp_path / "i.zarr", pixels, "tyx", version=version, pixel_size_um=(0.5, 0.5))
    assert [level.shape for level in image.levels] == [(2, 600, 1101), (2, 300, 551), (2, 150, 276)]
    assert [level.scale for level in image.levels] == [(1, 0.5, 0.5), (1, 1, 1), (1, 2, 2)]
    blocks = pixels[1, :, :1100].reshape(300, 2, 550, 2).astype(float).mean((1, 3))
    assert np.abs(image.read(Box(0, 0, 300, 550), t=1, level=1)[0] - blocks).max() <= 0.5
    assert image.read(Box(0, 550, 1, 551), t=1, level=1)[0, 0, 0] == round(
        pixels[1, :2, 1100].astype(float).mean() + 0.01
    )


def test_large_levels_are_sharded_and_written_whole(tmp_path: Path) -> None:
    pixels = noise(2100, 2050, dtype="uint8")
    writer = create_image(str(tmp_path / "i.zarr"), shape_tczyx=(1, 1, 1, *pixels.shape), dtype="uint8", axes="yx")
    for box in writer.boxes():
        writer.write(pixels[box.slices], box=box)
    with pytest.raises(InputError, match="whole chunks or shards of 2048"):
        writer.write(pixels[:512, :512], box=Box(0, 0, 512, 512))
    writer.finish()
    array = zarr.open_array(str(tmp_path / "i.zarr" / "0"))
    assert (array.chunks, array.shards) == ((512, 512), (2048, 2048))
    assert isinstance(array.metadata, ArrayV3Metadata)
    assert isinstance(array.metadata, ArrayV3Metadata)
    assert array.metadata.dimension_names == ("y", "x")
    assert (open_image(writer.url).read(Box(2000, 1, 2100, 2050))[0] == pixels[2000:, 1:]).all()
    assert validate(writer.url) == "Image"


@settings(deadline=None, max_examples=25)
@given(order=st.permutations("tczyx"), dropped=st.sets(st.sampled_from("tcz")), version=st.sampled_from(["0.4", "0.5"]))
def test_any_order_of_axes_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], dropped: set[str], version: str
) -> None:
    axes = [axis for axis in order if axis not in dropped]
    sizes = {"t": 2, "c": 3, "z": 4, "y": 5, "x": 6}
    full = noise(*(1 if axis in dropped else sizes[axis] for axis in "tczyx"))
    stored = full.squeeze(tuple("tczyx".index(axis) for axis in dropped))
    stored = stored.transpose([[a for a in "tczyx" if a not in dropped].index(axis) for axis in axes])
    url = str(tmp_path_factory.mktemp("axes"))
    format_: Literal[2, 3] = 2 if version == "0.4" else 3
    multiscale = {"axes": [{"name": axis} for axis in axes], "datasets": [{"path": "p/0"}], "version": version}
    ome: dict[str, Any] = {"multiscales": [multiscale]}
    group = zarr.create_group(
        url, zarr_format=format_, attributes=ome if format_ == 2 else {"ome": {"version": "0.5", **ome}}
    )
    group.create_array("p/0", data=stored, chunks=(2,) * stored.ndim)
    image = open_image(url)
    t, z = full.shape[0] - 1, full.shape[2] - 1
    assert image.read(Box(1, 2, 5, 5), t=t, z=z).tolist() == full[t, :, z, 1:5, 2:5].tolist()
    assert image.read(whole(image), t=t, z="max").tolist() == full[t].max(1).tolist()
    assert image.levels[0].scale == (1.0,) * len(axes)
    assert image.pixel_size_um() is None


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(2, 20, 20), "tyx")
    with pytest.raises(MissingError, match=r"Frame 2 .* has 2, numbered from 0"):
        image.read(Box(0, 0, 5, 5), t=2)
    with pytest.raises(MissingError, match="Channel 1"):
        image.read(Box(0, 0, 5, 5), channels=[1])
    with pytest.raises(MissingError, match="Level 4"):
        image.read(Box(0, 0, 5, 5), level=4)
    with pytest.raises(InputError, match="inside 20 × 20 px"):
        image.read(Box(0, 0, 5, 21))
    with pytest.raises(MissingError, match="does not exist"):
        open_image(str(tmp_path / "nothing.zarr"))
    with pytest.raises(MissingError, match=r"neither zarr.json nor .zgroup"):
        open_image(str(tmp_path))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("damage", [b"", b"\0" * 50])
def test_a_damaged_chunk_is_named_and_a_missing_one_counted(tmp_path: Path, version: str, damage: bytes) -> None:
    image = make(tmp_path / "i.zarr", noise(2, 300, 300), "tyx", version=version, levels=1)
    chunk = tmp_path / "i.zarr" / "0" / ("1/1/0" if version == "0.4" else "c/1/1/0")
    chunk.write_bytes(damage)
    with pytest.raises(StoreError, match=r"array .*i.zarr/0: chunk (c/)?1/1/0 is damaged"):
        image.read(whole(image), t=1)
    assert image.read(Box(0, 0, 256, 300), t=1).shape == (1, 256, 300)
    chunk.unlink()
    assert missing(image, 1) == 1
    assert missing(image, 0) == 0
    assert image.read(Box(256, 0, 300, 256), t=1).max() == 0


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_flipped_bit_is_found(tmp_path: Path, version: str) -> None:
    image = make(tmp_path / "i.zarr", noise(200, 200), "yx", version=version)
    chunk = tmp_path / "i.zarr" / "0" / ("0/0" if version == "0.4" else "c/0/0")
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="is damaged"):
        image.read(whole(image))


def _group(path: Path, attributes: dict[str, Any], format_: Literal[2, 3] = 3) -> str:
    zarr.create_group(str(path), zarr_format=format_, attributes=attributes)
    return str(path)


@pytest.mark.parametrize(
    ("attributes", "format_", "reason"),
    [
        ({}, 3, "no NGFF metadata"),
        ({}, 2, "without `multiscales`"),
        ({"ome": {"version": "0.6.dev1", "multiscales": [{}]}}, 3, "OME-Zarr 0.6.dev1 .* supported are 0.4"),
        ({"multiscales": [{"version": "0.3"}]}, 2, "OME-Zarr 0.3"),
        ({"multiscales": []}, 2, "empty `multiscales`"),
        ({"multiscales": [{"axes": [{"name": "x"}, {"name": "lambda"}]}]}, 2, "lambda"),
        ({"ome": {"version": "0.5", "plate": {"wells": []}}}, 3, "is a plate"),
        ({"ome": {"version": "0.5", "labels": ["cells"]}}, 3, "label layers .'cells'"),
    ],
)
def test_what_is_no_image_is_refused(
    tmp_path: Path, attributes: dict[str, Any], format_: Literal[2, 3], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        open_image(_group(tmp_path / "g.zarr", attributes, format_))


def test_a_plain_array_and_text_are_refused(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(4, 4), dtype="u1")
    with pytest.raises(InputError, match="plain Zarr array"):
        open_image(str(tmp_path / "a.zarr"))
    make(tmp_path / "i.zarr", noise(20, 20), "yx")
    (tmp_path / "i.zarr" / "zarr.json").write_text('{"zarr_for')
    with pytest.raises(StoreError, match=r"zarr.json is damaged: it is not valid JSON"):
        open_image(str(tmp_path / "i.zarr"))


def test_a_collection_of_one_image_is_opened_and_of_two_refused(tmp_path: Path) -> None:
    root = _group(tmp_path / "c.zarr", {"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    make(tmp_path / "c.zarr" / "0", noise(20, 20), "yx")
    assert open_image(root).url == f"{root}/0"
    make(tmp_path / "c.zarr" / "1", noise(20, 20), "yx")
    with pytest.raises(InputError, match=rf"collection of images, not one image. .*{root}/0, {root}/1"):
        open_image(root)


@pytest.mark.parametrize(
    "inner",
    [
        {"well": {"images": [{"path": "../victim.zarr"}]}},
        {"plate": {"wells": [{"path": "../victim.zarr"}]}},
        {"bioformats2raw.layout": 3},
        {"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "../victim.zarr/0"}]}]},
    ],
)
def test_paths_in_documents_lead_to_no_other_store(tmp_path: Path, inner: dict[str, Any]) -> None:
    make(tmp_path / "victim.zarr", noise(20, 20), "yx")
    root = _group(tmp_path / "c.zarr", {"ome": {"version": "0.5", **inner}})
    _group(tmp_path / "c.zarr" / "OME", {"ome": {"version": "0.5", "series": ["../victim.zarr"]}})
    with pytest.raises(
        InputError, match=r"names the path '\.\./victim.zarr.*', which does not lead to a place below it"
    ):
        open_image(root)


def test_an_occupied_place_is_not_overwritten_by_chance(tmp_path: Path) -> None:
    make(tmp_path / "i.zarr", noise(20, 20), "yx")
    with pytest.raises(ExistsError, match="exists already"):
        make(tmp_path / "i.zarr", noise(30, 30), "yx")
    assert make(tmp_path / "i.zarr", noise(30, 30), "yx", overwrite=True).size("y") == 30
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(ExistsError, match="is not a Zarr store"):
        make(tmp_path / "thesis", noise(20, 20), "yx", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        make(tmp_path / "file" / "i.zarr", noise(20, 20), "yx")


def test_a_half_made_image_is_removed(tmp_path: Path) -> None:
    writer = create_image(str(tmp_path / "i.zarr"), shape_tczyx=(1, 1, 1, 20, 20), dtype="u1", axes="yx")
    with pytest.raises(InputError, match="uint16 does not fit"), writer:
        writer.write(noise(20, 20))
    assert not (tmp_path / "i.zarr").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"axes": "xy"}, "in this order"),
        ({"axes": "yx", "shape_tczyx": (2, 1, 1, 9, 9)}, "lack t"),
        ({"version": "0.6"}, "cannot be written"),
        ({"channels": ("a", "b")}, "2 channel names for 1"),
        ({"shape_tczyx": (1, 1, 1, 0, 9)}, "no pixels"),
        ({"pixel_size_um": (0.0, 1.0)}, "must be positive"),
        ({"dtype": "complex64"}, "complex64"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        create_image(str(tmp_path / "i"), **{"shape_tczyx": (1, 1, 1, 9, 9), "dtype": "u1", "axes": "yx", **changes})


def test_s3(s3: dict[str, Any]) -> None:
    pixels = noise(2, 600, 700)
    options: dict[str, Any] = {"storage_options": s3}
    with create_image(
        "s3://cells/d/i.zarr", shape_tczyx=(2, 1, 1, 600, 700), dtype="u2", axes="tyx", **options
    ) as writer:
        for t in range(2):
            writer.write(pixels[t], t=t)
    image = pickle.loads(pickle.dumps(open_image("s3://cells/d/i.zarr/", storage_options=s3)))
    assert (image.read(Box(90, 0, 600, 700), t=1)[0] == pixels[1, 90:]).all()
    assert missing(image, 1) == 0
    with pytest.raises(ExistsError):
        create_image("s3://cells/d/i.zarr", shape_tczyx=(1, 1, 1, 9, 9), dtype="u1", axes="yx", **options)
    with pytest.raises(MissingError, match="does not exist"):
        open_image("s3://cells/d/j.zarr", storage_options=s3)


def test_missing_credentials_come_with_advice(
    s3: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"credentials.*AWS_ACCESS_KEY_ID .* \{\"anon\": true\}"):
        open_image("s3://cells/d/i.zarr", storage_options={"endpoint_url": s3["endpoint_url"]})


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/i.zarr", "Cannot connect to host"),
        ("nothing://i.zarr", "Protocol not known: nothing"),
    ],
)
def test_stores_that_cannot_be_reached_say_why(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        open_image(url)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_web_servers_are_read(tmp_path: Path, web: str, version: str) -> None:
    pixels = noise(40, 50)
    make(tmp_path / "i.zarr", pixels, "yx", version=version)
    image = open_image(f"{web}/i.zarr")
    assert (image.read(whole(image))[0] == pixels).all()
    with pytest.raises(StoreError, match="web servers are read only"):
        create_image(f"{web}/j.zarr", shape_tczyx=(1, 1, 1, 9, 9), dtype="u1", axes="yx")


def test_zip_files_are_read(tmp_path: Path) -> None:
    pixels = noise(40, 50)
    made = make(tmp_path / "i.zarr", pixels, "yx")
    with zipfile.ZipFile(tmp_path / "i.ozx", "w") as archive:
        for path in Path(made.url).rglob("*"):
            archive.write(path, path.relative_to(made.url))
    image = open_image(str(tmp_path / "i.ozx"))
    assert (image.read(whole(image))[0] == pixels).all()
    assert missing(image) == 0
    (tmp_path / "bad.zip").write_bytes(b"PK")
    with pytest.raises(StoreError, match="not a zip file"):
        open_image(str(tmp_path / "bad.zip"))


@pytest.mark.parametrize("pixels", [noise(600, 20) > 100, np.where(noise(600, 20) > 9, noise(600, 20) / 7, np.nan)])
def test_other_types_of_pixels(tmp_path: Path, pixels: Any) -> None:
    image = make(tmp_path / "i.zarr", pixels, "yx")
    assert np.array_equal(image.read(whole(image))[0], pixels, equal_nan=pixels.dtype.kind == "f")
    assert validate(image.url) == "Image"


def test_names_of_channels_are_unique(tmp_path: Path) -> None:
    make(tmp_path / "i.zarr", noise(3, 20, 20), "cyx", channels=("a", "b", "a"))
    assert open_image(str(tmp_path / "i.zarr")).channels == ("a", "b", "a_2")


REFUSED = {
    "invalid/image-01.zarr": (InputError, "without `multiscales`"),
    "invalid/image-02.zarr": (InputError, "empty `multiscales`"),
    "invalid/image-03.zarr": (MissingError, "image-03.zarr/0 is not a Zarr array"),
    "invalid/image-04.zarr": (InputError, "'1' .* has 2 dimensions"),
    "valid/plate-01.zarr": (InputError, "a plate.*plate-01.zarr/A/1/0"),
    "bf2raw_dataset_v5.ome.zarr": (InputError, "collection of images.*ome.zarr/0"),
}


def _third_party(folder: Path) -> Iterator[Path]:
    """Every group that says something of images, and every zip file."""
    yield from folder.rglob("*.zip")
    for path in sorted([*folder.rglob("zarr.json"), *folder.rglob(".zattrs")]):
        text = path.read_text()
        if any(f'"{word}"' in text for word in ("multiscales", "plate", "bioformats2raw.layout")):
            yield path.parent


def _read_all(image: NgffImage) -> None:
    for level in range(len(image.levels)):
        for t in range(image.size("t", level)):
            pixels = image.read(whole(image, level), t=t, z=image.size("z", level) - 1, level=level)
            assert pixels.shape == tuple(image.size(axis, level) for axis in "cyx")


def test_every_third_party_store_opens_or_is_refused_rightly(data: Path, tmp_path: Path) -> None:
    with tarfile.open(data / "ome-zarr-third-party" / "stores.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    opened = 0
    for path in _third_party(tmp_path):
        refusal = next((REFUSED[end] for end in REFUSED if str(path).endswith(end)), None)
        if "all_0.6" in path.parts:
            refusal = (InputError, "OME-Zarr 0.6.dev1")
        if refusal:
            with pytest.raises(refusal[0], match=refusal[1]):
                open_image(str(path))
            continue
        image = open_image(str(path))
        _read_all(image)
        opened += 1
    assert opened >= 30


def test_third_party_pixels_equal_what_zarr_reads(data: Path, tmp_path: Path) -> None:
    with tarfile.open(data / "ome-zarr-third-party" / "stores.tar.gz") as archive:
        members = [m for m in archive.getmembers() if "/5d_testing/" in m.name]
        archive.extractall(tmp_path, members=members, filter="data")
    found = sorted(path for path in tmp_path.rglob("*.ome.zarr"))
    assert len(found) == 2
    for path in found:
        stored = np.asarray(zarr.open_array(str(path / "0"), mode="r")[3, :, 7])
        assert (open_image(str(path)).read(Box(0, 0, 64, 64), t=3, z=7) == stored).all()


def test_damaged_metadata_are_store_errors(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(20, 20), "yx")
    document = json.loads((tmp_path / "i.zarr" / "0" / "zarr.json").read_text())
    document["codecs"] = [{"name": "nothing", "configuration": {}}]
    (tmp_path / "i.zarr" / "0" / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"Cannot open array .*i.zarr/0"):
        open_image(image.url)
