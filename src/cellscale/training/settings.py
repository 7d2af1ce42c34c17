"""Settings of a training that do not belong to a method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cellscale.errors import InputError
from cellscale.methods.inference import Precision, check_device
from cellscale.methods.parts.optimizers import half_cosine
from cellscale.settings.fields import replaced
from cellscale.training.augment import Augmentation

MOST_SEEDS = 2**31
"""Number of seeds: what follows from one, a step and a worker are numbers of 64 bits for the generators."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of a training: length, samples, optimization and hardware."""

    steps: int = 2500
    """Number of updates of the networks that predict, over all stages; the turns of an adversary come on top."""
    epochs: float = 0.0
    """The same in epochs, as many samples as there are training frames; it replaces `steps`; 0: `steps` holds."""
    steps_per_epoch: int = 0
    """Steps of an epoch; 0: training frames over the samples of a step, rounded up."""
    batch_size: int = 4
    """Samples of each worker in a step."""
    accumulation_steps: int = 1
    """Number of micro-batches for each step (gradient accumulation): less memory, same mean loss."""
    crop: int = 256
    """Side of a sample, px; rounded up to the method's multiple."""
    margin: int = 32
    """Margin around a sample in which targets take the cells that it cuts into account, px."""
    foreground_fraction: float = 0.0
    """Share of the samples that are drawn around a random pixel of a cell: for frames that are nearly empty."""
    seed: int = 0
    """All samples and first weights follow from it."""
    validate_every: int = 500
    """Steps between two validations; each also saves the training's state."""
    patience: int = 0
    """Number of validations without gain after which a stage ends, with its best weights; 0: the method's default."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of the weights, e.g. 0.999, which is validated and saved; 0: none."""
    schedule: Literal["method", "cosine", "step"] = "method"
    """Schedule of the learning rate over a stage: the method's, to 0 along half a cosine, or by `decay_factor`
    every `decay_epochs` epochs."""
    decay_epochs: float = 3.0
    """Epochs after which the learning rate falls (schedule = step)."""
    decay_factor: float = 0.1
    """Factor on the learning rate then (schedule = step)."""
    warmup: int = 0
    """Steps at a stage's beginning in which the learning rate grows from 0."""
    test_time_flips: bool = False
    """Predict the mean over a frame's four flips in validation and tuning, as a segmentation with this setting does."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this norm."""
    precision: Precision = "auto"
    """Arithmetic of the networks; auto: bf16 where the processor has it."""
    compile: bool = False
    """Whether to compile the networks with torch.compile; changes rounding, and takes minutes at the start."""
    profile: bool = False
    """Whether `model.json` records the times of the parts of the training."""
    device: str = "auto"
    """Device of the networks: cpu, cuda, mps; auto: a GPU where this process, or a node of the cluster, has one."""
    threads: int = 0
    """Threads of the arithmetic of one worker; 0: its share of the machine's processors."""
    loader_workers: int = 1
    """Processes that prepare samples for one worker; 0: none, the training waits for each sample."""
    dataset_weights: tuple[float, ...] = ()
    """Relative part of the samples from each data set, in their order; empty: as many as it has frames."""
    same_scale: bool = False
    """Whether all samples have the pixel size of the first data set; else pixels are taken as they are."""
    ignore_label: int = 0
    """Label of pixels that were not annotated: ignored in training and scoring; 0: no such label."""
    cache_mb: int = 1024
    """Decoded frames kept by each of these processes, MB."""
    log_every: int = 10
    """Steps whose mean losses make one point of the curve."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        least = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "crop": self.crop,
            "accumulation_steps": self.accumulation_steps,
        }
        least |= {"validate_every": self.validate_every, "log_every": self.log_every}
        for name, value in least.items():
            if value < 1:
                raise InputError(f"Setting {name!r} is {value}; expected at least 1.")
        counts = (
            "threads",
            "loader_workers",
            "margin",
            "patience",
            "warmup",
            "ignore_label",
            "epochs",
            "steps_per_epoch",
        )
        for name in counts:
            if getattr(self, name) < 0:
                raise InputError(f"Setting {name!r} is {getattr(self, name)}; expected at least 0.")
        if not 0 <= self.seed < MOST_SEEDS:
            raise InputError(f"Setting 'seed' is {self.seed}; expected at least 0 and below {MOST_SEEDS}.")
        check_device(self.device)
        if self.decay_epochs <= 0 or not 0 < self.decay_factor <= 1:
            raise InputError(
                f"Settings 'decay_epochs' and 'decay_factor' are {self.decay_epochs} and {self.decay_factor}; expected "
                "more than 0, and the factor at most 1."
            )
        if self.batch_size % self.accumulation_steps:
            raise InputError(
                f"Setting 'accumulation_steps' is {self.accumulation_steps}; expected a divisor of batch_size, "
                f"{self.batch_size}."
            )
        if not 0 <= self.foreground_fraction <= 1:
            raise InputError(
                f"Setting 'foreground_fraction' is {self.foreground_fraction}; expected a share from 0 to 1."
            )
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"Setting 'ema_decay' is {self.ema_decay}; expected 0, or a decay such as 0.999.")

    def updated(self, *sections: Mapping[str, Any]) -> TrainingSettings:
        """Change settings by name, one section after the other, e.g. a preset's, then a file's.

        A section that names `steps` and not `epochs` turns off the epochs of the sections before it.
        """
        settings = self
        for section in sections:
            settings = replaced(settings, {**({"epochs": 0.0} if "steps" in section else {}), **section})
        return settings

    def counted(self, frames: int, workers: int) -> TrainingSettings:
        """Convert epochs to steps, for this number of training frames."""
        epoch = self.steps_per_epoch or math.ceil(frames / (self.batch_size * workers))
        steps = max(1, math.ceil(self.epochs * epoch)) if self.epochs else self.steps
        return replace(self, steps=steps, steps_per_epoch=epoch)

    def rate(self, own: Callable[[float], float], step: int, steps: int) -> float:
        """Factor on the learning rate at a step of a stage of `steps` steps; `own` is the method's schedule."""
        progress = min(1.0, step / steps)
        if self.schedule == "step":
            factor = self.decay_factor ** math.floor(step / (self.decay_epochs * max(1, self.steps_per_epoch)))
        else:
            factor = own(progress) if self.schedule == "method" else half_cosine(progress)
        return factor * min(1.0, (step + 1) / (self.warmup + 1))
