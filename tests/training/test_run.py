from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing

from cellscale.api.data import import_images
from cellscale.errors import DamagedError, ExistsError, InputError, RunError
from cellscale.methods import load_method
from cellscale.models.model import Model, digest, load_model
from cellscale.ngff.image import open_image
from cellscale.progress import Progress, silent
from cellscale.testing.cases import FRAMES
from cellscale.training import resume_state
from cellscale.training.run import check_start, train
from cellscale.training.selection import training_data
from cellscale.training.settings import TrainingSettings
from cellscale.training.task import TrainingTask
from cellscale.training.validation import predicted, scored
from cellscale.types import Candidates

SETTINGS = TrainingSettings(
    steps=12,
    batch_size=2,
    crop=32,
    margin=8,
    validate_every=4,
    loader_workers=0,
    threads=1,
    precision="fp32",
    log_every=2,
)
METHOD: Any = load_method("dwm", width=4, depth=2, dropout=0.2)


class Killed(BaseException):
    """What no handler catches, like a signal."""


BEFORE_STEPS = ("prepare", "count classes")
"""What a training reports before its first step."""


def killed_at(step: int) -> Progress:
    """A progress callback that dies after a step."""

    def progress(stage: Any, done: int, total: int) -> None:
        if stage not in BEFORE_STEPS and done == step:
            raise Killed

    return progress


def run(folder: Path | str, on_progress: Progress = silent, **options: Any) -> Model:
    asked: dict[str, Any] = {"settings": SETTINGS, **options}
    task = TrainingTask(method=METHOD, data=[FRAMES[:2]], validation=[FRAMES[2:]], output=str(folder), **asked)
    return train(task, on_progress=on_progress)


def test_a_training_leaves_a_model_a_curve_and_nothing_else(tmp_path: Path) -> None:
    model = run(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "history.csv",
        "loss.png",
        "model.json",
        "weights.safetensors",
    ]
    assert digest(load_model(str(tmp_path / "m"))) == digest(model)
    lines = (tmp_path / "m" / "history.csv").read_text().splitlines()
    assert sum(",cross-entropy,cross_entropy," in line for line in lines) == 6
    assert {line.split(",")[0] for line in lines if ",validation,seg," in line} == {"4", "8", "12"}


def test_the_model_tells_how_it_was_trained(tmp_path: Path) -> None:
    model = run(tmp_path, overwrite=True, pixel_size_um=(0.2, 0.2))
    found = json.loads((tmp_path / "model.json").read_text())
    assert found["training"]["steps"] == 12
    assert found["training"]["settings"]["seed"] == 0
    assert found["training"]["validation"]["seg"] == pytest.approx(model.training["validation"]["seg"])
    assert found["pixel_size_um"] == [0.2, 0.2]
    assert sum(found["settings"]["class_counts"]) == SETTINGS.steps * SETTINGS.batch_size * SETTINGS.crop**2


def test_a_killed_training_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    for step in (3, 6, 11):
        folder = tmp_path / str(step)
        with pytest.raises(Killed):
            run(folder, on_progress=killed_at(step))
        assert digest(run(folder, resume=True)) == digest(whole)
        assert (folder / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()


def test_a_training_starts_from_a_model(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    settings = dataclasses.replace(SETTINGS, steps=1, validate_every=1)
    flat: Any = load_method("dwm", width=4, depth=2, dropout=0.2, learning_rate=1e-12)
    begun = train(
        TrainingTask(
            method=flat, data=[FRAMES[:1]], output=str(tmp_path / "second"), settings=settings, init_from=first
        )
    )
    for key, value in begun.networks["unet"].named_parameters():
        torch.testing.assert_close(value, first.networks["unet"].get_parameter(key))
    assert begun.training["start"] == digest(first)


def test_a_training_from_a_model_continues_bit_for_bit(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    whole = run(tmp_path / "whole", init_from=first)
    with pytest.raises(Killed):
        run(tmp_path / "cut", init_from=first, on_progress=killed_at(6))
    with pytest.raises(InputError, match=r"start: '.*' then, None now"):
        run(tmp_path / "cut", resume=True)
    assert digest(run(tmp_path / "cut", init_from=first, resume=True)) == digest(whole)


def test_a_model_to_start_from_must_be_of_the_same_networks(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    with pytest.raises(InputError, match=r"of method 'dwm', not 'saw'\. Name its method"):
        check_start(first, "saw", first.method)
    with pytest.raises(InputError, match="has other networks than these settings of 'dwm' make"):
        check_start(first, "dwm", load_method("dwm", width=6, depth=2))
    check_start(first, "dwm", first.method)


@pytest.mark.slow
def test_compiled_networks_learn_what_others_do(tmp_path: Path) -> None:
    method: Any = load_method("dwm", width=4, depth=1)  # compiled code draws other features to drop
    losses = {}
    for on in (False, True):
        settings = dataclasses.replace(SETTINGS, steps=2, log_every=1, compile=on, profile=on)
        model = train(TrainingTask(method=method, data=[FRAMES], output=str(tmp_path / str(on)), settings=settings))
        lines = (tmp_path / str(on) / "history.csv").read_text().splitlines()[1:]
        losses[on] = [float(line.rpartition(",")[2]) for line in lines]
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)
    assert set(model.training["profile_s"]) == {"data", "forward", "backward", "exchange", "optimizer"}
    assert digest(load_model(str(tmp_path / "True"))) == digest(model)


def test_a_finished_training_is_returned_when_resumed(tmp_path: Path) -> None:
    assert digest(run(tmp_path / "m")) == digest(run(tmp_path / "m", resume=True, on_progress=killed_at(1)))
    other = dataclasses.replace(SETTINGS, seed=5)
    with pytest.raises(InputError, match=r"finished model of another training \(seed: 0 then, 5 now\)"):
        run(tmp_path / "m", resume=True, settings=other)
    with pytest.raises(InputError, match=r"frames: 2 then, 1 now"):
        train(
            TrainingTask(method=METHOD, data=[FRAMES[:1]], output=str(tmp_path / "m"), settings=SETTINGS, resume=True)
        )


@pytest.mark.parametrize("changed", ["a pixel", "a label", "a validation label"])
def test_a_training_continues_only_on_the_data_that_it_began_with(tmp_path: Path, changed: str) -> None:
    def task(name: str, *, change: bool, resume: bool = False) -> TrainingTask:
        frames, held = ([(image.copy(), labels.copy()) for image, labels in FRAMES] for _ in range(2))
        if change:
            plane = {"a pixel": frames[1][0][0], "a label": frames[1][1], "a validation label": held[0][1]}[changed]
            plane[plane == plane.max()] = 0
        return TrainingTask(
            method=METHOD,
            data=[frames],
            validation=[held],
            output=str(tmp_path / name),
            settings=SETTINGS,
            resume=resume,
        )

    name = "validation_checksum" if "validation" in changed else "data_checksum"
    with pytest.raises(Killed):
        train(task("m", change=False), on_progress=killed_at(6))
    with pytest.raises(
        InputError, match=rf"^The unfinished training was another one \({name}: '\w+' then, '\w+' now\)"
    ):
        train(task("m", change=True, resume=True))
    whole = train(task("m", change=False, resume=True))
    with pytest.raises(InputError, match=rf"finished model of another training \({name}: "):
        train(task("m", change=True, resume=True))
    assert digest(train(task("m", change=False, resume=True))) == digest(whole)


def test_nothing_is_replaced_without_being_asked_to(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "m", on_progress=killed_at(6))
    with pytest.raises(ExistsError, match=r"holds an unfinished training\. Continue it with --resume"):
        run(tmp_path / "m")
    run(tmp_path / "m", overwrite=True)
    with pytest.raises(ExistsError, match="holds a model"):
        run(tmp_path / "m")


@pytest.mark.parametrize("step", [1, 6])
def test_a_model_is_there_until_the_one_that_replaces_it_is_complete(tmp_path: Path, step: int) -> None:
    old = digest(run(tmp_path / "m"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    other = dataclasses.replace(SETTINGS, seed=5)
    with pytest.raises(Killed):
        run(tmp_path / "m", overwrite=True, settings=other, on_progress=killed_at(step))
    after = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    assert after.items() >= before.items()
    assert digest(load_model(str(tmp_path / "m"))) == old
    if step > SETTINGS.validate_every:
        with pytest.raises(ExistsError, match="holds an unfinished training"):
            run(tmp_path / "m", settings=other)
    new = run(tmp_path / "m", resume=step > SETTINGS.validate_every, overwrite=step == 1, settings=other)
    assert digest(load_model(str(tmp_path / "m"))) == digest(new) == digest(run(tmp_path / "calm", settings=other))
    left = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert left[:3] == ["history.csv", "loss.png", "model.json"]
    assert [name.startswith("weights-") for name in left[3:]] == [True]


def test_of_two_trainings_in_one_folder_the_later_one_has_it(tmp_path: Path) -> None:
    other = dataclasses.replace(SETTINGS, seed=5)
    later: list[Model] = []

    def overtaken(stage: Any, done: int, total: int) -> None:
        if stage not in BEFORE_STEPS and done == 6 and not later:
            later.append(run(tmp_path / "m", overwrite=True, settings=other))

    with pytest.raises(RunError, match="Another training has taken over"):
        run(tmp_path / "m", on_progress=overtaken)
    assert digest(load_model(str(tmp_path / "m"))) == digest(later[0])
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "history.csv",
        "loss.png",
        "model.json",
        "weights.safetensors",
    ]


def test_a_second_training_is_refused_while_the_first_one_runs(tmp_path: Path) -> None:
    seen = []

    def second(stage: Any, done: int, total: int) -> None:
        if stage not in BEFORE_STEPS and done == 2:
            with pytest.raises(ExistsError, match="if two run at once, the later one takes over the folder"):
                run(tmp_path / "m")
            seen.append(done)

    run(tmp_path / "m", on_progress=second)
    assert seen == [2]


def test_a_training_that_fails_before_its_first_state_leaves_no_claim(tmp_path: Path) -> None:
    steep = load_method("saw", width=4, depth=1, norm=False, learning_rate=1e18)
    with pytest.raises(RunError, match="Lower the learning rate"):
        train(
            TrainingTask(
                method=steep,
                data=[FRAMES[:2]],
                output=str(tmp_path),
                settings=dataclasses.replace(SETTINGS, validate_every=100),
            )
        )
    assert list(tmp_path.iterdir()) == []


def test_another_training_does_not_continue_an_unfinished_one(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "m", on_progress=killed_at(6))
    other = dataclasses.replace(SETTINGS, seed=5)
    with pytest.raises(InputError, match=r"training\.seed: 0 then, 5 now"):
        run(tmp_path / "m", resume=True, settings=other)


def test_without_held_out_frames_thresholds_stay(tmp_path: Path) -> None:
    model = train(TrainingTask(method=METHOD, data=[FRAMES], output=str(tmp_path), settings=SETTINGS))
    found: Any = model.method
    assert found.thresholds == METHOD.thresholds
    assert model.training["validation"] == {}


def test_a_model_can_go_to_an_object_store() -> None:
    model = run("memory://models/run")
    assert digest(load_model("memory://models/run")) == digest(model)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["training", "validation"])
def test_pixels_that_are_no_number_and_frames_without_cells_end_it_before_the_first_step(
    tmp_path: Path, what: Any
) -> None:
    image, labels = FRAMES[0]
    broken = image.astype(np.float32)
    broken[0, 5, 6] = np.nan
    steps = []
    for bad, message in (
        ((broken, labels), r"Pixel \(y 5, x 6\) of frame 0 is not a finite number"),
        ((image, np.zeros_like(labels)), f"None of the 1 {what} frames has a cell"),
    ):
        data: dict[str, Any] = {"training": [FRAMES[:1]], "validation": [FRAMES[:1]], what: [[bad]]}
        asked: dict[str, Any] = {"data": data["training"], "validation": data["validation"], "settings": SETTINGS}
        with pytest.raises(InputError, match=message):
            train(
                TrainingTask(method=METHOD, output=str(tmp_path / "m"), **asked),
                on_progress=lambda stage, *_: steps.append(stage),
            )
    assert set(steps) <= {"prepare"}
    assert not (tmp_path / "m" / "model.json").exists()


def test_data_and_checkpoints_can_lie_in_a_bucket(s3: dict[str, Any], tmp_path: Path) -> None:
    images, masks = (np.stack(of) for of in zip(*((image[0], labels) for image, labels in FRAMES), strict=True))
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "masks.npy", masks.astype(np.uint16))
    digests = []
    for place, options in ((str(tmp_path), {}), ("s3://cells/training", s3)):
        movie = f"{place}/movie.zarr"
        words: dict[str, Any] = {"masks": str(tmp_path / "masks.npy"), "axes": "tyx", "storage_options": options}
        import_images(str(tmp_path / "images.npy"), movie, **words)
        image = open_image(movie, storage_options=options)
        data = [training_data(image, "truth", 1, frames) for frames in ((0, 2), (2, 3))]
        asked: dict[str, Any] = {"output": f"{place}/model", "settings": SETTINGS, "storage_options": options}
        with pytest.raises(Killed):
            train(TrainingTask(method=METHOD, data=data[:1], validation=data[1:], **asked), on_progress=killed_at(6))
        digests.append(
            digest(train(TrainingTask(method=METHOD, data=data[:1], validation=data[1:], **asked, resume=True)))
        )
        assert digest(load_model(f"{place}/model", options)) == digests[-1]
    assert digests[0] == digests[1]


def shot(folder: Path, settings: Any, step: int) -> None:
    """Train in a process of its own that dies by signal 9 after a step."""

    def progress(stage: Any, done: int, total: int) -> None:
        if stage not in BEFORE_STEPS and done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    run(folder, settings=settings, on_progress=progress)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_process_that_is_shot_at_a_random_step_continues_bit_for_bit(tmp_path: Path, seed: int) -> None:
    """With all that a state holds: loader processes, averages, best weights, warm-up."""
    extras: dict[str, Any] = {
        "ema_decay": 0.9,
        "patience": 9,
        "schedule": "cosine",
        "warmup": 3,
        "loader_workers": 1,
        "seed": seed,
    }
    settings = dataclasses.replace(SETTINGS, **extras)
    whole = run(tmp_path / "whole", settings=settings)
    step = random.Random(seed).randrange(1, SETTINGS.steps)
    process = torch.multiprocessing.get_context("spawn").Process(target=shot, args=(tmp_path / "cut", settings, step))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert digest(run(tmp_path / "cut", settings=settings, resume=True)) == digest(whole)


def test_maps_of_a_frame_that_is_no_multiple_have_its_shape() -> None:
    torch.manual_seed(0)
    frames = [(FRAMES[0][0][:, :61, :50], FRAMES[0][1][:61, :50])]
    ((maps, truth),) = predicted(METHOD, METHOD.networks(), frames, device="cpu", precision="fp32")
    assert not isinstance(maps, Candidates)
    assert {values.shape for values in maps.values()} == {(61, 50)}
    assert np.array_equal(truth, frames[0][1])


def test_perfect_maps_have_perfect_scores() -> None:
    truth = np.zeros((64, 64), np.uint32)
    truth[8:24, 8:24], truth[30:60, 30:60] = 1, 2
    maps = {name: np.rint(255 * values).astype(np.uint8) for name, values in METHOD.perfect_prediction(truth).items()}
    found = scored(METHOD, [(maps, truth)])
    assert (found["seg"], found["f1"]) == (1.0, 1.0)


def test_the_state_holds_what_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, on_progress=killed_at(9))
    found = resume_state.unpacked((tmp_path / "state.pt").read_bytes(), "m")
    assert (found.state.step, found.description["training.steps"]) == (8, 12)


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "another file", "a part is missing"])
def test_a_damaged_state_is_named_and_can_be_dropped(tmp_path: Path, damage: Any) -> None:
    with pytest.raises(Killed):
        run(tmp_path, on_progress=killed_at(6))
    state = tmp_path / "state.pt"
    whole = state.read_bytes()
    content = {"empty": b"", "cut": whole[: len(whole) // 2], "zeros": bytes(len(whole)), "another file": b"{}" * 99}
    state.write_bytes(content.get(damage, whole))
    if damage == "a part is missing":
        held = torch.load(state, weights_only=True)
        del held["history"]
        torch.save(held, state)
    with pytest.raises(DamagedError, match=r"state\.pt is damaged: .*Start over with --overwrite\.$"):
        run(tmp_path, resume=True)
    assert run(tmp_path, overwrite=True).training["steps"] == SETTINGS.steps
