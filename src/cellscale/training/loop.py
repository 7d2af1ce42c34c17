"""The training loop: the same few lines for every method.

The schedule is data. Step s is a function of the state before it, of (seed, worker) and of the samples of s, so that an
interrupted run continues bit for bit. Networks that rest in an update stay as they are, BatchNorm statistics included.
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
    """Where a training is; with the networks' tensors, all that it takes to go on."""

    stage: int = 0
    """Number of the stage."""
    step: int = 0
    """Steps done, over all stages."""
    begun: int = 0
    """Step at which the stage began."""
    best: float = -math.inf
    """Best validation score of the stage."""
    waited: int = 0
    """Validations since then."""
    optimizers: list[dict[str, Any]] = field(default_factory=list)
    """State of each update's optimizer in this stage; empty at its start."""
    average: Weights = field(default_factory=dict)
    """Running average of the weights over the stage; empty where none is asked for."""
    chosen: Weights = field(default_factory=dict)
    """Weights of the stage's best validation; empty where nothing waits for a better one."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What happens beside the steps."""

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

    Where players take turns, the others' turns come on top: budgets of different methods are then comparable.
    """
    whole = sum(stage.share for stage in stages)
    shares = [0.0, *(sum(stage.share for stage in stages[: i + 1]) / whole for i in range(len(stages)))]
    updates = [round(steps * after) - round(steps * before) for before, after in itertools.pairwise(shares)]
    lengths = [math.ceil(n * stage.batches_per_update) for n, stage in zip(updates, stages, strict=True)]
    return list(itertools.accumulate(lengths))


@contextmanager
def only(networks: Networks, names: tuple[str, ...]) -> Iterator[None]:
    """Let the named networks learn; the others compute as in evaluation and their parameters get no gradients."""
    for name, network in networks.items():
        network.requires_grad_(name in names).train(name in names)
    try:
        yield
    finally:
        for network in networks.values():
            network.requires_grad_(True)


class Player:
    """An update with its optimizer, for the length of one stage."""

    def __init__(self, update: Update, networks: Networks, steps: int) -> None:
        """Make the optimizer of a stage of so many steps."""
        self.update, self.networks = update, networks
        self.steps = max(1, steps)
        self.parameters = [p for name in update.trains for p in networks[name].parameters()]
        self.optimizer = update.optimizer(self.parameters)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def move(
        self, batch: Batch, step: int, settings: TrainingSettings, workers: Workers, clock: Clock = no_clock
    ) -> dict[str, float]:
        """Step once and return the loss terms."""
        factor = settings.rate(self.update.learning_rate, step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with only(self.networks, self.update.trains):
            self.optimizer.zero_grad(set_to_none=True)
            found = [self._gradients(part, settings, clock) for part in parts_of(batch, settings.accumulation_steps)]
        with clock("exchange"):
            workers.average(self.parameters, self._statistics())
        with clock("optimizer"):
            nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm)
            self.optimizer.step()
        return {name: sum(float(terms[name]) for terms in found) / len(found) for name in found[0]}

    def _gradients(self, batch: Batch, settings: TrainingSettings, clock: Clock) -> Terms:
        """Add a part's gradients, and return its terms."""
        with clock("forward"), autocast(batch.image.device.type, settings.precision):
            terms = self.update.loss(self.networks, batch)
        with clock("backward"):
            (torch.stack(list(terms.values())).sum() / settings.accumulation_steps).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in terms.items()}

    def _statistics(self) -> list[Tensor]:
        buffers = [buffer for name in self.update.trains for buffer in self.networks[name].buffers()]
        return [buffer for buffer in buffers if buffer.is_floating_point()]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make torch's random numbers of a step (dropout) a function of seed, step and worker."""
    torch.manual_seed((seed * 1_000_003 + step) * 65_537 + rank)


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
        On the device of the training, with the weights that belong to `state`.
    batches : callable
        From the number of a step to the batches of this step and all later ones.
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
        If a loss is no finite number.
    """
    ends = ends_of(stages, settings.steps)
    steps = iter(batches(state.step))
    while state.stage < len(stages):
        stage = stages[state.stage]
        if stage.fit is not None:
            _fit(stage, networks, itertools.islice(steps, ends[state.stage] - state.step), state, settings, workers)
            state.step = ends[state.stage]
            steps = iter(batches(state.step))
        players = [Player(update, networks, ends[state.stage] - state.begun) for update in stage.updates]
        for player, saved in zip(players, state.optimizers, strict=False):
            player.optimizer.load_state_dict(saved)
        if settings.ema_decay and not state.average:
            state.average = copied(networks)
        patience = settings.patience or stage.patience
        while state.step < ends[state.stage] and not (patience and state.waited >= patience):
            with hooks.clock("data"):
                batch = next(steps)
            _step(stage, players, batch, settings=settings, state=state, workers=workers, hooks=hooks)
            if state.average:
                follow(state.average, networks, settings.ema_decay, state.step - state.begun)
            if state.step % settings.validate_every == 0:
                _validate(stage, players, networks, state=state, hooks=hooks, choose=bool(patience))
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
    """Let worker 0 fit a learner without gradients, and give its result to all."""
    seed_step(settings.seed, state.step, workers.rank)
    if stage.fit is not None and workers.rank == 0:
        stage.fit(networks, batches)
    workers.copy([value for network in networks.values() for value in network.state_dict().values()])


def _step(
    stage: Stage,
    players: list[Player],
    batch: Batch,
    *,
    settings: TrainingSettings,
    state: State,
    workers: Workers,
    hooks: Hooks,
) -> None:
    seed_step(settings.seed, state.step, workers.rank)
    terms: dict[str, float] = {}
    if players:
        batch = replace(batch, progress=min(1.0, (state.step - state.begun) / players[0].steps))
    for player in players:
        if player.update.moves(state.step - state.begun):
            terms |= player.move(batch, state.step - state.begun, settings, workers, hooks.clock)
    if not all(map(math.isfinite, terms.values())):
        raise RunError(f"Step {state.step} of stage {stage.name!r}: the loss is {terms}. Lower the learning rate.")
    state.step += 1
    hooks.on_step(stage.name, state.step, terms)


def _validate(
    stage: Stage, players: list[Player], networks: Networks, *, state: State, hooks: Hooks, choose: bool
) -> None:
    if hooks.validate is not None:
        with holding(networks, state.average):
            score = hooks.validate(stage, state.step)
            if choose and score > state.best:
                state.chosen = copied(networks)
        state.waited = 0 if score > state.best else state.waited + 1
        state.best = max(state.best, score)
    state.optimizers = [player.optimizer.state_dict() for player in players]
    hooks.save(state)


def _next_stage(state: State) -> None:
    state.stage, state.begun = state.stage + 1, state.step
    state.best, state.waited, state.optimizers, state.average, state.chosen = -math.inf, 0, [], {}, {}
