"""Predict: the frame's intensity mapping, and each window once.

The survey reads whole frames; the mapping that follows is the same for every window. Maps are rounded to uint8 before
anything reads them, so that all tiles decode the same numbers.
"""

from __future__ import annotations

from collections import Counter, abc
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.methods.inference import check_precision, windows_to_maps
from cellscale.methods.intensity import BINS, Mapping, Scale
from cellscale.methods.protocol import Networks
from cellscale.networks.finite import NotFiniteError
from cellscale.segmentation.plan import Records, Run, Unit
from cellscale.segmentation.prefetch import ahead
from cellscale.segmentation.records import Arrays, put
from cellscale.tiling.candidates import SEAM_PX, arrays_of, owned
from cellscale.tiling.windows import mirrored
from cellscale.types import Box, Candidates, Prediction, part_of

Parts: TypeAlias = abc.Mapping[int, Sequence[Box]]
"""Boxes by the number of their plane."""
STRIP_PX = 2**24
"""Pixels read at once by the survey."""


def strips(run: Run) -> Iterator[Box]:
    """Boxes that cover a frame, each small enough to be read at once."""
    height, width = run.grid.shape
    rows = max(1, STRIP_PX // width)
    for y in range(0, height, rows):
        yield Box(y, 0, min(y + rows, height), width)


def read(run: Run, plane: int, box: Box) -> NDArray[np.generic]:
    """The model's channels of a box, (c, y, x)."""
    t, z = run.planes[plane]
    return run.image.read(box, t=t, z=z, channels=run.channels)


def _range(run: Run, plane: int, boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Least and greatest value of each channel, (c, 2); the type's where each of its values has a bin."""
    if run.image.dtype in (np.uint8, np.uint16):
        return np.tile([0.0, float(np.iinfo(run.image.dtype).max)], (len(run.channels), 1))
    found = []
    for box in boxes:
        values = read(run, plane, box)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            t, z = run.planes[plane]
            raise InputError(
                f"Frame {t}, slice {z} of {run.image.url} has pixels that are no finite number in rows "
                f"{box.y0}:{box.y1}, columns {box.x0}:{box.x1}. Replace them before segmenting."
            )
        found.append([values.min(axis=(1, 2)), values.max(axis=(1, 2))])
    ends = np.array(found, np.float64)
    return np.stack([ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)], axis=1)


def _mappings(run: Run, plane: int, boxes: Sequence[Box]) -> list[Mapping]:
    if not boxes:
        return [Mapping(low=0.0, high=1.0)] * len(run.channels)
    scales = [Scale.of(run.image.dtype, low, high) for low, high in _range(run, plane, boxes)]
    totals = np.zeros((len(scales), BINS), np.int64)
    for box in boxes:
        for c, channel in enumerate(read(run, plane, box)):
            totals[c] += scales[c].histogram(channel)
    return [run.method.intensity.fit(total, scale) for total, scale in zip(totals, scales, strict=True)]


def survey(run: Run, units: Sequence[Unit]) -> Arrays:
    """Mappings of whole planes, and their missing chunks."""
    return surveyed(run, {plane: list(strips(run)) for (plane,) in units}) | missing_of(run, units)


def surveyed(run: Run, boxes: Parts) -> Arrays:
    """Mappings of planes, each from the pixels of its boxes.

    low, high, start, width (n, c) and, where the rule needs them, tables (n, c, 65536).
    """
    mappings = [_mappings(run, plane, parts) for plane, parts in boxes.items()]
    columns = {
        "low": [[m.low for m in of] for of in mappings],
        "high": [[m.high for m in of] for of in mappings],
        "start": [[m.scale.start for m in of] for of in mappings],
        "width": [[m.scale.width for m in of] for of in mappings],
    }
    arrays: Arrays = {name: np.array(values, np.float64) for name, values in columns.items()}
    if any(m.table is not None for of in mappings for m in of):
        arrays["tables"] = np.array([[m.table for m in of] for of in mappings], np.float32)
    return arrays


def missing_of(run: Run, units: Sequence[Unit]) -> Arrays:
    """Count the missing chunks of planes: missing, (n,)."""
    whole = Box.of(run.grid.shape)
    planes = [run.planes[plane] for (plane,) in units]
    missing = [run.image.missing_chunks(whole, t=t, z=z, channels=run.channels) for t, z in planes]
    return {"missing": np.array(missing, np.int64)}


def mappings_of(run: Run, plane: int, records: Records) -> list[Mapping]:
    """Read back the mapping of each channel of a plane."""
    record = records.of(run.survey, (plane,))
    row = int(np.flatnonzero(record["units"][:, 0] == plane)[0])
    return [
        Mapping(
            low=float(record["low"][row, c]),
            high=float(record["high"][row, c]),
            scale=Scale(start=float(record["start"][row, c]), width=float(record["width"][row, c])),
            table=record["tables"][row, c] if "tables" in record else None,
        )
        for c in range(len(run.channels))
    ]


def _window(run: Run, plane: int, window: int, mappings: Sequence[Mapping]) -> NDArray[np.float32]:
    """The network's input, (c, y, x), mirrored beyond the frame."""
    box = run.windows.window_box(window)
    rows = mirrored(box.y0, box.y1, run.grid.shape[0])
    columns = mirrored(box.x0, box.x1, run.grid.shape[1])
    source = Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    values = read(run, plane, source)
    mapped = np.stack([mapping(channel) for mapping, channel in zip(mappings, values, strict=True)])
    return np.ascontiguousarray(mapped[:, rows - source.y0][:, :, columns - source.x0])


def _batches(run: Run, units: Sequence[Unit]) -> Iterator[tuple[list[Unit], NDArray[np.float32]]]:
    """Units and the network's inputs, (n, c, y, x); the last batch is filled up."""
    records, size = Records(run.scratch), run.settings.batch
    known = {plane: mappings_of(run, plane, records) for plane in sorted({unit[0] for unit in units})}
    for start in range(0, len(units), size):
        batch = list(units[start : start + size])
        inputs = [_window(run, plane, window, known[plane]) for plane, window in batch]
        yield batch, np.stack(inputs + inputs[-1:] * (size - len(inputs)))


def predictions_of(run: Run, networks: Networks, units: Sequence[Unit]) -> Iterator[tuple[Unit, Prediction]]:
    """Predict windows (plane, window) and yield what belongs to their cores.

    The next batch is read meanwhile. On a device of its own the network goes on while the caller works.
    """
    check_precision(run.settings.device, run.settings.precision)
    torch.set_num_threads(run.settings.threads)
    made = _predictions(run, networks, units)
    return made if run.settings.device == "cpu" else ahead(made)


def _predictions(run: Run, networks: Networks, units: Sequence[Unit]) -> Iterator[tuple[Unit, Prediction]]:
    how = run.settings
    for batch, inputs in ahead(_batches(run, units)):
        try:
            predicted = windows_to_maps(
                run.method, networks, inputs, device=how.device, precision=how.precision, flips=how.test_time_flips
            )
        except NotFiniteError as error:
            raise InputError(f"{window_name(run, batch[min(error.sample, len(batch) - 1)])}: {error}") from error
        for unit, found in zip(batch, predicted, strict=False):
            yield unit, _of_core(run, unit[1], found)


def window_name(run: Run, unit: Unit) -> str:
    """A window in words."""
    plane, window = unit
    (t, z), core = run.planes[plane], run.windows.core_box(window)
    return f"Frame {t}, slice {z}, window {window} (rows {core.y0}:{core.y1}, columns {core.x0}:{core.x1})"


def _of_core(run: Run, window: int, found: Prediction) -> Prediction:
    """Maps of the window's core, or the candidates that it owns, in the coordinates of the frame."""
    if isinstance(found, Candidates):
        return owned(found, run.windows, window, seam=SEAM_PX)
    return part_of(found, run.windows.core_box(window).within(run.windows.window_box(window)))


def predict(run: Run, networks: Networks, units: Sequence[Unit]) -> Arrays:
    """Write the prediction of each window as one scratch object; return how often limits were reached."""
    reached: Counter[str] = Counter()
    for (plane, window), found in predictions_of(run, networks, units):
        put(run.scratch, maps_name(plane, window), arrays_of(found) if isinstance(found, Candidates) else found)
        reached += reached_in(found)
    return limits(reached)


def reached_in(prediction: Prediction) -> Counter[str]:
    """Which limits of the networks were reached, and how often."""
    return Counter(prediction.reached if isinstance(prediction, Candidates) else {})


def limits(reached: Counter[str]) -> Arrays:
    """Columns of a task's record: how often each limit was reached."""
    return {f"reached.{name}": np.array(count, np.int64) for name, count in reached.items()}


def maps_name(plane: int, window: int) -> str:
    """Name of the scratch object of a window's prediction."""
    return f"maps/{plane:06d}/{window:06d}"
