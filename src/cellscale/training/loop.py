"""The training loop, one for all methods.

A method gives its schedule as data: stages follow one another, and in each of them one or more updates repeat, each
with a loss, an optimizer and the networks that it trains. A step takes one batch and applies every update that is
due:

1. freeze the networks that the update does not train, BatchNorm statistics included
2. forward and backward passes, one for each part of the batch (gradient accumulation)
3. average gradients and BatchNorm statistics over the workers
4. clip the gradients and step the optimizer

Step s depends on the state before it, on (seed, s, worker) and on the samples of s alone, so that an interrupted run
continues bit for bit. Shapes: a batch has images (n, c, y, x), labels (n, y, x) and targets (n, y, x) by name; loss
terms are scalars by name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cellscale.errors import RunError
from cellscale.methods.inference import autocast
from cellscale.methods.protocol import Batch, Networks, Stage, Terms, Update
from cellscale.training.profiling import Clock, no_clock
from cellscale.training.samples import parts_of
from cellscale.training.settings import TrainingSettings
from cellscale.training.weight_averaging import Weights, copied, follow, holding, put
from cellscale.training.workers import Workers


@dataclass(kw_only=True)
class State:
    """Position of a training; together with the networks' tensors, everything that resuming needs."""

    stage: int = 0
    """Number of the stage."""
    step: int = 0
    """Number of steps done, over all stages."""
    begun: int = 0
    """Step at which the stage began."""
    best: float = -math.inf
    """Best validation score of the stage."""
    waited: int = 0
    """Number of validations since the best one."""
    optimizers: list[dict[str, Any]] = field(default_factory=list)
    """State of each update's optimizer in this stage; empty at its start."""
    average: Weights = field(default_factory=dict)
    """Exponential moving average of the weights over the stage; empty without `ema_decay`."""
    chosen: Weights = field(default_factory=dict)
    """Weights of the stage's best validation; empty without early stopping."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Callbacks of the training loop."""

    on_step: Callable[[str, int, Mapping[str, float]], None] = lambda stage, step, terms: None
    """Called after each step with the stage's name, the number of steps done and the loss terms."""
    validate: Callable[[Stage, int], float] | None = None
    """Called every `validate_every` steps with the stage and the number of steps done; returns a score, the same on all
    workers."""
    clock: Clock = no_clock
    """Measures data, forward, backward, exchange and optimizer."""
    save: Callable[[State], None] = lambda state: None
    """Called after each validation, and every `validate_every` steps without one."""


def ends_of(stages: tuple[Stage, ...], steps: int) -> list[int]:
    """Batch at which each stage ends: `steps` updates of the networks that predict, by the stages' shares.

    Where updaters take turns, the others' turns come on top: budgets of different methods are then comparable.
    """
    whole = sum(stage.share for stage in stages)
    shares = [0.0, *(sum(stage.share for stage in stages[: i + 1]) / whole for i in range(len(stages)))]
    updates = [round(steps * after) - round(steps * before) for before, after in itertools.pairwise(shares)]
    lengths = [math.ceil(n * stage.batches_per_update) for n, stage in zip(updates, stages, strict=True)]
    return list(itertools.accumulate(lengths))


@contextmanager
def only(networks: Networks, names: tuple[str, ...]) -> Iterator[None]:
    """Train the named networks; freeze the others: evaluation mode, and no gradients for their parameters.

    In evaluation mode BatchNorm uses its running statistics and does not update them, and dropout is off.
    """
    for name, network in networks.items():
        network.requires_grad_(name in names).train(name in names)
    try:
        yield
    finally:
        for network in networks.values():
            network.requires_grad_(True)


class Updater:
    """An update with its optimizer, for the length of one stage."""

    def __init__(self, update: Update, networks: Networks, steps: int) -> None:
        """Make the optimizer for a stage of `steps` steps."""
        self.update, self.networks = update, networks
        self.steps = max(1, steps)
        self.parameters = [p for name in update.trains for p in networks[name].parameters()]
        self.optimizer = update.optimizer(self.parameters)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def step(
        self, batch: Batch, step: int, settings: TrainingSettings, workers: Workers, clock: Clock = no_clock
    ) -> dict[str, float]:
        """Apply the update to a batch and return the loss terms, each the mean over the parts of the batch."""
        # The schedule of the settings (warm-up, cosine) and that of the update scale the optimizer's own rates.
        factor = settings.rate(self.update.learning_rate, step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with only(self.networks, self.update.trains):
            # Each part adds its gradients to those of the parts before it: the sum is that of the whole batch, at the
            # memory of one part.
            self.optimizer.zero_grad(set_to_none=True)
            found = [self._gradients(part, settings, clock) for part in parts_of(batch, settings.accumulation_steps)]
        # Every worker has a batch of its own. With averaged gradients and BatchNorm statistics all of them take the
        # same step, and stay equal without ever exchanging weights.
        with clock("exchange"):
            workers.average(self.parameters, self._statistics())
        with clock("optimizer"):
            # One norm over all parameters of the update, after the exchange: all workers clip by the same factor.
            nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm)
            self.optimizer.step()
        return {name: sum(float(terms[name]) for terms in found) / len(found) for name in found[0]}

    def _gradients(self, batch: Batch, settings: TrainingSettings, clock: Clock) -> Terms:
        """Add the gradients of a part of a batch, (n / accumulation_steps, …), and return its loss terms."""
        with clock("forward"), autocast(batch.image.device.type, settings.precision):
            terms = self.update.loss(self.networks, batch)
        # `terms` are scalars, each a mean over the part. Their sum is divided by the number of parts: the mean over the
        # batch is the mean of the parts' means, as they are equally large. bfloat16 has the exponents of float32, so
        # that no loss scaling is needed.
        with clock("backward"):
            (torch.stack(list(terms.values())).sum() / settings.accumulation_steps).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in terms.items()}

    def _statistics(self) -> list[Tensor]:
        """Running means and variances of BatchNorm in the trained networks; integer buffers only count batches."""
        buffers = [buffer for name in self.update.trains for buffer in self.networks[name].buffers()]
        return [buffer for buffer in buffers if buffer.is_floating_point()]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's random numbers (dropout, noise) by the seed, the step and the worker: resuming repeats them."""
    torch.manual_seed(((seed * 1_000_003 + step) * 65_537 + rank) % 2**63)


def run(
    stages: tuple[Stage, ...],
    networks: Networks,
    batches: Callable[[int], Iterable[Batch]],
    *,
    settings: TrainingSettings,
    state: State,
    workers: Workers,
    hooks: Hooks,
) -> None:
    """Run all stages from `state` on; the networks and the state are changed in place.

    Parameters
    ----------
    stages : tuple of Stage
        The schedule of the method.
    networks : mapping of str to nn.Module
        Networks on the device of the training, with the weights that belong to `state`.
    batches : callable
        Takes the number of a step, and returns the batches of this step and all later ones.
    settings : TrainingSettings
        Steps, precision, clipping, seed.
    state : State
        A fresh one, or that of an interrupted run.
    workers : Workers
        Averages gradients and statistics over the workers.
    hooks : Hooks
        Logging, validation, saving.

    Raises
    ------
    RunError
        If a loss is not finite.
    """
    ends = ends_of(stages, settings.steps)
    steps = iter(batches(state.step))
    while state.stage < len(stages):
        stage = stages[state.stage]
        # Learners without gradients (a forest) take the batches of the whole stage at once. What they leave of them is
        # skipped, so that the next stage begins at its own batch.
        if stage.fit is not None:
            _fit(stage, networks, itertools.islice(steps, ends[state.stage] - state.step), state, settings, workers)
            state.step = ends[state.stage]
            steps = iter(batches(state.step))
        # Optimizers live as long as a stage. A resumed run finds their states in `state`, a fresh one an empty list.
        updaters = [Updater(update, networks, ends[state.stage] - state.begun) for update in stage.updates]
        for updater, saved in zip(updaters, state.optimizers, strict=False):
            updater.optimizer.load_state_dict(saved)
        if settings.ema_decay and not state.average:
            state.average = copied(networks)
        patience = settings.patience or stage.patience
        while state.step < ends[state.stage] and not (patience and state.waited >= patience):
            with hooks.clock("data"):
                batch = next(steps)
            _step(stage, updaters, batch, settings=settings, state=state, workers=workers, hooks=hooks)
            if state.average:
                follow(state.average, networks, settings.ema_decay, state.step - state.begun)
            # Also the moment at which the state is saved: a run resumes after its last validation.
            if state.step % settings.validate_every == 0:
                _validate(stage, updaters, networks, state=state, hooks=hooks, choose=bool(patience))
        # The stage ends with its best weights where it waited for better ones, else with their average, if there is
        # one.
        put(networks, state.chosen or state.average)
        if stage.on_end is not None:
            stage.on_end(networks)
        _next_stage(state)


def _fit(
    stage: Stage,
    networks: Networks,
    batches: Iterable[Batch],
    state: State,
    settings: TrainingSettings,
    workers: Workers,
) -> None:
    """Fit a learner without gradients on worker 0, and copy its result to all workers."""
    seed_step(settings.seed, state.step, workers.rank)
    if stage.fit is not None and workers.rank == 0:
        stage.fit(networks, batches)
    workers.copy([value for network in networks.values() for value in network.state_dict().values()])


def _step(
    stage: Stage,
    updaters: list[Updater],
    batch: Batch,
    *,
    settings: TrainingSettings,
    state: State,
    workers: Workers,
    hooks: Hooks,
) -> None:
    """Apply the updates that are due to one batch, in their order: a later one sees what an earlier one changed."""
    seed_step(settings.seed, state.step, workers.rank)
    terms: dict[str, float] = {}
    if updaters:
        batch = replace(batch, progress=min(1.0, (state.step - state.begun) / updaters[0].steps))
    for updater in updaters:
        if updater.update.is_due(state.step - state.begun):
            terms |= updater.step(batch, state.step - state.begun, settings, workers, hooks.clock)
    if not all(map(math.isfinite, terms.values())):
        raise RunError(f"Step {state.step} of stage {stage.name!r}: the loss is {terms}. Lower the learning rate.")
    state.step += 1
    hooks.on_step(stage.name, state.step, terms)


def _validate(
    stage: Stage, updaters: list[Updater], networks: Networks, *, state: State, hooks: Hooks, choose: bool
) -> None:
    """Validate the averaged weights, if there are any, keep the best ones with `choose`, and save the state."""
    if hooks.validate is not None:
        with holding(networks, state.average):
            score = hooks.validate(stage, state.step)
            if choose and score > state.best:
                state.chosen = copied(networks)
        state.waited = 0 if score > state.best else state.waited + 1
        state.best = max(state.best, score)
    state.optimizers = [updater.optimizer.state_dict() for updater in updaters]
    hooks.save(state)


def _next_stage(state: State) -> None:
    """Move to the next stage, which starts without optimizers, averages and scores."""
    state.stage, state.begun = state.stage + 1, state.step
    state.best, state.waited, state.optimizers, state.average, state.chosen = -math.inf, 0, [], {}, {}
