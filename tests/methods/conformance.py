"""What every method must keep: one suite, given a small variant of the method and frames to learn from."""

import dataclasses
import json
from functools import partial

import numpy as np
import torch

from cellscale.methods import load_method, settings_of
from cellscale.methods.inference import stored, windows_to_maps
from cellscale.methods.protocol import Batch
from cellscale.models.model import Model
from cellscale.testing.reach import measured_reach
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.tiling.windows import cut, windows_of
from cellscale.training import loop
from cellscale.training.run import train
from cellscale.training.samples import Samples
from cellscale.training.settings import TrainingSettings
from cellscale.training.validation import frame_prediction, predicted
from cellscale.training.workers import Workers
from cellscale.types import Box, Candidates

QUICK = TrainingSettings(
    steps=50, batch_size=4, crop=32, margin=8, loader_workers=0, precision="fp32", device="cpu", validate_every=1000
)


def jaccards(truth, found):
    """Greatest Jaccard index of each true cell."""
    best = {}
    for cell in np.unique(truth[truth > 0]):
        inside = truth == cell
        others = [found == other for other in np.unique(found[inside & (found > 0)])]
        best[int(cell)] = max(((inside & other).sum() / (inside | other).sum() for other in others), default=0.0)
    return best


def width_of(mask):
    """Side of the largest square around any pixel that fits into a cell, px."""
    side, left = 0, mask
    while left.any():
        side, left = side + 1, left[1:, 1:] & left[:-1, 1:] & left[1:, :-1] & left[:-1, :-1]
    return side


def check_ideal(method, labels):
    """Decoding the perfect prediction returns each cell at least 7 px wide with a Jaccard index of at least 0.95."""
    ideal = method.ideal(labels)
    if not isinstance(ideal, Candidates):
        ideal = stored({name: torch.from_numpy(values)[None] for name, values in ideal.items()})[0]
        assert set(ideal) == set(method.maps)
    found = whole_frame(method, ideal)
    wide = [cell for cell in np.unique(labels[labels > 0]) if width_of(labels == cell) >= 7]
    small = {cell: value for cell, value in jaccards(labels, found).items() if cell in wide and value < 0.95}
    assert not small


def check_reach(method, seen=None):
    """The reach computed from kernels and strides is at least the measured one, and no more than 2 px above it.

    `seen` gives what a method looks at, where its prediction only compares that with thresholds.
    """
    torch.manual_seed(0)
    networks = {name: network.double().eval() for name, network in method.networks().items()}

    def predict(window):
        with torch.inference_mode():
            return seen(window.double()) if seen else method.predict(networks, window.double())

    found = measured_reach(predict, channels=method.channels, multiple=method.multiple, radius=method.reach + 4)
    assert method.reach - 2 <= found <= method.reach


def check_windows(method, image, window, tile):
    """Maps through windows of any core are those of one window over the frame, and tiles of any size decode the same.

    The networks compute in double precision, so that no sum is rounded to another map for another shape of window.
    """
    torch.manual_seed(0)
    networks = {name: network.double().eval() for name, network in method.networks().items()}
    one = frame_prediction(method, networks, image, device="cpu", precision="fp32")
    windows = windows_of(method, image.shape[1:], window)
    many = {name: np.full(image.shape[1:], 77, np.uint8) for name in method.maps}
    for number in range(len(windows)):
        seen, core = windows.window_box(number), windows.core_box(number)
        (maps,) = windows_to_maps(method, networks, cut(image, seen)[None], precision="fp32")
        for name, values in maps.items():
            many[name][core.slices] = values[core.within(seen).slices]
    for name in method.maps:
        assert np.array_equal(many[name], one[name]), f"{name}: {np.argwhere(many[name] != one[name])[:5]}"
    assert np.array_equal(tiled_frame(method, many, tile), whole_frame(method, one))


def check_json(method):
    """Settings survive JSON."""
    assert load_method(method.name, **json.loads(json.dumps(settings_of(method)))) == method


def check_pieces(method, maps):
    """Pieces of a part of the region are numbered 1 … n without gaps, and have the foreground of the whole."""
    whole = method.decode(maps, Box.of(maps[method.maps[0]].shape)).labels
    part = Box(20, 24, 44, 52)
    pieces = method.decode(maps, part).labels
    assert pieces.dtype == np.int32
    assert pieces.shape == part.shape
    assert np.array_equal(np.unique(pieces[pieces > 0]), np.arange(1, pieces.max() + 1))
    assert np.array_equal(pieces > 0, whole[part.slices] > 0)


def distance_to_labels(model, frames):
    """Mean absolute difference of the predicted cells and the perfect ones."""
    method = model.method
    pairs = predicted(method, model.networks, frames, device="cpu", precision="fp32")
    wanted = [method.ideal(truth) for _, truth in pairs]
    name = method.maps[0]
    return float(
        np.mean([np.abs(maps[name] / 255 - ideal[name]) for (maps, _), ideal in zip(pairs, wanted, strict=True)])
    )


def check_training(method, frames, folder, quick=QUICK):
    """A seeded training is repeatable to the last bit and, if anything learns, brings the prediction nearer."""
    torch.manual_seed(quick.seed)
    before = distance_to_labels(Model(method=method, networks=method.networks()), frames)
    first = train(method, [frames], output=f"{folder}/first", settings=quick)
    second = train(method, [frames], output=f"{folder}/second", settings=quick)
    for name, network in first.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, second.networks[name].state_dict()[key]), f"{name}.{key}"
    if method.stages():
        assert distance_to_labels(first, frames) < 0.9 * before


def batch_for(method, frames, quick, count=3):
    """Some samples of the frames."""
    samples = Samples(method, frames, quick)
    values = [samples[i] for i in range(count)]
    stacked = {name: torch.stack([value[name] for value in values]) for name in values[0]}
    return Batch(image=stacked.pop("image"), labels=stacked.pop("labels"), targets=stacked)


def check_resting(method, frames, quick=QUICK):
    """In every update some network moves, and those that rest stay as they are, bit for bit."""
    batch = batch_for(method, frames, quick)
    torch.manual_seed(0)
    networks = method.networks()
    for stage in method.stages():
        for update in stage.updates:
            before = {name: {k: v.clone() for k, v in n.state_dict().items()} for name, n in networks.items()}
            loop.Player(update, networks, 1).move(batch, 0, quick, Workers())
            moved = {
                name
                for name, network in networks.items()
                if any(not torch.equal(value, before[name][key]) for key, value in network.state_dict().items())
            }
            assert moved == set(update.trains)


def check_sample_means(method, frames, quick=QUICK, together=1):
    """A loss is the mean of the losses of samples, or of as many `together` as it needs: it averages over workers."""
    batch = batch_for(method, frames, quick, count=3 * together)
    torch.manual_seed(0)
    networks = {name: network.eval() for name, network in method.networks().items()}
    for stage in method.stages():
        for update in stage.updates:
            agreed = []
            noted = partial(note, agreed)
            with torch.no_grad():
                whole = update.loss(networks, dataclasses.replace(batch, mean=noted))
                parts = [
                    update.loss(networks, part_of(batch, slice(i, i + together), iter(agreed)))
                    for i in range(0, 3 * together, together)
                ]
            for name, value in whole.items():
                torch.testing.assert_close(
                    value, torch.stack([part[name] for part in parts]).mean(), rtol=1e-4, atol=1e-6
                )


def note(values, value):
    """Append a value and return it."""
    values.append(value)
    return value


def part_of(batch, samples, agreed):
    """What one of the workers has of a batch; `mean` gives it what all of them agreed on."""
    targets = {name: value[samples] for name, value in batch.targets.items()}
    return Batch(image=batch.image[samples], labels=batch.labels[samples], targets=targets, mean=lambda _: next(agreed))
