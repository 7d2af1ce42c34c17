from __future__ import annotations

import dataclasses
import multiprocessing.queues
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from numpy.typing import NDArray
from torch import Tensor

from cellscale.api.data import import_images
from cellscale.errors import InputError, StoreError
from cellscale.methods import load_method
from cellscale.ngff.image import open_image
from cellscale.testing.cases import annotated_frame
from cellscale.training.augment import Augmentation
from cellscale.training.crops import Crops
from cellscale.training.frames import Joined, shares
from cellscale.training.samples import Samples, batches
from cellscale.training.selection import training_data
from cellscale.training.settings import TrainingSettings
from cellscale.types import Image, Labels

SETTINGS = TrainingSettings(steps=6, batch_size=2, crop=30, margin=8, loader_workers=0)
FRAMES = [annotated_frame(0), annotated_frame(1, (40, 50)), annotated_frame(2, (20, 90))]


@pytest.fixture
def samples() -> Samples:
    return Samples(load_method("dwm", depth=2), FRAMES, SETTINGS)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_sample_is_a_function_of_seed_and_number(samples: Samples) -> None:
    other = Samples(load_method("dwm", depth=2), FRAMES, SETTINGS)
    other[5]
    assert equal(samples[3], other[3])
    assert not equal(samples[3], samples[4])
    reseeded = Samples(load_method("dwm", depth=2), FRAMES, dataclasses.replace(SETTINGS, seed=1))
    assert not equal(samples[3], reseeded[3])


def test_a_sample_has_the_crops_size_rounded_up_even_where_the_frame_is_smaller(samples: Samples) -> None:
    for i in range(12):
        sample = samples[i]
        assert sample["image"].shape == (1, 32, 32)
        assert {sample[name].shape for name in ("labels", "classes", "weight")} == {(32, 32)}
        assert (sample["image"].dtype, sample["labels"].dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 12), (0.5, 18, 42), (1.0, 60, 60)])
def test_samples_are_drawn_around_cells_for_the_share_that_is_asked_for(share: float, least: float, most: Any) -> None:
    """A small cell in a large frame; a frame without cells has samples, too."""
    image, labels = np.zeros((1, 200, 200), np.uint8), np.zeros((200, 200), np.uint32)
    settings = dataclasses.replace(SETTINGS, foreground_fraction=share)
    empty = Samples(load_method("dwm", depth=2), [(image, labels.copy())], settings)
    assert empty[0]["labels"].shape == (32, 32)
    labels[40:43, 140:143] = 1
    samples = Samples(load_method("dwm", depth=2), [(image, labels)], settings)
    assert least <= sum(bool(samples[i]["labels"].any()) for i in range(60)) <= most


def test_a_share_of_samples_on_cells_is_a_share() -> None:
    with pytest.raises(InputError, match=r"'foreground_fraction' is 2\.0; expected a share from 0 to 1"):
        TrainingSettings(foreground_fraction=2.0)


def test_targets_see_beyond_the_crop() -> None:
    """Weights at the border of a crop are those of the whole frame, for views that are only turned."""
    method: Any = load_method("dwm", depth=1, beta=6)
    settings = TrainingSettings(crop=32, margin=12, augmentation=Augmentation(warped=0.0))
    labels = np.zeros((64, 64), np.uint32)
    labels[:, 9:20], labels[:, 31:50] = 1, 2
    labels[10:30, 22:26], labels[33, 25] = 3, 4
    frame = FRAMES[0][0], labels
    samples = Samples(method, [frame], settings)
    whole = method.targets(frame[1])["weight"]
    for i in range(20):
        sample = samples[i]
        labels, weight = sample["labels"].numpy(), sample["weight"].numpy()
        turns = [np.rot90(a, k) for a in (whole, whole[::-1]) for k in range(4)]
        twins = [np.rot90(a, k) for a in (frame[1], frame[1][::-1]) for k in range(4)]
        assert any(found(labels, weight, twin, turn) for twin, turn in zip(twins, turns, strict=True))


@pytest.mark.parametrize("size", [64, 65])
def test_samples_that_are_only_turned_have_the_pixels_of_the_frame(size: int) -> None:
    """No mean of two pixels, no rounded outline: a cell of one pixel stays."""
    rng = np.random.default_rng(0)
    labels = np.zeros((size, size + 4), np.uint32)
    labels[4::9, 4::9] = 7
    image = np.where(labels > 0, 60000, rng.choice([0, 20000], labels.shape))[None].astype(np.uint16)
    still = Augmentation(warped=0, gamma=1, contrast=1, brightness=0, shading=0, noise=0, blur=0)
    for crop in (32, 20):
        settings = TrainingSettings(crop=crop, margin=3, augmentation=still)
        samples = Samples(load_method("ribcage-ce"), [(image, labels)], settings)
        for i in range(8):
            sample = samples[i]
            values = sample["image"].numpy()
            assert len(np.unique(values.round(4))) == 3
            assert np.array_equal(sample["labels"].numpy() > 0, values[0] == values.max())


def found(labels: NDArray[Any], weight: NDArray[Any], whole_labels: Labels, whole_weight: NDArray[Any]) -> bool:
    """Whether a crop lies somewhere in a frame, weights and all."""
    views = np.lib.stride_tricks.sliding_window_view(whole_labels, labels.shape)
    places = np.argwhere((views == labels).all(axis=(2, 3)))
    height, width = labels.shape
    return any(np.allclose(whole_weight[y : y + height, x : x + width], weight) for y, x in places)


def test_batches_of_two_workers_together_are_those_of_one(samples: Samples) -> None:
    wide = dataclasses.replace(SETTINGS, batch_size=4)
    alone = list(batches(samples, wide, first=0))
    pair = [list(batches(samples, SETTINGS, first=0, rank=rank, world=2)) for rank in (0, 1)]
    for step, values in enumerate(alone):
        joined = {name: torch.cat([pair[rank][step][name] for rank in (0, 1)]) for name in values}
        assert equal(values, joined)


def test_batches_from_a_later_step_are_the_same_ones(samples: Samples) -> None:
    whole, rest = list(batches(samples, SETTINGS, first=0)), list(batches(samples, SETTINGS, first=4))
    assert len(rest) == 2
    assert all(equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_a_loader_process_makes_the_same_batches(samples: Samples) -> None:
    apart = batches(samples, dataclasses.replace(SETTINGS, loader_workers=1), first=3)
    assert all(equal(a, b) for a, b in zip(batches(samples, SETTINGS, first=3), apart, strict=True))


def test_data_sets_have_shares_of_the_samples() -> None:
    frames = Watched(parts=Joined.of([[annotated_frame(0)], [annotated_frame(i) for i in range(1, 5)]]).parts)
    assert shares(frames, ()) is None
    weighted = shares(frames, (1, 3))
    assert weighted is not None
    assert weighted.tolist() == pytest.approx([0.25] + [0.1875] * 4)
    samples = Samples(load_method("dwm", depth=1), frames, dataclasses.replace(SETTINGS, dataset_weights=(0.0, 2.0)))
    for i in range(30):
        samples[i]
    assert set(frames.seen) == {1, 2, 3, 4}
    with pytest.raises(InputError, match=r"'dataset_weights' is .*expected 2 numbers, one for each data set"):
        shares(frames, (1.0, 2.0, 3.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched(Joined):
    """Data sets that note which frames are read."""

    seen: list[int] = dataclasses.field(default_factory=list)

    def read_labels(self, index: int, box: Any) -> NDArray[np.uint32]:
        self.seen.append(index)
        return super().read_labels(index, box)


def test_what_lies_where_nobody_annotated_changes_nothing() -> None:
    image, labels = annotated_frame(0)
    hidden = np.zeros(labels.shape, bool)
    hidden[:, 30:] = True
    rng = np.random.default_rng(0)
    other = image.copy()
    other[:, hidden] = rng.permutation(image[:, hidden], axis=1)
    settings = dataclasses.replace(SETTINGS, ignore_label=999)
    partial = np.where(hidden, 999, labels).astype(np.uint32)
    first, second = (Samples(load_method("saw", depth=1), [(i, partial)], settings) for i in (image, other))
    plain = Samples(load_method("saw", depth=1), [(image, labels)], SETTINGS)
    assert all(equal(first[i], second[i]) for i in range(8))
    assert any(not equal(first[i], plain[i]) for i in range(8))
    assert max(int(first[i]["labels"].max()) for i in range(8)) < 999


def test_a_pool_of_stores_of_other_sizes_pixels_and_types(tmp_path: Path) -> None:
    image, labels = annotated_frame(0)
    fine = np.kron(image, np.ones((1, 2, 2), np.uint8)).astype(np.uint16) * 9 + 30_000
    stores: dict[str, tuple[Image, Labels, float]] = {
        "coarse": (image, labels, 1.0),
        "fine": (fine, np.kron(labels, np.ones((2, 2), np.uint32)), 0.5),
    }
    parts = []
    for name, (pixels, masks, size) in stores.items():
        np.save(tmp_path / f"{name}.npy", pixels)
        np.save(tmp_path / f"{name}-masks.npy", masks[None].astype(np.uint16))
        sources: dict[str, Any] = {"masks": str(tmp_path / f"{name}-masks.npy"), "pixel_size_um": size, "axes": "tyx"}
        import_images(str(tmp_path / f"{name}.npy"), str(tmp_path / f"{name}.zarr"), **sources)
        parts.append(training_data(open_image(str(tmp_path / f"{name}.zarr")), "truth", 1, None))
    areas = {}
    for same in (False, True):
        settings = dataclasses.replace(SETTINGS, crop=64, same_scale=same, augmentation=Augmentation(warped=0.0))
        for part in (0, 1):
            chosen = dataclasses.replace(settings, dataset_weights=tuple(float(part == i) for i in (0, 1)))
            samples = Samples(load_method("dwm", depth=1), Joined.of(parts), chosen)
            cells = [np.unique(samples[i]["labels"], return_counts=True)[1][1:] for i in range(40)]
            areas[same, part] = np.max(np.concatenate(cells))
    assert areas[True, 0] == areas[False, 0]
    assert 0.7 < areas[True, 1] / areas[True, 0] < 1.4
    assert areas[False, 1] / areas[False, 0] > 2


class Unreadable(list[Any]):
    """Frames that cannot be read."""

    def __getitem__(self, index: Any) -> Any:
        raise StoreError(f"Chunk {index} is damaged.")


def test_an_error_in_a_loader_process_is_the_error_of_the_training() -> None:
    seen = {i: Crops(FRAMES, load_method("dwm").intensity, 0).seen(i) for i in range(3)}
    broken = Samples(load_method("dwm", depth=1), Unreadable(FRAMES), SETTINGS, seen)
    with pytest.raises(StoreError, match=r"^Chunk \d is damaged\.$"):
        next(batches(broken, dataclasses.replace(SETTINGS, loader_workers=1), first=0))


SCRIPT = """
import sys
from cellscale.methods import load_method
from cellscale.testing.cases import annotated_frame
from cellscale.training.samples import Samples, batches
from cellscale.training.settings import TrainingSettings

class Frames(list):
    "Defined by the script itself."

print("begun")
settings = TrainingSettings(steps=2, batch_size=1, crop=30, margin=8, loader_workers=1)
found = list(batches(Samples(load_method("dwm", depth=1), Frames([annotated_frame(0)]), settings), settings, first=0))
print(len(found), sys.modules["__main__"].__file__ == __file__)
"""


def test_a_script_needs_no_guard_around_its_beginning(tmp_path: Path) -> None:
    """Loader processes do not run it again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["begun", "2 True"], "")


@pytest.mark.parametrize("read", [1, 2, 3])
def test_loaders_that_ended_leave_no_thread_behind(read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that still frees its queue while the interpreter ends leaves a semaphore behind."""
    feed = multiprocessing.queues.Queue._feed  # type: ignore[attr-defined]

    def slow(*args: Any) -> None:
        feed(*args)
        time.sleep(0.3)

    monkeypatch.setattr(multiprocessing.queues.Queue, "_feed", staticmethod(slow))
    before = threading.enumerate()
    settings = dataclasses.replace(SETTINGS, loader_workers=1)
    samples = batches(Samples(load_method("dwm", depth=1), FRAMES, settings), settings, first=0, stop=2)
    assert len(list(islice(samples, read))) == min(read, 2)
    samples.close()  # type: ignore[attr-defined]
    assert [thread for thread in threading.enumerate() if thread not in before] == []


class Noted(list[Any]):
    """Frames that note who reads them."""

    def __init__(self, notes: Any) -> None:
        super().__init__(FRAMES[:1])
        self.notes = notes

    def __getitem__(self, index: Any) -> Any:
        (self.notes / str(os.getpid())).touch()
        return super().__getitem__(index)

    def __reduce__(self) -> Any:
        return Noted, (self.notes,)


def shot(notes: Any) -> None:
    """Ask a loader process for a batch, then die by signal 9."""
    samples = Samples(load_method("dwm", depth=1), Noted(notes), SETTINGS)
    next(batches(samples, dataclasses.replace(SETTINGS, loader_workers=1), first=0))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_training_leaves_no_loader_behind(tmp_path: Path) -> None:
    process = torch.multiprocessing.get_context("spawn").Process(target=shot, args=(tmp_path,))
    process.start()
    process.join()
    (loader,) = (path.name for path in tmp_path.iterdir())
    while os.path.exists(f"/proc/{loader}"):
        time.sleep(0.1)
