"""A trial on this machine: one window and one tile of a planned run, in a separate process; nothing is stored.

Run as a program, it reads a pickled run with its networks from its input and prints its measurements as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cellscale.errors import CellscaleError, RunError
from cellscale.methods.inference import fuse_batchnorm
from cellscale.methods.protocol import Networks
from cellscale.segmentation.decode import decoded, packed
from cellscale.segmentation.intensity_statistics import is_read_twice, measure_boxes
from cellscale.segmentation.object_table import Measured, object_table, parquet
from cellscale.segmentation.plan import Run
from cellscale.segmentation.predict import predictions_of
from cellscale.segmentation.records import WORK_ITEMS, compressed, put
from cellscale.segmentation.source import chunk_grid
from cellscale.storage.folder import Folder
from cellscale.storage.traffic import counting
from cellscale.tiling.candidates import arrays_of
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Candidates, Image, Table, part_of

SCRATCH = Folder(url="memory://trial")


def tried(run: Run, networks: Networks) -> dict[str, float]:
    """Measure the work on the middle window of the first plane, in this process.

    Returns
    -------
    dict
        intensity_s_per_px; source_bytes_per_px of a channel and slice, as stored; predict_s of a window; decode_s of a
        tile, compilation left out; maps_bytes of a window's core, fragments_bytes and record_bytes of a tile,
        objects_bytes of the rows of its objects in a record and table_bytes of those in the object table, of which each
        file begins with file_bytes, as they are stored; tile_px; core_px; peak_bytes of the process.
    """
    run, networks, window = dataclasses.replace(run, scratch=SCRATCH), fuse_batchnorm(networks), len(run.windows) // 2
    grid = chunk_grid(run)
    seen = grid.whole(run.windows.window_box(window).clip(Box.of(run.grid.shape)))
    began = time.perf_counter()
    with counting() as traffic:
        mappings = {WORK_ITEMS: np.zeros((1, 1), np.int64), **measure_boxes(run, {0: [seen]}, grid)}
    measuring = time.perf_counter() - began
    put(SCRATCH, run.intensity_statistics.record_name(0).path, mappings)
    began = time.perf_counter()
    ((_, found),) = predictions_of(run, networks, [(0, window)])
    predicting = (time.perf_counter() - began) / run.settings.batch
    maps = compressed(arrays_of(found) if isinstance(found, Candidates) else found)
    core = run.windows.core_box(window)
    # The window's core stands in for the frame: a tile at its border would ask for the windows beside it.
    inner = dataclasses.replace(run, grid=Grid(shape=core.shape, size=run.grid.size))
    tile = inner.grid.rows // 2 * inner.grid.columns + inner.grid.columns // 2
    box = inner.grid.read(tile, run.method.reaches.link, run.method.reaches.decode_reach)
    part = part_of(found.within(core) if isinstance(found, Candidates) else found, box)
    decoded(inner, 0, tile, part, box, _image(run, tile, inner.grid))
    began = time.perf_counter()
    made = decoded(inner, 0, tile, part, box, _image(run, tile, inner.grid))
    decoding = time.perf_counter() - began
    return {
        "intensity_s_per_px": measuring / seen.area,
        "source_bytes_per_px": traffic.read_bytes / _source_px(run, seen),
        "predict_s": predicting,
        "decode_s": decoding,
        "maps_bytes": maps.nbytes,
        "fragments_bytes": made.fragments.nbytes,
        "record_bytes": compressed(packed([(0, made.record)])).nbytes,
        "objects_bytes": compressed(made.record.nodes).nbytes,
        **_table_bytes(run, made.record.nodes),
        "tile_px": inner.grid.core(tile).area,
        "core_px": core.area,
        "peak_bytes": _peak(),
    }


def _source_px(run: Run, box: Box) -> int:
    """Pixels of all chunks that the intensity statistics of a box of the first plane read."""
    t, z = run.planes[0]
    again = run.image.read_size(box, t=t, z=z, channels=run.channels).pixels if is_read_twice(run, box.area) else 0
    return run.image.read_size(box, t=t, z=z).pixels + again


def _table_bytes(run: Run, fragments: Table) -> dict[str, int]:
    """Size of a file of the object table with one row, and what the fragments of a tile add to it."""
    image = Measured(shape=run.grid.shape, pixel_size_um=run.image.pixel_size_um(), channels=run.image.channels)
    # Fragments that lie outside of the tile's core are rows of other tiles.
    inside = np.flatnonzero(fragments["area"])
    sizes = []
    for rows in (inside[:1], inside):
        objects = {name: column[rows] for name, column in fragments.items()}
        sizes.append(len(parquet(object_table(objects, image, frame=0, z=0, labels=np.arange(1, 1 + len(rows))))))
    return {"file_bytes": sizes[0], "table_bytes": sizes[1] - sizes[0]}


def _image(run: Run, tile: int, grid: Grid) -> Image:
    """All channels of a tile's core."""
    t, z = run.planes[0]
    return run.image.read(grid.core(tile), t=t, z=z)


def _peak() -> int:
    """Peak memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def trial(run: Run, networks: Networks) -> Mapping[str, float]:
    """Measure the same in a fresh process, so that its peak of memory is a worker's.

    Raises
    ------
    RunError
        With the output of the process, if it fails.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "cellscale.segmentation.trial"]
    done = subprocess.run(
        command, input=pickle.dumps((run, dict(networks))), capture_output=True, env=environment, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RunError(f"The trial of one window and one tile failed: {said[-1] if said else done.returncode}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _main() -> None:
    measured: Any = tried(*pickle.load(sys.stdin.buffer))  # noqa: S301 — written by the process that started this one
    print(json.dumps(measured))


if __name__ == "__main__":
    try:
        _main()
    except CellscaleError as error:
        sys.exit(" ".join(str(error).split()))
