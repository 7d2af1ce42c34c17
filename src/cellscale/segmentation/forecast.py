"""Forecast of a planned run: I/O, memory and time, before it starts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from cellscale.errors import check_known
from cellscale.methods.protocol import Networks
from cellscale.segmentation.plan import Run
from cellscale.segmentation.report import TOTAL
from cellscale.segmentation.request_forecast import STORED, requests_of
from cellscale.segmentation.trial import trial
from cellscale.segmentation.volumes import shards_of
from cellscale.segmentation.work_items import ABOUT_THE_LAYER, Step, StepName
from cellscale.storage.traffic import Kind
from cellscale.types import Box

LABELS = np.dtype(np.uint32)
"""Type of the pixels of a label layer."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Forecast of a run: counts, bytes, memory and times, from a trial on this machine."""

    planes: int
    """Number of frames, or of slices of frames."""
    channels: tuple[int, ...]
    """Numbers of the channels that are used."""
    image_channels: int
    """Number of channels of the image."""
    frame_px: tuple[int, int]
    """Height and width of a frame, px."""
    windows: int
    """Number of windows of all frames."""
    window_px: tuple[int, int]
    """Height and width of a window with its halo, px."""
    tiles: int
    """Number of tiles of all frames."""
    tasks: Mapping[str, int]
    """Number of tasks by step."""
    label_dtype: str
    """Pixel type of the label layer."""
    halo_cost: float
    """(W/K)²: pixels of a window over pixels of its core."""
    predicted_px_per_px: float
    """Pixels predicted for each pixel of the image."""
    bytes: Mapping[str, int]
    """Bytes read by each step and in total, of scratch, and of the output with and without compression."""
    io: Mapping[str, Mapping[str, int | float]]
    """Requests of each step, of the driver and in total, with the bytes that they read and write as stored; their
    entries are those of `Report.io`."""
    peak_worker_bytes: int
    """Peak memory of a worker."""
    worker_seconds: Mapping[str, float]
    """Time of one worker for each step that the trial covers, s."""
    seconds_here: float
    """Time of the steps of `worker_seconds` together on all workers of this machine, s."""
    workers_here: int
    """Number of workers of this machine: its processors, unless there are fewer tasks."""
    trial: Mapping[str, float]
    """Measurements of the trial."""

    def price(self, prices: Mapping[str, float]) -> float:
        """Price of the requests of the run.

        Parameters
        ----------
        prices : mapping
            Price of a million requests by their kind: PUT, GET, LIST, HEAD, DELETE, in any case; others are free.

        Returns
        -------
        float
            The price, in the currency of `prices`.

        Raises
        ------
        MissingError
            For another kind.

        Examples
        --------
        >>> import cellscale
        >>> forecast = cellscale.plan("movie.zarr", model="model", tile_size=64)
        >>> forecast.price({"put": 5, "get": 0.4}) > 0
        True
        """
        named = {kind.upper(): price for kind, price in prices.items()}
        check_known("kind of requests", named, get_args(Kind))
        total = self.io[TOTAL]
        return sum(total.get(kind, 0) * price for kind, price in named.items()) / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast in JSON's types."""
        return dataclasses.asdict(self)


def steps_of(run: Run) -> list[Step]:
    """All steps of a run in their order, for a layer of the image's version."""
    first = [run.intensity_statistics, *([] if run.fused else [run.predict]), run.decode, run.join_row_groups, run.join]
    linked = run.settings.z_mode == "linked"
    first += [run.slice_tables(len(shards_of(run))), run.slice_links] if linked else []
    last = run.volume_tables if linked else run.tables
    coarser = range(run.image.levels_together, len(run.image.levels))
    return [*first, *(run.publish(level) for level in (0, *coarser)), last]


def forecast(run: Run, networks: Networks) -> Forecast:
    """Estimate the counts, bytes, memory and time of a run from a trial on this machine.

    Parameters
    ----------
    run : Run
        Result of `plan`; nothing is written into its folder.
    networks : mapping of Module
        The trained networks.

    Returns
    -------
    Forecast
        Bytes of source and labels are of whole chunks where they are uncompressed; scratch and output are compressed
        as in the trial.
    """
    measured = trial(run, networks)
    planes, frame_px = len(run.planes), Box.of(run.grid.shape).area
    steps = steps_of(run)
    seconds = _seconds(run, measured)
    tasks, io = {step.name: len(step) for step in steps}, _io(run, steps, measured)
    workers = min(os.cpu_count() or 1, tasks[run.decode.name])
    height, width = run.windows.window_shape
    core = run.windows.core_box(0)
    return Forecast(
        planes=planes,
        channels=run.channels,
        image_channels=run.image.size("c"),
        frame_px=run.grid.shape,
        windows=planes * len(run.windows),
        window_px=(height, width),
        tiles=planes * len(run.grid),
        tasks=tasks,
        label_dtype=LABELS.name,
        halo_cost=height * width / core.area,
        predicted_px_per_px=len(run.windows) * height * width / frame_px,
        bytes=_bytes(run, steps, io),
        io=io,
        peak_worker_bytes=int(measured["peak_bytes"]),
        worker_seconds=seconds,
        seconds_here=sum(seconds.values()) / workers,
        workers_here=workers,
        trial=dict(measured),
    )


def _seconds(run: Run, measured: Mapping[str, float]) -> dict[str, float]:
    """Time of one worker for all units of the steps that the trial covers, s."""
    px = len(run.planes) * Box.of(run.grid.shape).area
    return {
        "intensity": measured["intensity_s_per_px"] * px,
        "predict": measured["predict_s"] * len(run.planes) * len(run.windows),
        "decode": measured["decode_s"] * px / measured["tile_px"],
    }


def _io(run: Run, steps: Sequence[Step], measured: Mapping[str, float]) -> dict[str, dict[str, int | float]]:
    """Requests of each step, of the driver and in total."""
    stored_bytes = {
        "source": measured["source_bytes_per_px"],
        "maps": measured["maps_bytes"] / measured["core_px"],
        "labels": measured["fragments_bytes"] / measured["tile_px"],
        "file": measured["file_bytes"],
        **{
            name: measured[f"{name}_bytes"] / measured["tile_px"]
            for name in ("fragments", "record", "objects", "table")
        },
    }
    found = {name: traffic.to_dict() for name, traffic in requests_of(run, steps, stored_bytes).items()}
    return {name: {key: n for key, n in entry.items() if key != "waiting_s"} for name, entry in found.items()}


def _bytes(run: Run, steps: Sequence[Step], io: Mapping[str, Mapping[str, int | float]]) -> dict[str, int]:
    """Bytes of the source that each step reads, before compression, and of scratch and output."""
    sizes = dict.fromkeys(STORED, 0.0) | {"source": run.image.dtype.itemsize, "labels": LABELS.itemsize}
    raw = requests_of(run, steps, sizes)
    read = {f"read_{name}": raw[name].read_bytes if name in raw else 0 for name in ("intensity", "predict", "decode")}
    labels = [step.name for step in steps if step.kind == StepName.PUBLISH]
    scratch = [step.name for step in steps if step.kind not in ABOUT_THE_LAYER]
    return {
        **read,
        "read": sum(read.values()),
        "scratch": sum(int(io[name]["written_bytes"]) for name in scratch),
        "output_uncompressed": sum(raw[name].written_bytes for name in labels),
        "output": sum(int(io[name]["written_bytes"]) for name in labels),
    }
