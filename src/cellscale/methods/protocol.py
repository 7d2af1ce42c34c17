"""The protocol of a method: the interface between a published algorithm and the rest of cellscale.

A method is a frozen dataclass. Its fields are its settings, in JSON's types; it holds no weights and no state.
Training reads `targets`, `networks` and `stages`; a segmentation reads `predict`, `decode` and `merge_objects`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from cellscale.methods.intensity import Intensity
from cellscale.types import Box, Candidates, Fragments, Labels, Reach, Table, Whole

Networks: TypeAlias = Mapping[str, nn.Module]
"""Networks by name, all of them from the start."""
Maps: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays (y, x) by name: targets and weights in training, perfect probabilities in [0, 1]."""
Terms: TypeAlias = dict[str, Tensor]
"""Weighted loss terms by name, each a scalar."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch of training crops, input of a loss."""

    image: Tensor
    """Float, (n, c, y, x), after the intensity rule."""
    labels: Tensor
    """Instance labels, int64, (n, y, x)."""
    targets: Mapping[str, Tensor]
    """Results of `Method.targets`, stacked: (n, y, x) by name."""
    progress: float = 0.0
    """Completed part of the stage, 0 … 1."""
    mean: Callable[[Tensor], Tensor] = lambda value: value
    """Mean over the workers, without gradient; the identity for one worker."""


def constant(progress: float) -> float:
    """Return 1: the learning rate does not change over the stage."""
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Update:
    """One optimizer update: the named networks are trained on one loss; all others are frozen, BatchNorm included."""

    trains: tuple[str, ...]
    """Names of the networks that are trained."""
    loss: Callable[[Networks, Batch], Terms]
    """Weighted terms, each a mean of per-sample losses; their sum is differentiated."""
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    """Called at the start of the stage with the parameters to train."""
    learning_rate: Callable[[float], float] = constant
    """Factor on the optimizer's learning rate as a function of the progress through the stage, 0 to 1."""
    every: int = 1
    """Period of the turns, steps."""
    turn: tuple[int, int] = (0, 1)
    """Steps of the period at which the update is due, half-open: 40 and (20, 40) skip 20 steps, then update at 20."""

    def is_due(self, step: int) -> bool:
        """Return whether the update is due at this step of the stage."""
        return self.turn[0] <= step % self.every < self.turn[1]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training in which the same updates repeat."""

    name: str
    updates: tuple[Update, ...]
    batches_per_update: float = 1.0
    """Batches for each update of the predicting networks, in which the number of training steps is counted; more than 1
    if another network has turns of its own."""
    share: float = 1.0
    """Relative part of all steps; the shares need not add up to 1."""
    patience: int | None = None
    """Stop the stage after this number of validations without a better score; None: never."""
    validated_as: Callable[[Networks], Networks] = lambda networks: networks
    """The networks with which validation predicts during the stage: a stage must not be scored by networks that only
    a later one trains."""
    on_end: Callable[[Networks], None] | None = None
    """Called once at the end, e.g. one network copied into a frozen other."""
    fit: Callable[[Networks, Iterable[Batch]], None] | None = None
    """For learners without gradients: replaces the updates. It runs on worker 0, reads up to the stage's number of
    batches, and its result is copied to the other workers."""


class Method(Protocol):
    """One published way from an image to instance labels."""

    @property
    def name(self) -> str:
        """The name on the command line."""
        ...

    @property
    def paper(self) -> str:
        """Authors, title, year."""
        ...

    @property
    def summary(self) -> str:
        """One line for `cellscale methods`."""
        ...

    @property
    def join(self) -> Literal["links", "anchors"]:
        """Rule by which fragments of one cell are merged across tiles."""
        ...

    @property
    def whole(self) -> Whole:
        """Whether labels equal those of one window over the whole frame, depend on windows, or on tiles as well."""
        ...

    @property
    def channels(self) -> int:
        """Number of image channels."""
        ...

    @property
    def intensity(self) -> Intensity:
        """Rule of the whole frame, never of a tile."""
        ...

    @property
    def reaches(self) -> Reach:
        """Radii of prediction and decoding; methods compute them once (`functools.cached_property`)."""
        ...

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps that `predict` returns and `decode` reads; empty for candidates."""
        ...

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Return the method with the statistics of the training data (class counts, τ …) as settings.

        `frames` are the labels of whole frames, `views` those of crops as training sees them, augmented; None: the
        frames. Either is read at most once, and only to fit settings that the user has not set.
        """
        ...

    def targets(self, labels: Labels) -> Maps:
        """Targets and weight maps of an augmented crop; pure, on the CPU."""
        ...

    def networks(self) -> dict[str, nn.Module]:
        """All networks, freshly initialised from torch's generator."""
        ...

    def stages(self) -> tuple[Stage, ...]:
        """The schedule as data."""
        ...

    def predict(self, networks: Networks, windows: Tensor) -> Mapping[str, Tensor] | list[Candidates]:
        """Probabilities in [0, 1], (n, y, x) by name, of windows (n, c, y, x); or the candidates of each window."""
        ...

    def decode(self, prediction: Any, valid: Box, /) -> Fragments:
        """Fragments of the valid box from the maps or candidates of a wider region; pure, on the CPU, in whole numbers.

        `valid` is in the coordinates of the given region.
        """
        ...

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Decide about whole objects of one frame: entry i is the object that i joins (i: it stays), or −1: dropped."""
        ...

    def calibrate(self, pairs: Iterable[tuple[Any, Labels]]) -> Self:
        """Return the method with thresholds and size limits fitted on validation frames."""
        ...

    def perfect_prediction(self, labels: Labels) -> Maps | Candidates:
        """The perfect prediction: floats in [0, 1] by name, or candidates."""
        ...
