"""Forecast of a run's requests against the requests that the run makes."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cellscale.errors import MissingError
from cellscale.models.model import Model
from cellscale.ngff.image import NgffImage, open_image
from cellscale.segmentation import ownership
from cellscale.segmentation.forecast import forecast, steps_of
from cellscale.segmentation.plan import Run, Settings, plan
from cellscale.segmentation.request_forecast import STORED, requests_of
from cellscale.segmentation.run import segment
from cellscale.segmentation.target import Target
from cellscale.storage.folder import Folder
from cellscale.storage.traffic import Traffic
from tests.blobs import blobs_model, blurred_noise
from tests.faults.proxy import Storm, stormy
from tests.support.runs import written

SMALL: dict[str, Any] = {"window_size": 64, "tile_size": 50, "task_px": 25_000}
NOTHING = dict.fromkeys(STORED, 0.0)


def planned(image: NgffImage, model: Model | None = None, **settings: Any) -> Run:
    scratch = Folder(url=f"{image.url}/.cellscale-cells", storage_options=image.storage_options)
    return plan(image, model or blobs_model(), Settings(**{"precision": "fp32", **settings}), scratch)


@dataclasses.dataclass(frozen=True)
class Foreign:
    """An image as another program stores it, without compression."""

    shape: tuple[int, ...]
    axes: str
    _: dataclasses.KW_ONLY
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    dtype: str = "uint16"
    channels: int = 1
    """Channels of the model."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def index_bytes(self) -> int:
        """Size of a shard's index: place and length of each chunk, and a checksum."""
        return 16 * math.prod(self.shards or ()) // math.prod(self.chunks) + 4

    def write(self, url: str, options: dict[str, Any]) -> None:
        """Write it as OME-Zarr 0.5."""
        store = zarr.storage.FsspecStore.from_url(url, storage_options=options)
        group = zarr.create_group(store)
        how: dict[str, Any] = {"chunks": self.chunks, "shards": self.shards, "compressors": None, "filters": None}
        array = group.create_array("0", shape=self.shape, dtype=self.dtype, **how)
        array[...] = blurred_noise((math.prod(self.shape[:-2]), *self.shape[-2:])).reshape(self.shape)
        kinds = {"t": "time", "c": "channel"}
        axes = [{"name": axis, "type": kinds.get(axis, "space")} for axis in self.axes]
        scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
        multiscales: Any = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}


def source_of(run: Run) -> dict[str, Traffic]:
    """Requests of the steps that read the image, with the bytes of its pixels alone, before compression."""
    sizes = NOTHING | {"source": float(run.image.dtype.itemsize)}
    found = requests_of(run, steps_of(run), sizes)
    return {name: found[name] for name in ("intensity", "predict", "decode") if name in found}


@pytest.fixture(autouse=True)
def no_checks_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process checks the owner of its run every few seconds; the forecast leaves these out."""
    monkeypatch.setattr(ownership, "CHECK_PERIOD_S", math.inf)


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast is of tasks each of which reads what another process has written, as on a cluster."""
    monkeypatch.setattr(ownership, "RECENT_BYTES", 0)


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        pytest.param((2, 270, 200), {"window_size": 64, "tile_size": 50, "task_px": 25_000}, id="many tasks"),
        pytest.param((3, 60, 70), {}, id="frames of one window"),
        pytest.param((1, 2100, 130), {"window_size": 64}, id="shards and several levels"),
        pytest.param((1, 3, 90, 100), {"z_mode": "linked", "window_size": 64}, id="linked slices"),
        pytest.param((2, 4, 130, 140), {"z_mode": "linked", "z_max_gap": 1, **SMALL}, id="linked slices of two frames"),
        pytest.param((1, 2300, 2200), {"window_size": 512, "tile_size": 512}, id="two tasks write a level"),
    ],
)
def test_requests_are_those_of_the_run(s3: dict[str, Any], shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    axes = "tyx" if len(shape) == 3 else "tzyx"
    pixels = blurred_noise((math.prod(shape[:-2]), *shape[-2:])).reshape(shape)
    image = written(f"s3://cells/forecast-{'-'.join(map(str, shape))}.zarr", pixels, axes, options=s3)
    run = planned(image, **settings)
    made = segment(run, blobs_model().networks, Target(store=image.url, name="cells")).io
    expected = {name: dict(traffic.requests) for name, traffic in requests_of(run, steps_of(run), NOTHING).items()}
    assert expected == {name: {key: n for key, n in entry.items() if key.isupper()} for name, entry in made.items()}


STORED_AS = {
    "one slice of deep shards": Foreign((4, 192, 192), "zyx", chunks=(1, 64, 64), shards=(4, 128, 128)),
    "deep shards, one layer at a time": Foreign(
        (4, 192, 192), "zyx", chunks=(2, 64, 64), shards=(4, 64, 64), settings={"z_mode": "max_projection"}
    ),
    "one of three channels of a shard": Foreign((3, 192, 192), "cyx", chunks=(1, 64, 64), shards=(3, 64, 64)),
    "two channels of a chunk, by two reads": Foreign(
        (3, 192, 192), "cyx", chunks=(3, 64, 64), settings={"channels": (0, 2)}, channels=2
    ),
    "frames in one shard, fused": Foreign(
        (6, 64, 128), "tyx", chunks=(1, 64, 64), shards=(6, 64, 128), settings={"window_size": 2048}
    ),
    "floats of three channels, fused": Foreign(
        (2, 3, 128, 128), "tcyx", chunks=(1, 1, 64, 64), dtype="float32", settings={"window_size": 2048}
    ),
    "chunks larger than windows": Foreign((1, 256, 256), "tyx", chunks=(1, 256, 256)),
    "chunks of two slices": Foreign((2, 2, 128, 128), "tzyx", chunks=(1, 2, 64, 64), settings={"z_mode": "linked"}),
}


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("stored", STORED_AS.values(), ids=STORED_AS)
def test_source_is_read_as_forecast_however_it_is_stored(
    s3: dict[str, Any], stored: Foreign, request: pytest.FixtureRequest
) -> None:
    """Requests, and bytes before compression: nothing is compressed here, but the shards have indices."""
    url = f"s3://cells/{re.sub('[^a-z]+', '-', request.node.callspec.id)}.zarr"
    stored.write(url, s3)
    model = blobs_model(channels=stored.channels)
    with stormy(int(s3["endpoint_url"].rsplit(":", 1)[1]), Storm()) as proxy:
        image = open_image(url, storage_options={**s3, "endpoint_url": proxy.url})
        run = planned(image, model, **{**SMALL, **stored.settings})
        expected = source_of(run)
        made = segment(run, model.networks, Target(store=image.url, name="cells")).io
    chunks = [one for one in proxy.answered if f"{url.removeprefix('s3:/')}/0/c/" in one.path]
    assert {one.method for one in chunks} == {"GET"}
    # The index of a shard is read alone, or with the whole shard.
    with_index = [one for one in chunks if stored.shards and not re.match(r"bytes=\d", one.ranged or "")]
    pixels = sum(one.received for one in chunks) - stored.index_bytes * len(with_index)
    assert sum(traffic.read_bytes for traffic in expected.values()) == pixels
    assert [traffic.requests["GET"] for traffic in expected.values()] == [made[name]["GET"] for name in expected]


def test_one_process_reads_nothing_back(s3: dict[str, Any]) -> None:
    """Its own records and scratch objects: it makes fewer GETs than the forecast, and no others."""
    image = written("s3://cells/read-back.zarr", blurred_noise((2, 270, 200)), options=s3)
    run = planned(image, window_size=64, tile_size=50, task_px=25_000)
    made = segment(run, blobs_model().networks, Target(store=image.url, name="cells")).io
    expected = {name: dict(traffic.requests) for name, traffic in requests_of(run, steps_of(run), NOTHING).items()}
    fewer = {name: entry.pop("GET", 0) - made[name].pop("GET", 0) for name, entry in expected.items()}
    assert expected == {name: {key: n for key, n in entry.items() if key.isupper()} for name, entry in made.items()}
    assert min(fewer.values()) >= 0
    assert all(fewer[name] for name in ("decode", "row_groups", "join", "publish-0", "tables"))


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(
    ("shape", "axes", "settings"),
    [
        pytest.param((2, 256, 256), "tyx", {"window_size": 128, "tile_size": 64}, id="windows of one size"),
        pytest.param((1, 700, 700), "tyx", {"window_size": 512, "tile_size": 350}, id="a small last window"),
        pytest.param((30, 128, 128), "tyx", {}, id="frames of one window"),
        pytest.param((2, 3, 256, 256), "tcyx", {}, id="channels"),
    ],
)
def test_bytes_are_near_those_of_the_run(
    tmp_path: Path, shape: tuple[int, ...], axes: str, settings: dict[str, Any]
) -> None:
    """The trial's tile and window stand in for all: within a third."""
    image = written(str(tmp_path / "movie.zarr"), blurred_noise(shape), axes)
    run = planned(image, **settings)
    found = forecast(run, blobs_model().networks)
    io = segment(run, blobs_model().networks, Target(store=image.url, name="cells")).io
    for name in ("read_bytes", "written_bytes"):
        assert found.io["total"][name] == pytest.approx(io["total"][name], rel=1 / 3)
    assert found.bytes["read"] == sum(traffic.read_bytes for traffic in source_of(run).values())
    labels = {name: entry for name, entry in io.items() if name.startswith("publish")}
    scratch = io.keys() - labels.keys() - {"total", "driver", "tables"}
    assert found.bytes["scratch"] == pytest.approx(sum(io[name]["written_bytes"] for name in scratch), rel=1 / 3)


def test_prices_count_by_kind(tmp_path: Path) -> None:
    image = written(str(tmp_path / "movie.zarr"), blurred_noise((1, 64, 64)))
    found = forecast(planned(image), blobs_model().networks)
    found = dataclasses.replace(found, io={"total": {"GET": 3_000_000, "PUT": 500_000, "LIST": 7, "read_bytes": 9}})
    assert found.price({"put": 5.0, "get": 0.4}) == pytest.approx(2.5 + 1.2)
    assert found.price({}) == 0
    with pytest.raises(MissingError, match="kind of requests 'POST'"):
        found.price({"post": 1.0})


def test_an_image_of_background_has_a_forecast(tmp_path: Path) -> None:
    """Its tile has no rows of which the size of an object table could be told."""
    image = written(str(tmp_path / "movie.zarr"), np.zeros((1, 64, 64), np.uint16))
    assert forecast(planned(image), blobs_model().networks).io["tables"]["written_bytes"] > 0
