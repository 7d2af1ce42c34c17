"""Samples: number i is a function of (seed, i) alone, whoever asks for it and whenever.

A view is drawn with a margin, image and labels are augmented together, targets are computed, then the margin is cut: no
skeleton, hull or gap sees a cell that the sample cuts.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cellscale.methods.protocol import Batch, Method
from cellscale.training.augment import coordinates, other_intensities, view_of_image, view_of_labels
from cellscale.training.frames import Frames, MappedFrames, scales, shares
from cellscale.training.settings import TrainingSettings
from cellscale.types import Labels


class Samples(Dataset[dict[str, Tensor]]):
    """The endless list of samples of a training."""

    def __init__(self, method: Method, frames: Frames, settings: TrainingSettings) -> None:
        """Decode nothing yet: loader processes read the frames that they need."""
        self._method, self._settings = method, settings
        self._frames = MappedFrames(frames, method.intensity, settings.cache_mb * 2**20, settings.ignore_label)
        self._shares = shares(frames, settings.dataset_weights)
        self._scales = scales(frames) if settings.same_scale else [1.0] * len(frames)
        self.crop = -(-settings.crop // method.multiple) * method.multiple

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`: `image` (c, y, x) float32, `labels` (y, x) int64 and the method's targets (y, x)."""
        rng, number, points = self._drawn(index)
        image, labels = self._frames[number]
        inner = self._inner
        view = view_of_labels(labels, points)
        targets = self._method.targets(view)
        how = self._settings.augmentation
        seen = other_intensities(view_of_image(image, points[:, inner, inner]), rng, how)
        found = {name: torch.from_numpy(values[inner, inner].copy()) for name, values in targets.items()}
        return found | {
            "image": torch.from_numpy(seen),
            "labels": torch.from_numpy(view[inner, inner].astype(np.int64)),
        }

    def labels(self, index: int) -> Labels:
        """Labels of sample `index`, (y, x), without its image and targets."""
        _, number, points = self._drawn(index)
        return view_of_labels(self._frames[number][1], points[:, self._inner, self._inner])

    @property
    def _inner(self) -> slice:
        """The part of an axis of a view that is the sample."""
        return slice(self._settings.margin, self._settings.margin + self.crop)

    def _drawn(self, index: int) -> tuple[np.random.Generator, int, NDArray[np.float32]]:
        """Generator of a sample, the number of its frame, and the points of its view there with the margin."""
        rng = np.random.default_rng([self._settings.seed, index])
        count = len(self._frames)
        number = int(rng.integers(count) if self._shares is None else rng.choice(count, p=self._shares))
        scale, side = self._scales[number], self.crop + 2 * self._settings.margin
        center = self._center(rng, self._frames[number][1], self.crop * scale)
        return rng, number, coordinates(rng, center, side, self._settings.augmentation, scale)

    def _center(self, rng: np.random.Generator, labels: Labels, size: float) -> tuple[float, float]:
        """A place where a sample of `size` px fits into the frame, or the middle of an axis that is too short.

        For the share `foreground_fraction` of the samples it is the one that is nearest to some pixel of a cell.
        """
        ends = [(min(size, n) / 2, n - min(size, n) / 2) for n in labels.shape]
        y, x = (rng.uniform(*end) for end in ends)
        if self._settings.foreground_fraction > 0 and rng.random() < self._settings.foreground_fraction:
            rows = np.count_nonzero(labels, axis=1).cumsum()
            if rows[-1]:
                place = rng.integers(rows[-1])
                row = int(np.searchsorted(rows, place, side="right"))
                found = row, np.flatnonzero(labels[row])[place - rows[row]]
                y, x = (min(max(at + 0.5, low), high) for at, (low, high) in zip(found, ends, strict=True))
        return (float(y - 0.5), float(x - 0.5))


def batches(
    samples: Samples, settings: TrainingSettings, *, first: int, stop: int | None = None, rank: int = 0, world: int = 1
) -> Iterator[dict[str, Tensor]]:
    """Stacked samples of steps from `first` on; step s of worker r has the samples (s · world + r) · n … + n − 1.

    They end before step `stop`; None: after the number of steps of the settings.
    """
    stop = settings.steps if stop is None else stop
    size = settings.batch_size
    order = [(step * world + rank) * size + k for step in range(first, stop) for k in range(size)]
    workers = settings.loader_workers
    loader = DataLoader(
        samples,
        batch_size=size,
        sampler=order,
        num_workers=workers,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_quiet if workers else None,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def _quiet(worker: int) -> None:
    """Leave the processors to the training: a loader process computes with one thread, and ends with its parent."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed training leaves no loader behind: torch watches the fork server, which lives as long as the loader."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def batch_of(values: dict[str, Tensor], device: torch.device, mean: Callable[[Tensor], Tensor]) -> Batch:
    """Move stacked samples to a device, the image in channels-last order."""
    moved = {name: value.to(device, non_blocking=True) for name, value in values.items()}
    image = moved.pop("image").contiguous(memory_format=torch.channels_last)
    return Batch(image=image, labels=moved.pop("labels"), targets=moved, mean=mean)


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into so many of equal size."""
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
