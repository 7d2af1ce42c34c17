"""The arguments of a training as one value: a method, its data, its settings and the folder of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cellscale.methods.protocol import Method
from cellscale.models.model import Model
from cellscale.storage.folder import Folder
from cellscale.training.frames import Frames, Joined, check_data
from cellscale.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """Arguments of a training; made by the API, passed unchanged to driver and workers."""

    method: Method
    """Networks, losses and decoding."""
    data: Sequence[Frames]
    """Images (c, y, x) with instance labels (y, x)."""
    validation: Sequence[Frames] = ()
    """Held-out frames: scored during the training and used to calibrate thresholds at the end."""
    output: str
    """Folder of the model, any fsspec URL."""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Options for fsspec; they may hold credentials and are never printed."""
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    """Steps, crops, augmentation …"""
    init_from: Model | None = None
    """Model with the initial weights; None: weights drawn from the seed."""
    resume: bool = False
    """Continue an unfinished training in `output`, bit for bit; a finished one is returned as it is."""
    overwrite: bool = False
    """Replace a model or training in `output`."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel, µm."""

    @property
    def folder(self) -> Folder:
        """The folder of the model."""
        return Folder(url=self.output, storage_options=self.storage_options)

    @cached_property
    def checked(self) -> tuple[Joined, Joined | None]:
        """The training frames and the held-out frames, if there are any: checked once, then carried to all workers.

        Raises
        ------
        InputError
            If data and method do not fit, or there is no cell.
        """
        return check_data(self.data, self.validation, self.method.channels, self.settings.ignore_label)

    def check(self) -> None:
        """Raise InputError if data and method do not fit, before a worker is asked for."""
        _ = self.checked

    @property
    def frames(self) -> Joined:
        """The training frames of all data sets."""
        return self.checked[0]

    @property
    def held_out(self) -> Joined | None:
        """The held-out frames of all data sets."""
        return self.checked[1]
