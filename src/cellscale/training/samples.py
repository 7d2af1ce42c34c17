"""Training samples: sample i is a function of (seed, i), in any process and any order.

A sample is made in five steps, all from the generator of (seed, i):

1. draw a frame, by the weights of the data sets, and a place in it
2. draw an augmentation: the coordinates in the frame of every pixel of a view, crop + 2 · margin px a side
3. read the block of the frame that holds these coordinates, and resample image and labels there
4. compute the method's targets from the labels of the view, then cut the margin off: no skeleton, hull or gap comes
   from a cell that the crop cuts
5. change the intensities of the crop

Shapes: image (c, y, x) float32, labels (y, x) int64, targets (y, x) by name; stacked to (n, …) by `batches`. Step s
of worker r of w has the samples (s · w + r) · n … + n − 1 with batch size n, so that w workers together see the
samples that one worker with w times the batch size sees.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TypeAlias

import cloudpickle
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from cellscale.errors import CellscaleError
from cellscale.methods.protocol import Batch, Method
from cellscale.training.augment import View, coordinates, other_intensities, view_of, view_of_image, view_of_labels
from cellscale.training.crops import Crops, Seen
from cellscale.training.frames import Frames, scales, shares
from cellscale.training.settings import TrainingSettings
from cellscale.types import Box, Labels

Sample: TypeAlias = dict[str, Tensor]


class Samples(Dataset[Sample]):
    """Samples of a training by number, without end."""

    def __init__(
        self,
        method: Method,
        frames: Frames,
        settings: TrainingSettings,
        seen: Mapping[int, Seen] | None = None,
    ) -> None:
        """Prepare reading; pixels are read by the processes that load samples.

        Parameters
        ----------
        method : Method
            Gives targets, channels and the intensity rule.
        frames : Frames
            Annotated frames.
        settings : TrainingSettings
            Crop, margin, augmentation, seed and cache.
        seen : mapping, optional
            Statistics of frames, by number, that were computed before.
        """
        self.given = method, frames, settings, seen
        self._method, self._settings = method, settings
        budget = settings.cache_mb * 2**20
        self._crops = Crops(frames, method.intensity, budget, ignore_label=settings.ignore_label, seen=seen)
        self._shares = shares(frames, settings.dataset_weights)
        self._scales = scales(frames) if settings.same_scale else [1.0] * len(frames)
        self.crop = -(-settings.crop // method.reaches.multiple) * method.reaches.multiple

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`: `image` (c, y, x) float32, `labels` (y, x) int64 and the method's targets (y, x)."""
        # The random numbers are drawn in a fixed order from one generator: frame, place, geometry, then intensities.
        rng, number, view = self._drawn(index)
        inner, how = self._inner, self._settings.augmentation
        image, labels = self._crops.read(number, view.box)  # (c, h, w) and (h, w) of the box that the view needs
        cells = view_of_labels(labels, view)  # (side, side), side = crop + 2 · margin
        targets = self._method.targets(cells)  # (side, side) by name
        # The image needs no margin: only its crop (c, crop, crop) is resampled.
        shown = other_intensities(view_of_image(image, view, inner), rng, how)
        # A copy, since a slice would keep the memory of the margin alive in the loader's queue.
        found = {name: torch.from_numpy(values[inner, inner].copy()) for name, values in targets.items()}
        return found | {
            "image": torch.from_numpy(shown),
            "labels": torch.from_numpy(cells[inner, inner].astype(np.int64)),
        }

    def labels(self, index: int) -> Labels:
        """Labels of sample `index`, (y, x), without its image and targets."""
        _, number, view = self._drawn(index)
        return view_of_labels(self._crops.labels(number, view.box), view)[self._inner, self._inner]

    @property
    def _inner(self) -> slice:
        """Part of an axis of a view that remains when the margin is cut off."""
        return slice(self._settings.margin, self._settings.margin + self.crop)

    def _drawn(self, index: int) -> tuple[np.random.Generator, int, View]:
        """Generator of a sample, the number of its frame, and its view there with the margin."""
        rng = np.random.default_rng([self._settings.seed, index])  # independent streams for all pairs (seed, index)
        count = len(self._scales)
        number = int(rng.integers(count) if self._shares is None else rng.choice(count, p=self._shares))
        scale, side = self._scales[number], self.crop + 2 * self._settings.margin  # frame px for each px of the sample
        center = self._center(rng, number, self.crop * scale)
        points = coordinates(rng, center, side, self._settings.augmentation, scale)  # (2, side, side)
        return rng, number, view_of(points, self._crops.frames.shape(number))

    def _center(self, rng: np.random.Generator, number: int, size: float) -> tuple[float, float]:
        """Draw the centre (y, x) of a crop of `size` px so that it fits into the frame; the middle of a short axis.

        For a share of `foreground_fraction` of the samples it is the possible centre nearest to a random cell pixel.
        """
        height, width = self._crops.frames.shape(number)
        # Interval of possible centres along each axis, in edge coordinates 0 … n; one point if the crop is longer.
        ends = [(min(size, n) / 2, n - min(size, n) / 2) for n in (height, width)]
        y, x = (rng.uniform(*end) for end in ends)
        if self._settings.foreground_fraction > 0 and rng.random() < self._settings.foreground_fraction:
            rows = self._crops.cells_by_row(number)
            if rows[-1]:
                place = rng.integers(rows[-1])
                row = int(np.searchsorted(rows, place, side="right"))
                cells = np.flatnonzero(self._crops.labels(number, Box(row, 0, row + 1, width))[0])
                # Pixels of cells are numbered in raster order: those of the row end at rows[row].
                found = row, cells[place - rows[row]]
                y, x = (min(max(at + 0.5, low), high) for at, (low, high) in zip(found, ends, strict=True))
        return (float(y - 0.5), float(x - 0.5))  # from edge coordinates to those of pixel centres


class _Shipped(Dataset[Sample | CellscaleError]):
    """Samples for a loader process: pickled by value, so that it need not import the script that trains.

    What a user's script defines itself (a method, frames) is in `__main__`, which a fresh process could only have by
    running the script again.
    """

    def __init__(self, samples: Samples) -> None:
        self._content = cloudpickle.dumps(samples.given)
        self._samples: Samples | None = None

    def __getitem__(self, index: int) -> Sample | CellscaleError:
        """Return a sample, or the error instead: torch would change the type of an error raised in a loader process."""
        self._samples = self._samples or Samples(*pickle.loads(self._content))  # noqa: S301 — made above
        try:
            return self._samples[index]
        except CellscaleError as error:
            return error


def _stacked(samples: Sequence[Sample | CellscaleError]) -> Sample | CellscaleError:
    """A batch of samples, or the first error among them."""
    error = next((sample for sample in samples if isinstance(sample, CellscaleError)), None)
    return error or default_collate(list(samples))


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep processes that are started meanwhile from importing the user's script, which then needs no main guard."""
    held = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = held


def batches(
    samples: Samples, settings: TrainingSettings, *, first: int, stop: int | None = None, rank: int = 0, world: int = 1
) -> Iterator[Sample]:
    """Stacked samples of steps from `first` on; step s of worker r has the samples (s · world + r) · n … + n − 1.

    They end before step `stop`; None: after the number of steps of the settings.

    Raises
    ------
    CellscaleError
        If a sample cannot be read, also in a loader process.
    """
    stop = settings.steps if stop is None else stop
    size = settings.batch_size
    order = [(step * world + rank) * size + k for step in range(first, stop) for k in range(size)]
    workers = settings.loader_workers
    loader = DataLoader(
        _Shipped(samples) if workers else samples,
        batch_size=size,
        sampler=order,
        collate_fn=_stacked,
        num_workers=workers,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_quiet if workers else None,
        prefetch_factor=4 if workers else None,
    )
    before = threading.enumerate()
    with _without_main():
        found = iter(loader)
    feeders = [thread for thread in threading.enumerate() if thread not in before]
    try:
        for batch in found:
            if isinstance(batch, CellscaleError):
                raise batch
            yield batch
    finally:
        del found  # ends the loader processes
        # torch does not wait for the threads that fill its queues. One that frees its semaphore while the interpreter
        # ends is stopped halfway, and Python then warns of a leak.
        for thread in feeders:
            thread.join()


def _quiet(worker: int) -> None:
    """Set up a loader process: one thread, to leave the processors to the training; it ends with its parent."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a loader process with the training: torch only watches the fork server, which lives as long as the loader."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def batch_of(values: dict[str, Tensor], device: torch.device, mean: Callable[[Tensor], Tensor]) -> Batch:
    """Move stacked samples (n, …) to a device; images are laid out channels last, which convolutions prefer."""
    moved = {name: value.to(device, non_blocking=True) for name, value in values.items()}
    image = moved.pop("image").contiguous(memory_format=torch.channels_last)
    return Batch(image=image, labels=moved.pop("labels"), targets=moved, mean=mean)


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into `count` parts of equal size, (n / count, …)."""
    if count == 1:
        return [batch]
    size = len(batch.image) // count
    cuts = [slice(i * size, (i + 1) * size) for i in range(count)]
    return [
        replace(
            batch,
            image=batch.image[cut],
            labels=batch.labels[cut],
            targets={name: values[cut] for name, values in batch.targets.items()},
        )
        for cut in cuts
    ]
