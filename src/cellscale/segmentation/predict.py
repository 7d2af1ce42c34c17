"""Predict: each window once, after the frame's intensity mapping.

Maps are rounded to uint8 before anything reads them, so that all tiles decode the same numbers.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.methods.inference import check_precision, place, windows_to_maps
from cellscale.methods.intensity import Mapping
from cellscale.methods.protocol import Networks
from cellscale.networks.finite import NotFiniteError
from cellscale.segmentation.intensity_statistics import mappings_of
from cellscale.segmentation.plan import Run
from cellscale.segmentation.prefetch import prefetch
from cellscale.segmentation.records import Arrays, Made, Records, compressed, items_name, table_columns, table_in
from cellscale.segmentation.source import read_each, references_of
from cellscale.segmentation.work_items import WorkItem
from cellscale.storage.together import behind
from cellscale.tiling.candidates import SEAM_PX, arrays_of, owned
from cellscale.tiling.windows import mirrored
from cellscale.types import Box, Candidates, Image, Prediction, part_of

REACHED = "reached"
"""Table of a record: how often each limit of the networks was reached."""


MAPS = "maps"
"""Kind of the scratch objects that hold predictions."""


def _rows_and_columns(run: Run, window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the frame that a window shows, mirrored beyond it."""
    box = run.windows.window_box(window)
    return mirrored(box.y0, box.y1, run.grid.shape[0]), mirrored(box.x0, box.x1, run.grid.shape[1])


def source_box(run: Run, window: int) -> Box:
    """The pixels of the frame that a window shows."""
    rows, columns = _rows_and_columns(run, window)
    return Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)


def _input(run: Run, window: int, mappings: Sequence[Mapping], pixels: Image) -> NDArray[np.float32]:
    """The network's input, (c, y, x), mirrored beyond the frame, from the pixels of `source_box`."""
    rows, columns = _rows_and_columns(run, window)
    mapped = np.stack([mapping(channel) for mapping, channel in zip(mappings, pixels, strict=True)])
    return np.ascontiguousarray(mapped[:, rows - rows.min()][:, :, columns - columns.min()])


def _batches(
    run: Run, items: Sequence[WorkItem], channels: Sequence[int] | None
) -> Iterator[tuple[list[WorkItem], NDArray[np.float32], list[Image]]]:
    """Work items, the network's inputs, (n, c, y, x), and the channels that were read; the last batch is filled up."""
    records, size = Records(run.scratch), run.settings.batch
    planes = sorted({item[0] for item in items})
    boxes = [(plane, source_box(run, window)) for plane, window in items]
    wanted = list(run.channels) if channels is None else slice(None)
    with behind() as later:
        references = later(partial(references_of, run, planes, records))
        with read_each(run, boxes, references, channels=channels) as read:
            references.result()
            mappings = {plane: mappings_of(run, plane, records) for plane in planes}
            for start in range(0, len(items), size):
                batch = list(items[start : start + size])
                images = list(itertools.islice(read, len(batch)))
                inputs = [
                    _input(run, window, mappings[plane], pixels[wanted])
                    for (plane, window), pixels in zip(batch, images, strict=True)
                ]
                yield batch, np.stack(inputs + inputs[-1:] * (size - len(inputs))), images


def predictions_of(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Iterator[tuple[WorkItem, Prediction]]:
    """Predict windows (plane, window) and yield the parts of the predictions in their cores.

    The next batch is read meanwhile. On a GPU the networks continue while the caller works.
    """
    for item, found, _ in _predicted(run, networks, items, run.channels):
        yield item, found


def predicted_frames(run: Run, networks: Networks, planes: Sequence[int]) -> Iterator[tuple[int, Prediction, Image]]:
    """Predict frames that are one window each; yield them with all their channels, (c, y, x), which are read once."""
    for (plane, _), found, image in _predicted(run, networks, [(plane, 0) for plane in planes], None):
        yield plane, found, image


def _predicted(
    run: Run, networks: Networks, items: Sequence[WorkItem], channels: Sequence[int] | None
) -> Iterator[tuple[WorkItem, Prediction, Image]]:
    check_precision(run.settings.device, run.settings.precision)
    torch.set_num_threads(run.settings.threads)
    made = _predictions(run, networks, items, channels)
    return made if run.settings.device == "cpu" else prefetch(made)


def _predictions(
    run: Run, networks: Networks, items: Sequence[WorkItem], channels: Sequence[int] | None
) -> Iterator[tuple[WorkItem, Prediction, Image]]:
    how = run.settings
    place(networks, how.device)
    for batch, inputs, images in prefetch(_batches(run, items, channels)):
        try:
            predicted = windows_to_maps(
                run.method,
                networks,
                inputs,
                device=how.device,
                precision=how.precision,
                flips=how.test_time_flips is True,
                placed=True,
            )
        except NotFiniteError as error:
            raise InputError(f"{window_name(run, batch[min(error.sample, len(batch) - 1)])}: {error}") from error
        for item, found, image in zip(batch, predicted, images, strict=False):
            yield item, _of_core(run, item[1], found), image


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


def predict(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Made:
    """Predict windows: one scratch object of all predictions; the record says how often limits were reached."""
    reached: Counter[str] = Counter()
    maps = {}
    for (plane, window), found in predictions_of(run, networks, items):
        content = arrays_of(found) if isinstance(found, Candidates) else found
        maps[f"{plane}/{window}"] = compressed(content)
        reached += reached_in(found)
    return Made(columns=limits(reached), objects={items_name(MAPS, items): maps})


def reached_in(prediction: Prediction) -> Counter[str]:
    """Number of times that each limit of the networks was reached."""
    return Counter(prediction.reached if isinstance(prediction, Candidates) else {})


def limits(reached: Counter[str]) -> Arrays:
    """Columns of a task's record: how often each limit was reached."""
    return table_columns(REACHED, {name: np.array(count, np.int64) for name, count in reached.items()})


def reached_in_record(record: Arrays) -> Counter[str]:
    """Count how often each limit of the networks was reached, from the record of a prediction."""
    return Counter({name: int(count) for name, count in table_in(record, REACHED).items()})
