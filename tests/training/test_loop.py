from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellscale.errors import InputError, RunError
from cellscale.methods.protocol import Batch, Networks, Stage, Terms, Update
from cellscale.training import loop
from cellscale.training.loop import Hooks, State, ends_of
from cellscale.training.profiling import Stopwatch
from cellscale.training.settings import TrainingSettings
from cellscale.training.workers import Workers

SETTINGS = TrainingSettings(steps=8, validate_every=2, threads=1, precision="fp32")


def networks() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        name: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Dropout2d(0.3), nn.Conv2d(2, 1, 1))
        for name in ("maker", "critic")
    }


def batches(first: Any) -> Iterator[Any]:
    """The batches of a step and all later ones."""
    for step in itertools.count(first):
        image = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        yield Batch(image=image, labels=torch.zeros(2, 8, 8, dtype=torch.int64), targets={})


def loss_of(*path: str) -> Callable[[Networks, Batch], Terms]:
    """A loss that passes through networks in series."""

    def loss(nets: Networks, batch: Batch) -> Terms:
        values = batch.image
        for name in path:
            values = nets[name](values)
        return {"+".join(path): ((values - 1) ** 2).mean()}

    return loss


def adam(parameters: Any) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=0.01)


def update(*path: Any, trains: Any, **options: Any) -> Update:
    return Update(trains=trains, loss=loss_of(*path), optimizer=adam, **options)


ONE = (Stage(name="one", updates=(update("maker", trains=("maker",)),)),)
TWO = (
    Stage(name="plain", updates=(update("maker", trains=("maker",)),), share=1),
    Stage(
        name="both",
        updates=(update("critic", trains=("critic",), every=2), update("maker", "critic", trains=("maker",))),
        share=3,
    ),
)


def run(stages: Any, nets: dict[str, Any], *, settings: Any = SETTINGS, state: Any = None, hooks: Any = None) -> Any:
    state = state or State()
    loop.run(stages, nets, batches, settings=settings, state=state, workers=Workers(), hooks=hooks or Hooks())
    return state


def tensors(nets: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value.clone() for name, n in nets.items() for key, value in n.state_dict().items()}


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(value, second[key]) for key, value in first.items())


def test_stages_share_the_steps() -> None:
    assert ends_of(TWO, 8) == [2, 8]
    assert ends_of(ONE, 5) == [5]
    thirds = tuple(Stage(name=str(i), updates=()) for i in range(3))
    assert ends_of(thirds, 100) == [33, 67, 100]


def test_a_budget_counts_the_updates_of_the_networks_that_predict() -> None:
    """Updates that take turns need more batches."""
    turns = [
        update("maker", trains=("maker",), every=3, turn=(0, 1)),
        update("critic", trains=("critic",), every=3, turn=(1, 3)),
    ]
    stages = (ONE[0], Stage(name="game", updates=tuple(turns), batches_per_update=3))
    assert ends_of(stages, 8) == [4, 16]
    log = []
    settings = dataclasses.replace(SETTINGS, steps=8)
    run(stages, networks(), settings=settings, hooks=Hooks(on_step=lambda stage, step, terms: log.append([*terms])))
    assert log.count(["maker"]) == 8
    assert log.count(["critic"]) == 8


def test_losses_see_the_progress_of_their_stage() -> None:
    seen = []

    def watched(nets: Networks, batch: Batch) -> Terms:
        seen.append(batch.progress)
        return loss_of("maker")(nets, batch)

    one = dataclasses.replace(ONE[0].updates[0], loss=watched)
    stages = tuple(Stage(name=name, updates=(one,)) for name in "ab")
    run(stages, networks(), settings=dataclasses.replace(SETTINGS, steps=8))
    assert seen == [0, 0.25, 0.5, 0.75] * 2


def test_each_step_logs_its_stage_and_terms() -> None:
    log = []
    run(TWO, networks(), hooks=Hooks(on_step=lambda stage, step, terms: log.append((stage, step, sorted(terms)))))
    assert log[:3] == [("plain", 1, ["maker"]), ("plain", 2, ["maker"]), ("both", 3, ["critic", "maker+critic"])]
    assert [terms for _, _, terms in log[3:]] == [["maker+critic"], ["critic", "maker+critic"]] * 2 + [["maker+critic"]]


def test_a_training_lowers_its_loss() -> None:
    log = []
    settings = dataclasses.replace(SETTINGS, steps=60)
    run(ONE, networks(), settings=settings, hooks=Hooks(on_step=lambda stage, step, terms: log.append(terms["maker"])))
    assert np.mean(log[-10:]) < 0.5 * np.mean(log[:10])


def test_resting_networks_stay_bit_equal_though_gradients_pass_through_them() -> None:
    nets = networks()
    before = tensors({"critic": nets["critic"]})
    (player_of_judge, player_of_maker) = TWO[1].updates
    loop.Updater(player_of_maker, nets, 4).step(next(batches(0)), 0, SETTINGS, Workers())
    assert same(before, tensors({"critic": nets["critic"]}))
    maker = tensors({"maker": nets["maker"]})
    loop.Updater(player_of_judge, nets, 4).step(next(batches(0)), 0, SETTINGS, Workers())
    assert same(maker, tensors({"maker": nets["maker"]}))
    assert not same(before, tensors({"critic": nets["critic"]}))


OTHER = dataclasses.replace(SETTINGS, ema_decay=0.9, patience=2, schedule="cosine", warmup=2)
SCORES = {2: 0.1, 4: 0.5, 6: 0.2, 8: 0.3}
"""Validation scores by step: the best one is not the last."""


def score_of(stage: Any, step: int) -> float:
    return SCORES[step]


@pytest.mark.parametrize("settings", [SETTINGS, OTHER])
@pytest.mark.parametrize("stages", [ONE, TWO])
def test_an_interrupted_run_continues_bit_for_bit(stages: Any, settings: Any) -> None:
    whole = networks()
    kept = []

    def keep(state: Any) -> None:
        kept.append((State(**copied(vars(state))), tensors(whole)))

    run(stages, whole, settings=settings, hooks=Hooks(save=keep, validate=score_of))
    assert [state.step for state, _ in kept] == [2, 4, 6, 8]
    for state, values in kept[:3]:
        nets = networks()
        for name, network in nets.items():
            network.load_state_dict({k.removeprefix(f"{name}."): v for k, v in values.items() if k.startswith(name)})
        run(stages, nets, settings=settings, state=state, hooks=Hooks(validate=score_of))
        assert same(tensors(whole), tensors(nets))


def scored(step: int) -> float:
    """Score of a validation, by step."""
    return SCORES[step]


def copied(states: Any) -> Any:
    """What a file would hold."""
    clone = torch.utils._pytree.tree_map
    return clone(lambda value: value.clone() if isinstance(value, torch.Tensor) else value, states)


def test_the_average_is_validated_and_kept() -> None:
    nets, moved = networks(), [tensors(networks())]
    seen: list[dict[str, Tensor]] = []

    def validate(stage: Stage, step: int) -> float:
        seen.append(tensors(nets))
        return 0.0

    hooks = Hooks(on_step=lambda *_: moved.append(tensors(nets)), validate=validate)
    run(ONE, nets, settings=dataclasses.replace(SETTINGS, ema_decay=0.5), hooks=hooks)
    wanted = moved[0]["maker.0.weight"]
    for step, values in enumerate(moved[1:], 1):
        wanted = wanted + (1 - min(0.5, (1 + step) / (10 + step))) * (values["maker.0.weight"] - wanted)
        if step % SETTINGS.validate_every == 0:
            torch.testing.assert_close(seen[step // 2 - 1]["maker.0.weight"], wanted)
    assert same(tensors(nets), seen[-1])
    assert same({"critic.0.weight": nets["critic"][0].weight}, moved[0])
    assert int(nets["maker"][1].num_batches_tracked) == 8


def test_an_average_does_not_change_what_is_learned() -> None:
    logs: list[list[Mapping[str, float]]] = []
    for settings in (SETTINGS, dataclasses.replace(SETTINGS, ema_decay=0.9)):
        log: list[Mapping[str, float]] = []
        hooks = Hooks(on_step=lambda stage, step, terms: log.append(terms), validate=lambda *_: 0.0)  # noqa: B023
        run(ONE, networks(), settings=settings, hooks=hooks)
        logs.append(log)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_a_stage_that_waits_for_better_scores_ends_with_the_best(average: Any) -> None:
    nets, seen = networks(), {}

    def validate(stage: Any, step: int) -> float:
        seen[step] = tensors(nets)
        return SCORES[step]

    state = run(
        ONE, nets, settings=dataclasses.replace(SETTINGS, patience=5, ema_decay=average), hooks=Hooks(validate=validate)
    )
    assert state.step == 8
    assert same(seen[4], tensors(nets))
    assert not same(seen[8], tensors(nets))


def test_the_settings_patience_ends_a_stage() -> None:
    settings = dataclasses.replace(SETTINGS, steps=20, patience=2)
    assert run(ONE, networks(), settings=settings, hooks=Hooks(validate=lambda stage, step: -step)).step == 6


def test_a_schedule_of_the_settings_replaces_the_methods_own() -> None:
    settings = dataclasses.replace(SETTINGS, schedule="cosine", warmup=3)
    found = [settings.rate(lambda progress: 0.0, step, 10) for step in range(11)]
    cosine = [(1 + np.cos(np.pi * step / 10)) / 2 for step in range(11)]
    assert found == pytest.approx([cosine[0] / 4, cosine[1] / 2, cosine[2] * 0.75, *cosine[3:]])
    assert SETTINGS.rate(lambda progress: 1 - progress, 5, 10) == 0.5


def test_the_rate_may_fall_every_few_epochs() -> None:
    settings = dataclasses.replace(SETTINGS, schedule="step", decay_epochs=3.0, decay_factor=0.1).counted(10, 1)
    assert settings.steps_per_epoch == math.ceil(10 / SETTINGS.batch_size)
    length = 3 * settings.steps_per_epoch
    found = [settings.rate(lambda progress: 1.0, step, 1000) for step in (0, length - 1, length, 2 * length)]
    assert found == pytest.approx([1, 1, 0.1, 0.01])


def test_epochs_are_counted_in_training_frames() -> None:
    settings = dataclasses.replace(SETTINGS, steps=7, batch_size=4)
    assert settings.counted(10, 1).steps == 7
    assert dataclasses.replace(settings, epochs=2.5).counted(10, 1).steps == 8
    assert dataclasses.replace(settings, epochs=2.5).counted(10, 2).steps == 5
    assert dataclasses.replace(settings, epochs=1, steps_per_epoch=30).counted(10, 2).steps == 30


def test_steps_of_a_later_section_win_over_epochs_of_an_earlier_one() -> None:
    preset: dict[str, object] = {"epochs": 1000.0, "crop": 64}
    counted = {
        (): (2500, 1000.0),
        ("steps",): (9, 0.0),
        ("epochs",): (2500, 3.0),
        ("steps", "epochs"): (9, 3.0),
    }
    for names, expected in counted.items():
        found = TrainingSettings().updated(preset, {name: {"steps": 9, "epochs": 3.0}[name] for name in names})
        assert (found.steps, found.epochs) == expected
        assert found.crop == 64


def test_the_rate_follows_the_progress_through_the_stage() -> None:
    rates = []

    def watched(parameters: Any) -> torch.optim.SGD:
        optimizer = torch.optim.SGD(parameters, lr=2.0)
        optimizer.register_step_pre_hook(lambda o, args, kwargs: rates.append(o.param_groups[0]["lr"]))
        return optimizer

    half = Update(trains=("maker",), loss=loss_of("maker"), optimizer=watched, learning_rate=lambda p: 1 - p)
    run((Stage(name="one", updates=(half,)),), networks(), settings=dataclasses.replace(SETTINGS, steps=4))
    assert rates == [2.0, 1.5, 1.0, 0.5]


def test_patience_ends_a_stage_and_the_next_one_begins() -> None:
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9, 0.9, 0.9])
    stages = (dataclasses.replace(ONE[0], patience=2), dataclasses.replace(ONE[0], name="next"))
    log = []
    settings = dataclasses.replace(SETTINGS, steps=24)
    hooks = Hooks(on_step=lambda stage, step, terms: log.append(stage), validate=lambda stage, step: next(scores, 1.0))
    run(stages, networks(), settings=settings, hooks=hooks)
    assert log.count("one") == 8
    assert log.count("next") == 16


def test_something_happens_at_the_end_of_a_stage() -> None:
    def copy(nets: Networks) -> None:
        nets["critic"].load_state_dict(nets["maker"].state_dict())

    nets = networks()
    run((dataclasses.replace(ONE[0], on_end=copy),), nets)
    assert torch.equal(nets["critic"][0].weight, nets["maker"][0].weight)


def test_a_learner_without_gradients_gets_the_stages_batches() -> None:
    seen: list[Batch] = []
    stage = Stage(name="forest", updates=(), fit=lambda nets, data: seen.extend(data))
    assert run((stage, *ONE), networks()).step == 8
    assert len(seen) == 4


def look(count: int, nets: Networks, data: Iterable[Batch]) -> None:
    """Fit nothing; ask for so many batches."""
    for _ in itertools.islice(data, count):
        pass


def test_what_a_learner_leaves_of_its_batches_is_not_seen_by_the_next_stage() -> None:
    whole, hasty = networks(), networks()
    for nets, count in ((whole, 4), (hasty, 1)):
        run((Stage(name="fit", updates=(), fit=partial(look, count)), *ONE), nets)
    assert same(tensors(whole), tensors(hasty))


def test_updates_take_turns_of_several_steps() -> None:
    log: list[str] = []
    turns = (
        update("maker", trains=("maker",), every=5, turn=(0, 2)),
        update("critic", trains=("critic",), every=5, turn=(2, 5)),
    )
    run((Stage(name="game", updates=turns),), networks(), hooks=Hooks(on_step=lambda _, step, terms: log.extend(terms)))
    assert log == ["maker", "maker", "critic", "critic", "critic", "maker", "maker", "critic"]


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    broken = Update(
        trains=("maker",), loss=lambda nets, batch: {"bad": nets["maker"](batch.image).mean() / 0}, optimizer=adam
    )
    with pytest.raises(RunError, match=r"Step 0 of stage 'one': the loss is \{'bad': .*Lower the learning rate"):
        run((Stage(name="one", updates=(broken,)),), networks())


def test_gradients_are_clipped() -> None:
    nets = networks()
    before = nets["maker"][3].bias.clone()
    plain = Update(
        trains=("maker",),
        loss=lambda nets, batch: {"huge": 1e6 * nets["maker"](batch.image).mean()},
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
    )
    loop.Updater(plain, nets, 1).step(next(batches(0)), 0, dataclasses.replace(SETTINGS, max_grad_norm=0.5), Workers())
    assert 0 < float((nets["maker"][3].bias - before).abs().detach()) <= 0.5


def test_a_batch_in_parts_moves_as_a_whole_one() -> None:
    nets, others = networks(), networks()
    for some in (nets, others):  # neither drops features nor normalises over the batch
        some["maker"] = nn.Sequential(some["maker"][0], some["maker"][3])
    batch = next(batches(0))
    wide = dataclasses.replace(batch, image=torch.cat([batch.image, batch.image.flip(2)]))
    wide = dataclasses.replace(wide, labels=torch.zeros(4, 8, 8, dtype=torch.int64))
    terms = [
        loop.Updater(ONE[0].updates[0], some, 8).step(
            wide, 0, dataclasses.replace(SETTINGS, accumulation_steps=count), Workers()
        )
        for some, count in ((nets, 1), (others, 2))
    ]
    assert terms[0] == pytest.approx(terms[1])
    gradients = [some["maker"][0].weight.grad for some in (nets, others)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_parts_must_be_of_equal_size() -> None:
    with pytest.raises(InputError, match="'accumulation_steps' is 3; expected a divisor of batch_size, 4"):
        dataclasses.replace(SETTINGS, accumulation_steps=3)


def test_a_clock_tells_where_the_time_went() -> None:
    clock = Stopwatch(device=torch.device("cpu"))
    run(TWO, networks(), hooks=Hooks(clock=clock))
    assert set(clock.seconds) == {"data", "forward", "backward", "exchange", "optimizer"}
    assert all(seconds > 0 for seconds in clock.seconds.values())
