"""Conformance checks for methods: one check for each clause of the contract.

`each_check` is a pytest parametrisation. The test of a method, in this package or outside it, is:

>>> from cellscale.methods import load_method
>>> from cellscale.testing import conformance
>>> SUBJECT = conformance.Subject(method=load_method("unet2", width=4, depth=2))
>>> @conformance.each_check
... def test_my_method(check):
...     check(SUBJECT)

Single checks may be called too:

>>> conformance.check_reach(SUBJECT)
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor

from cellscale.methods import load_method, settings_of
from cellscale.methods.inference import stored, windows_to_maps
from cellscale.methods.protocol import Batch, Method
from cellscale.models.model import Model
from cellscale.testing.cases import CASES, FRAMES, random_maps
from cellscale.testing.reach import measured_reach
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.tiling.windows import cut, windows_of
from cellscale.training import loop
from cellscale.training.run import train
from cellscale.training.samples import Samples
from cellscale.training.settings import TrainingSettings
from cellscale.training.task import TrainingTask
from cellscale.training.validation import frame_prediction, predicted
from cellscale.training.workers import Workers
from cellscale.types import Box, Candidates, Image, Labels, Mask, part_of

QUICK = TrainingSettings(
    steps=50,
    batch_size=4,
    crop=32,
    margin=8,
    loader_workers=0,
    threads=1,
    precision="fp32",
    device="cpu",
    validate_every=1000,
)
"""A training of a few seconds on one processor, for small networks."""
WIDE_PX = 7
"""Width from which a cell must survive the decoding of its perfect prediction, px."""
LEAST_JACCARD = 0.95
"""Jaccard index that such a cell must reach."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A method under test, with the data for the checks. With a small variant of it a check takes seconds."""

    method: Method
    frames: Sequence[tuple[Image, Labels]] = FRAMES
    """Images (c, y, x) with labels (y, x) to train on."""
    training: TrainingSettings = QUICK
    """Settings of the trainings."""
    responses: Callable[[Tensor], Mapping[str, Tensor]] | None = None
    """Replacement for `Method.predict` when the reach is measured: for methods whose maps only compare responses with
    thresholds, so that a small influence of a pixel would not show in them."""
    samples_together: int = 1
    """Number of samples that a loss needs at once, where it compares samples with one another."""


Check: TypeAlias = Callable[[Subject], None]
"""Fails with an AssertionError, or skips where it does not apply to the method."""


def jaccard_indices(truth: Labels, found: Labels) -> dict[int, float]:
    """Greatest Jaccard index of each true cell with a found one, by true label; both label images are (y, x)."""
    best = {}
    for cell in np.unique(truth[truth > 0]):
        inside = truth == cell
        others = [found == other for other in np.unique(found[inside & (found > 0)])]
        best[int(cell)] = max((float((inside & o).sum() / (inside | o).sum()) for o in others), default=0.0)
    return best


def _width(mask: Mask) -> int:
    """Side of the largest square that fits into a mask, px."""
    side, left = 0, mask
    while left.any():
        side, left = side + 1, left[1:, 1:] & left[:-1, 1:] & left[1:, :-1] & left[:-1, :-1]
    return side


def check_perfect_prediction(subject: Subject, *, labels: Labels) -> None:
    """Decoding the perfect prediction of a label image (y, x) returns each cell that is at least 7 px wide.

    Parameters
    ----------
    subject : Subject
        The method under test.
    labels : uint32 array, (y, x)
        Label image, such as one of `cases.CASES`.
    """
    method = subject.method
    perfect = method.perfect_prediction(labels)
    if not isinstance(perfect, Candidates):
        perfect = stored({name: torch.from_numpy(values)[None] for name, values in perfect.items()})[0]
        assert set(perfect) == set(method.maps)
    found = whole_frame(method, perfect)
    wide = [cell for cell in np.unique(labels[labels > 0]) if _width(labels == cell) >= WIDE_PX]
    indices = jaccard_indices(labels, found)
    assert {cell: indices[cell] for cell in wide if indices[cell] < LEAST_JACCARD} == {}


def check_reach(subject: Subject) -> None:
    """The declared reach is at least the measured receptive field, and no more than 2 px above it."""
    method = subject.method
    if method.whole == "windowed":
        pytest.skip("each window is solved as a whole, so the reach is not a receptive field")
    torch.manual_seed(0)
    networks = {name: network.double().eval() for name, network in method.networks().items()}

    def predict(window: Tensor) -> Mapping[str, Tensor]:
        with torch.inference_mode():
            if subject.responses:
                return subject.responses(window.double())
            maps = method.predict(networks, window.double())
            if isinstance(maps, list):
                pytest.skip("the method predicts candidates")
            return maps

    found = measured_reach(
        predict, channels=method.channels, multiple=method.reaches.multiple, radius=method.reaches.reach + 4
    )
    assert method.reaches.reach - 2 <= found <= method.reaches.reach


def check_windows(
    subject: Subject, *, shape: tuple[int, int] = (75, 62), window_size: int = 32, tile_size: int = 40
) -> None:
    """Maps through many windows are those of one window over the frame, and tiles decode them to the same labels.

    The networks compute in double precision: no sum is rounded to another map for another shape of window.

    Parameters
    ----------
    subject : Subject
        The method under test.
    shape : tuple of int
        Height and width of the frame, px.
    window_size, tile_size : int
        Sides of the cores of windows and tiles, px.
    """
    method = subject.method
    if method.whole == "windowed":
        pytest.skip("labels depend on the window")
    torch.manual_seed(0)
    networks = {name: network.double().eval() for name, network in method.networks().items()}
    image: Any = np.random.default_rng(0).random((method.channels, *shape))
    whole = frame_prediction(method, networks, image, device="cpu", precision="fp32")
    if isinstance(whole, Candidates):
        pytest.skip("the method predicts candidates")
    windows = windows_of(method, shape, window_size)
    maps = {name: np.zeros(shape, np.uint8) for name in method.maps}
    for window in range(len(windows)):
        seen, core = windows.window_box(window), windows.core_box(window)
        (found,) = windows_to_maps(method, networks, cut(image, seen)[None], precision="fp32")
        part = part_of(found, core.within(seen))
        for name in method.maps:
            assert not isinstance(part, Candidates)
            maps[name][core.slices] = part[name]
    for name in method.maps:
        np.testing.assert_array_equal(maps[name], whole[name])
    if method.whole == "exact":
        np.testing.assert_array_equal(tiled_frame(method, maps, tile_size), whole_frame(method, whole))


def check_settings(subject: Subject) -> None:
    """Settings survive a round trip through JSON."""
    method = subject.method
    assert load_method(method.name, **json.loads(json.dumps(settings_of(method)))) == method


def _maps(method: Method, shape: tuple[int, int], seed: int) -> dict[str, Any]:
    if not method.maps:
        pytest.skip("the method predicts candidates")
    return dict(random_maps(method.maps, shape, seed))


def check_fragments(subject: Subject, *, seed: int) -> None:
    """Fragments of a part of a region are numbered 1 … n without gaps and have the foreground of the whole region.

    Parameters
    ----------
    subject : Subject
        The method under test.
    seed : int
        Equal seeds give equal random maps.
    """
    method = subject.method
    _maps(method, (8, 8), seed)
    rng = np.random.default_rng(seed)
    maps = {name: rng.integers(0, 256, (72, 80)).astype(np.uint8) for name in method.maps}
    whole = method.decode(maps, Box.of((72, 80))).labels
    part = Box(20, 24, 44, 52)
    fragments = method.decode(maps, part).labels
    assert fragments.dtype == np.int32
    assert fragments.shape == part.shape
    assert np.array_equal(np.unique(fragments[fragments > 0]), np.arange(1, fragments.max() + 1))
    assert np.array_equal(fragments > 0, whole[part.slices] > 0)


def check_tiling(subject: Subject, *, size: int) -> None:
    """Tiles of `size` px give the labels of the whole frame, numbers included: `decode_reach` and `link` suffice.

    Parameters
    ----------
    subject : Subject
        The method under test.
    size : int
        Side of the tiles, px.
    """
    if subject.method.whole == "tiled":
        pytest.skip("labels depend on the tiles")
    for seed in range(3):
        maps = _maps(subject.method, (61, 83), seed)
        assert np.array_equal(tiled_frame(subject.method, maps, size), whole_frame(subject.method, maps))


def _distance_to_labels(model: Model, subject: Subject) -> float:
    """Mean absolute difference between the predicted and the perfect first map over all frames."""
    method = model.method
    name = method.maps[0]
    pairs = predicted(method, model.networks, subject.frames, device="cpu", precision="fp32")
    differences = []
    for maps, truth in pairs:
        perfect = method.perfect_prediction(truth)
        assert not isinstance(maps, Candidates)
        assert not isinstance(perfect, Candidates)
        differences.append(np.abs(maps[name] / 255 - perfect[name]))
    return float(np.mean(differences))


def check_training(subject: Subject) -> None:
    """A seeded training is repeatable to the last bit and brings the prediction nearer to the labels.

    The first is checked on a fifth of the steps, which has all stages; the second for methods that have stages and
    predict maps.
    """
    method, whole = subject.method, subject.training
    short = dataclasses.replace(whole, steps=max(2, whole.steps // 5))

    def trained(settings: TrainingSettings) -> Model:
        with tempfile.TemporaryDirectory() as folder:
            return train(TrainingTask(method=method, data=[subject.frames], output=f"{folder}/m", settings=settings))

    first, second = trained(short), trained(short)
    for name, network in first.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, second.networks[name].state_dict()[key]), f"{name}.{key}"
    if method.stages() and method.maps:
        torch.manual_seed(whole.seed)
        before = Model(method=method, networks=method.networks())
        assert _distance_to_labels(trained(whole), subject) < 0.9 * _distance_to_labels(before, subject)


def sample_batch(subject: Subject, count: int = 3) -> Batch:
    """Batch of the first `count` samples of a subject's training, as a loss receives it."""
    samples = Samples(subject.method, subject.frames, subject.training)
    values = [samples[i] for i in range(count)]
    stacked = {name: torch.stack([value[name] for value in values]) for name in values[0]}
    return Batch(image=stacked.pop("image"), labels=stacked.pop("labels"), targets=stacked)


def check_frozen_networks(subject: Subject) -> None:
    """Every update changes the networks that it names, and leaves the others as they are, bit for bit."""
    method = subject.method
    batch = sample_batch(subject)
    torch.manual_seed(0)
    networks = method.networks()
    for stage in method.stages():
        for update in stage.updates:
            before = {name: {k: v.clone() for k, v in n.state_dict().items()} for name, n in networks.items()}
            loop.Updater(update, networks, 1).step(batch, 0, subject.training, Workers())
            changed = {
                name
                for name, network in networks.items()
                if any(not torch.equal(value, before[name][key]) for key, value in network.state_dict().items())
            }
            assert changed == set(update.trains)


def check_sample_means(subject: Subject) -> None:
    """A loss is the mean of the losses of its samples, so that it averages over workers.

    Where a loss needs several samples at once it is the mean over groups of `Subject.samples_together`.
    """
    method, together = subject.method, subject.samples_together
    batch = sample_batch(subject, 3 * together)
    torch.manual_seed(0)
    networks = {name: network.eval() for name, network in method.networks().items()}
    for update in (update for stage in method.stages() for update in stage.updates):
        agreed: list[Tensor] = []
        with torch.no_grad():
            whole = update.loss(networks, dataclasses.replace(batch, mean=partial(_noted, agreed)))
            parts = [
                update.loss(networks, worker_batch(batch, slice(i, i + together), iter(agreed)))
                for i in range(0, 3 * together, together)
            ]
        for name, value in whole.items():
            mean = torch.stack([part[name] for part in parts]).mean()
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


def _noted(values: list[Tensor], value: Tensor) -> Tensor:
    """Append a value and return it: `Batch.mean` of one worker that keeps what it was asked for."""
    values.append(value)
    return value


def worker_batch(batch: Batch, samples: slice, agreed: Iterator[Tensor]) -> Batch:
    """Part of a batch that one of several workers has; its `mean` returns the next value that all of them agreed on."""
    targets = {name: value[samples] for name, value in batch.targets.items()}
    return Batch(image=batch.image[samples], labels=batch.labels[samples], targets=targets, mean=lambda _: next(agreed))


CHECKS: Mapping[str, Check] = {
    "settings": check_settings,
    "reach": check_reach,
    "windows": check_windows,
    "frozen networks": check_frozen_networks,
    "sample means": check_sample_means,
    "training": check_training,
    **{f"fragments, seed {seed}": partial(check_fragments, seed=seed) for seed in range(5)},
    **{f"tiling, {size} px": partial(check_tiling, size=size) for size in (17, 40)},
    **{f"perfect prediction, {name}": partial(check_perfect_prediction, labels=CASES[name]) for name in CASES},
}
"""All checks by name."""
each_check = pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in CHECKS.items()])
"""Decorator of a test function with an argument `check`: one test for each of CHECKS."""
