"""Forecast of a run's requests against the requests that the run makes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from cellscale.errors import MissingError
from cellscale.ngff.image import NgffImage
from cellscale.segmentation import ownership
from cellscale.segmentation.forecast import forecast, steps_of
from cellscale.segmentation.plan import Run, Settings, plan
from cellscale.segmentation.request_forecast import requests_of
from cellscale.segmentation.run import segment
from cellscale.segmentation.target import Target
from cellscale.storage.folder import Folder
from tests.blobs import blobs_model, blurred_noise
from tests.support.runs import written

NOTHING = dict.fromkeys(("source", "maps", "fragments", "record", "labels"), 0.0)


def planned(image: NgffImage, **settings: Any) -> Run:
    scratch = Folder(url=f"{image.url}/.cellscale-cells", storage_options=image.storage_options)
    return plan(image, blobs_model(), Settings(**{"precision": "fp32", **settings}), scratch)


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
def test_bytes_are_near_those_of_the_run_and_prices_count_by_kind(tmp_path: Path) -> None:
    """The trial's tile and window stand in for all: within a third."""
    image = written(str(tmp_path / "movie.zarr"), blurred_noise((2, 256, 256)))
    run = planned(image, window_size=128, tile_size=64)
    found = forecast(run, blobs_model().networks)
    made = segment(run, blobs_model().networks, Target(store=image.url, name="cells")).io["total"]
    for name in ("read_bytes", "written_bytes"):
        assert found.io["total"][name] == pytest.approx(made[name], rel=1 / 3)
    found = dataclasses.replace(found, io={"total": {"GET": 3_000_000, "PUT": 500_000, "LIST": 7, "read_bytes": 9}})
    assert found.price({"put": 5.0, "get": 0.4}) == pytest.approx(2.5 + 1.2)
    assert found.price({}) == 0
    with pytest.raises(MissingError, match="kind of requests 'POST'"):
        found.price({"post": 1.0})
