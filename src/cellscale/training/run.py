"""A training from data to model: prepare, train, validate, calibrate, save."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cellscale.errors import InputError, StoreError
from cellscale.methods import module_of, settings_of
from cellscale.methods.inference import device_of
from cellscale.methods.parts.tuning import mean_of_f1_and_seg
from cellscale.methods.protocol import Batch, Method, Networks, Stage
from cellscale.models.model import CURVE, DESCRIPTION, Model, digest, load_model, restore, save_model, tensors
from cellscale.progress import Progress, silent
from cellscale.settings.fields import flat_json, replaced
from cellscale.storage.folder import Folder
from cellscale.training import loop, resume_state
from cellscale.training.crops import Crops, Seen, checksum_of, frame_statistics
from cellscale.training.frames import Joined, StoredFrames, TrainingData, labels_of
from cellscale.training.history import History
from cellscale.training.profiling import Clock, Stopwatch, no_clock
from cellscale.training.resume_state import Claim, claim
from cellscale.training.samples import Samples, batch_of, batches
from cellscale.training.settings import TrainingSettings
from cellscale.training.task import TrainingTask
from cellscale.training.validation import Inference, calibrated, held_out_tiles, predictions, scored
from cellscale.training.workers import Workers
from cellscale.types import Box, Labels, Prediction

__all__ = ["Progress", "TrainingData", "TrainingSettings", "TrainingTask", "train"]

VIEWS = 256
"""Greatest number of samples on which class frequencies are counted."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One worker's view of a training."""

    method: Method
    """With fitted statistics."""
    networks: Mapping[str, nn.Module]
    """On the device of the training."""
    data: Joined
    settings: TrainingSettings
    device: torch.device
    claim: Claim
    description: Mapping[str, Any]
    """Arguments of the training: a resumed training must ask for the same."""
    state: loop.State
    history: History
    workers: Workers = field(default_factory=Workers)
    on_progress: Progress = silent
    clock: Clock = no_clock
    seen: Mapping[int, Seen] = field(default_factory=dict)
    """Intensity statistics of the training frames."""
    held_out: Crops | None = None
    """The validation frames; worker 0 predicts them."""

    @property
    def length(self) -> int:
        """Number of batches of the whole schedule."""
        return max(loop.ends_of(self.method.stages(), self.settings.steps), default=0)

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches of this worker from a step on; preparation starts with the first request."""
        samples = Samples(self.method, self.data, self.settings, self.seen)
        where = {"rank": self.workers.rank, "world": self.workers.world}
        found = batches(samples, self.settings, first=first, stop=self.length, **where)
        yield from (batch_of(values, self.device, self.workers.mean) for values in found)

    def log(self, stage: str, step: int, terms: Mapping[str, float]) -> None:
        """Log the loss terms of a step."""
        self.history.step(stage, step, terms)
        self.on_progress(stage, step, self.length)

    def validate(self, stage: Stage, step: int) -> float:
        """Score the held-out frames with the stage's networks, on worker 0; all workers get the mean of SEG and F1."""
        score = 0.0
        if self.workers.rank == 0 and self.held_out is not None:
            tiles = held_out_tiles(self.held_out.frames)
            found = scored(self.method, self.predictions(self.held_out, tiles, stage.validated_as(self.networks)))
            self.history.scores(step, found)
            score = mean_of_f1_and_seg(found)
        return self.workers.share(score)

    def predictions(
        self, crops: Crops, tiles: Sequence[tuple[int, Box]], networks: Networks
    ) -> Iterator[tuple[Prediction, Labels]]:
        """Predictions and labels of tiles of held-out frames."""
        how = Inference(device=str(self.device), precision=self.settings.precision, flips=self.settings.test_time_flips)
        return predictions(self.method, networks, crops, tiles, how)

    def save(self, state: loop.State) -> None:
        """Write state and curve, on worker 0; a model that will be replaced keeps its own curve until then."""
        if self.workers.rank == 0:
            fitted = settings_of(self.method)
            self.claim.keep(resume_state.packed(self.description, fitted, state, self.networks, self.history))
            if not self.folder.exists(DESCRIPTION):
                self.draw()

    @property
    def folder(self) -> Folder:
        """The folder of the model."""
        return self.claim.folder

    def draw(self) -> None:
        """Write the curve as CSV and PNG."""
        for name, content in zip(CURVE, (self.history.csv().encode(), self.history.png()), strict=True):
            self.folder.write(name, content)

    def learn(self) -> None:
        """Run the method's schedule."""
        validate = None if self.held_out is None else self.validate
        hooks = loop.Hooks(on_step=self.log, validate=validate, save=self.save, clock=self.clock)
        loop.run(
            self.method.stages(),
            self.networks,
            self.batches,
            settings=self.settings,
            state=self.state,
            workers=self.workers,
            hooks=hooks,
        )

    def calibrate(self) -> tuple[Method, dict[str, float]]:
        """Calibrate thresholds on the held-out frames; return the method and its scores on them."""
        if self.held_out is None:
            return self.method, {}
        crops = self.held_out
        return calibrated(self.method, crops.frames, lambda tiles: self.predictions(crops, tiles, self.networks))

    def save_result(self, pixel_size_um: tuple[float, float] | None, started: float) -> Model:
        """Calibrate thresholds on the held-out frames and save the model."""
        tuned, found = self.calibrate()
        self.history.scores(self.state.step, {f"{name} (tuned)": value for name, value in found.items()})
        summary = {
            "steps": self.state.step,
            "seconds": round(time.monotonic() - started, 1),
            "frames": len(self.data),
            **_checksums(self.seen, self.held_out),
            "validation_frames": 0 if self.held_out is None else len(self.held_out.frames),
            "workers": self.workers.world,
            "start": self.description.get("start"),
            "settings": flat_json(self.settings),
            **({"profile_s": self.clock.seconds} if isinstance(self.clock, Stopwatch) else {}),
            "validation": dict(found),
        }
        networks = {name: network.cpu().eval() for name, network in self.networks.items()}
        model = Model(method=tuned, networks=networks, pixel_size_um=pixel_size_um, training=summary)
        self.claim.check()
        save_model(model, self.folder.url, self.folder.storage_options)
        self.draw()
        self.claim.release()
        return model


def train(
    task: TrainingTask, *, workers: Workers | None = None, claimed: Claim | None = None, on_progress: Progress = silent
) -> Model:
    """Train a method in this process and save the model.

    Parameters
    ----------
    task : TrainingTask
        Method, data, settings and the folder of the model.
    workers : Workers
        This worker's place in a process group that exists already.
    claimed : Claim
        Claim of the folder, if it was claimed before the workers were started.
    on_progress : callable
        Called with stage, steps done and all steps.

    Returns
    -------
    Model
        With fitted thresholds, as saved; on other workers than the first, as before calibration.

    Raises
    ------
    ExistsError
        If the folder holds a model or an unfinished training.
    InputError
        If data and method do not fit, the model to start from has other networks, or the unfinished training was
        another one.
    RunError
        If the loss is not a finite number.
    """
    started = time.monotonic()
    workers = workers or Workers()
    settings = task.settings.counted(len(task.frames), 1 if workers.elastic else workers.world)
    held = claimed or claim(task.folder, resume=task.resume, overwrite=task.overwrite)
    if task.resume and task.folder.exists(DESCRIPTION) and not held.open:
        return finished_model(task, settings, workers)
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // workers.local))
    with nullcontext() if claimed else held.given_up_on_error():
        training = _begun(task, settings, claim=held, workers=workers, on_progress=on_progress)
        training.learn()
        if workers.rank == 0:
            return training.save_result(task.pixel_size_um, started)
        return Model(method=training.method, networks=dict(training.networks), pixel_size_um=task.pixel_size_um)


def finished_model(task: TrainingTask, settings: TrainingSettings, workers: Workers) -> Model:
    """The model of a training that is to be resumed and has ended; InputError if it was another training."""
    method = task.method
    model = load_model(task.output, task.storage_options, trust=[module_of(method.name)])
    held = {**model.training, **model.training.get("settings", {}), "method": model.method.name}
    seen, held_out = _data_of(task, settings, workers)
    asked = {"method": method.name, "frames": len(task.frames), **_checksums(seen, held_out)}
    asked |= flat_json(settings)
    changes = resume_state.changes_between(held, asked, held.keys() & asked.keys())
    if changes:
        raise InputError(
            f"{task.output} holds the finished model of another training ({changes}). "
            "Choose another folder, or replace it with --overwrite."
        )
    return model


def _begun(
    task: TrainingTask, settings: TrainingSettings, *, claim: Claim, workers: Workers, on_progress: Progress
) -> Training:
    """A fresh training, or the interrupted one in the folder; `settings` have the steps of all epochs counted."""
    frames, method = task.frames, task.method
    seen, held_out = _data_of(task, settings, workers, on_progress)
    description = _description(task, settings, workers) | _checksums(seen, held_out)
    earlier = claim.kept()
    fitted = replaced(method, earlier.fitted) if earlier else fitted_to(method, frames, settings, on_progress, seen)
    torch.manual_seed(settings.seed)
    networks = fitted.networks()
    device = device_of(settings.device)
    if task.init_from:
        begin_with(task.init_from, networks)
    if earlier:
        earlier.continue_with(description, networks)
    for network in networks.values():
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.compile:
            network.compile()
    return Training(
        method=fitted,
        networks=networks,
        data=frames,
        seen=seen,
        held_out=held_out,
        settings=settings,
        device=device,
        claim=claim,
        description=description,
        state=earlier.state if earlier else loop.State(),
        history=earlier.history if earlier else History(every=settings.log_every),
        workers=workers,
        on_progress=on_progress,
        clock=Stopwatch(device=device) if settings.profile else no_clock,
    )


def _description(task: TrainingTask, settings: TrainingSettings, workers: Workers) -> dict[str, Any]:
    """Settings and frames of a training: those of a resumed one must be equal, and the checksums of its data."""
    return {
        **{f"method.{name}": value for name, value in settings_of(task.method).items()},
        **{f"training.{name}": value for name, value in flat_json(settings).items()},
        "training.device": device_of(settings.device).type,  # on Ray, "auto" is replaced before
        "method": task.method.name,
        "frames": len(task.frames),
        "planes": repr([getattr(part, "planes", len(part)) for part in [*task.data, *task.validation]]),
        "workers": "any" if workers.elastic else workers.world,
        **({"start": digest(task.init_from)} if task.init_from else {}),
    }


def _data_of(
    task: TrainingTask, settings: TrainingSettings, workers: Workers, on_progress: Progress = silent
) -> tuple[dict[int, Seen], Crops | None]:
    """Read all frames once: statistics of the training frames, and the validation frames with theirs."""
    rule, ignore_label = task.method.intensity, settings.ignore_label
    seen = frame_statistics(task.frames, rule, ignore_label, workers, on_progress)
    held_out = None if task.held_out is None else held_out_crops(task.held_out, task.method, ignore_label, workers)
    return seen, held_out


def _checksums(seen: Mapping[int, Seen], held_out: Crops | None) -> dict[str, str | None]:
    """Checksums of all pixels and labels: a training continues only on the data that it began with."""
    validation = None if held_out is None else held_out.checksum()
    return {"data_checksum": checksum_of(seen), "validation_checksum": validation}


def begin_with(init_from: Model, networks: Mapping[str, nn.Module]) -> None:
    """Put a model's weights into networks; InputError where they do not fit."""
    try:
        restore(networks, tensors(init_from.networks))
    except StoreError as error:
        raise InputError(
            f"The model to start from has other networks than these settings of {init_from.method.name!r} make. "
            "Omit those that change a network's size or parts, such as width and depth."
        ) from error


def check_start(init_from: Model, name: str, method: Method) -> None:
    """Refuse a model of another method than `name`, or one whose networks these settings changed.

    Raises
    ------
    InputError
        With the name of the setting.
    """
    if init_from.method.name != name:
        raise InputError(
            f"The model to start from is of method {init_from.method.name!r}, not {name!r}. Name its method."
        )
    begin_with(init_from, method.networks())


def held_out_crops(frames: Joined, method: Method, ignore_label: int, workers: Workers | None = None) -> Crops:
    """The validation frames, whose statistics are computed once."""
    seen = frame_statistics(frames, method.intensity, ignore_label, workers or Workers())
    return Crops(frames, method.intensity, 0, ignore_label=ignore_label, seen=seen)


def fitted_to(
    method: Method,
    frames: StoredFrames,
    settings: TrainingSettings,
    on_progress: Progress,
    seen: Mapping[int, Seen] | None = None,
) -> Method:
    """Fit the method's statistics on the labels of whole training frames and of the first samples.

    The label `ignore_label` is background.
    """
    samples = Samples(method, frames, settings, seen)

    def whole() -> Iterator[Labels]:
        for index, found in labels_of(frames, settings.ignore_label):
            yield found
            on_progress("prepare", index + 1, len(frames))

    def views() -> Iterator[Labels]:
        count = min(VIEWS, settings.steps * settings.batch_size)
        for i in range(count):
            yield samples.labels(i)
            on_progress("count classes", i + 1, count)

    return method.fit_statistics(whole(), views())
