"""Predict: each window once, after the frame's intensity mapping.

Maps are rounded to uint8 before anything reads them, so that all tiles decode the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.methods.inference import check_precision, windows_to_maps
from cellscale.methods.intensity import Mapping
from cellscale.methods.protocol import Networks
from cellscale.networks.finite import NotFiniteError
from cellscale.segmentation.intensity_statistics import mappings_of
from cellscale.segmentation.plan import Records, Run
from cellscale.segmentation.prefetch import prefetch
from cellscale.segmentation.records import Arrays, put, table_columns, table_in
from cellscale.segmentation.source import Reference, read_checked, reference_of
from cellscale.segmentation.work_items import WorkItem
from cellscale.tiling.candidates import SEAM_PX, arrays_of, owned
from cellscale.tiling.windows import mirrored
from cellscale.types import Box, Candidates, Prediction, part_of

REACHED = "reached"
"""Table of a record: how often each limit of the networks was reached."""


def _window(
    run: Run, plane: int, window: int, mappings: Sequence[Mapping], reference: Reference
) -> NDArray[np.float32]:
    """The network's input, (c, y, x), mirrored beyond the frame."""
    box = run.windows.window_box(window)
    rows = mirrored(box.y0, box.y1, run.grid.shape[0])
    columns = mirrored(box.x0, box.x1, run.grid.shape[1])
    source = Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    values = read_checked(run, plane, source, reference, channels=run.channels)
    mapped = np.stack([mapping(channel) for mapping, channel in zip(mappings, values, strict=True)])
    return np.ascontiguousarray(mapped[:, rows - source.y0][:, :, columns - source.x0])


def _batches(run: Run, items: Sequence[WorkItem]) -> Iterator[tuple[list[WorkItem], NDArray[np.float32]]]:
    """Work items and the network's inputs, (n, c, y, x); the last batch is filled up."""
    records, size = Records(run.scratch), run.settings.batch
    planes = sorted({item[0] for item in items})
    known = {plane: (mappings_of(run, plane, records), reference_of(run, plane, records)) for plane in planes}
    for start in range(0, len(items), size):
        batch = list(items[start : start + size])
        inputs = [_window(run, plane, window, *known[plane]) for plane, window in batch]
        yield batch, np.stack(inputs + inputs[-1:] * (size - len(inputs)))


def predictions_of(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Iterator[tuple[WorkItem, Prediction]]:
    """Predict windows (plane, window) and yield the parts of the predictions in their cores.

    The next batch is read meanwhile. On a GPU the networks continue while the caller works.
    """
    check_precision(run.settings.device, run.settings.precision)
    torch.set_num_threads(run.settings.threads)
    made = _predictions(run, networks, items)
    return made if run.settings.device == "cpu" else prefetch(made)


def _predictions(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Iterator[tuple[WorkItem, Prediction]]:
    how = run.settings
    for batch, inputs in prefetch(_batches(run, items)):
        try:
            predicted = windows_to_maps(
                run.method, networks, inputs, device=how.device, precision=how.precision, flips=how.test_time_flips
            )
        except NotFiniteError as error:
            raise InputError(f"{window_name(run, batch[min(error.sample, len(batch) - 1)])}: {error}") from error
        for item, found in zip(batch, predicted, strict=False):
            yield item, _of_core(run, item[1], found)


def window_name(run: Run, item: WorkItem) -> str:
    """A window as text, for messages."""
    plane, window = item
    (t, z), core = run.planes[plane], run.windows.core_box(window)
    return f"Frame {t}, slice {z}, window {window} (rows {core.y0}:{core.y1}, columns {core.x0}:{core.x1})"


def _of_core(run: Run, window: int, found: Prediction) -> Prediction:
    """Maps of the window's core, or the candidates that it owns, in the coordinates of the frame."""
    if isinstance(found, Candidates):
        return owned(found, run.windows, window, seam=SEAM_PX)
    return part_of(found, run.windows.core_box(window).within(run.windows.window_box(window)))


def predict(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Arrays:
    """Write the prediction of each window as one scratch object; return how often limits were reached."""
    reached: Counter[str] = Counter()
    for (plane, window), found in predictions_of(run, networks, items):
        content = arrays_of(found) if isinstance(found, Candidates) else found
        put(run.scratch, maps_name(plane, window), content, flush=False)
        reached += reached_in(found)
    run.scratch.flush(maps_name(plane, window) for plane, window in items)
    return limits(reached)


def reached_in(prediction: Prediction) -> Counter[str]:
    """Number of times that each limit of the networks was reached."""
    return Counter(prediction.reached if isinstance(prediction, Candidates) else {})


def limits(reached: Counter[str]) -> Arrays:
    """Columns of a task's record: how often each limit was reached."""
    return table_columns(REACHED, {name: np.array(count, np.int64) for name, count in reached.items()})


def reached_in_record(record: Arrays) -> Counter[str]:
    """Count how often each limit of the networks was reached, from the record of a prediction."""
    return Counter({name: int(count) for name, count in table_in(record, REACHED).items()})


def maps_name(plane: int, window: int) -> str:
    """Name of the scratch object of a window's prediction."""
    return f"maps/{plane:06d}/{window:06d}"
