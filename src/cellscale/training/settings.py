"""Settings of a training that are no method's."""

from __future__ import annotations

from dataclasses import dataclass, field

from cellscale.errors import InputError
from cellscale.methods.inference import Precision
from cellscale.training.augment import Augmentation


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long, on what and how a training learns."""

    steps: int = 2500
    """Number of steps of all stages together."""
    batch_size: int = 4
    """Samples of each worker in a step."""
    crop: int = 256
    """Side of a sample, px; rounded up to the method's multiple."""
    margin: int = 32
    """Rim around a sample in which targets see the cells that it cuts, px."""
    seed: int = 0
    """All samples and first weights follow from it."""
    validate_every: int = 500
    """Steps between two validations; each also saves the training's state."""
    clip: float = 10.0
    """Longest gradient."""
    precision: Precision = "auto"
    """Arithmetic of the networks; auto: bf16 where the processor has it."""
    device: str = "auto"
    """Where the networks run: cpu, cuda; auto: cuda where there is one."""
    threads: int = 0
    """Threads of the arithmetic of one worker; 0: its share of the machine's processors."""
    loader_workers: int = 1
    """Processes that prepare samples for one worker; 0: none, the training waits for each sample."""
    cache_mb: int = 1024
    """Decoded frames kept by each of these processes, MB."""
    log_every: int = 10
    """Steps whose mean losses make one point of the curve."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        least = {"steps": self.steps, "batch_size": self.batch_size, "crop": self.crop}
        least |= {"validate_every": self.validate_every, "log_every": self.log_every}
        for name, value in least.items():
            if value < 1:
                raise InputError(f"Setting {name!r} is {value}; expected at least 1.")
        if min(self.threads, self.loader_workers, self.margin) < 0:
            raise InputError("Settings 'threads', 'loader_workers' and 'margin' are at least 0.")
