from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellscale.errors import InputError, RunError
from cellscale.methods import load_method
from cellscale.methods.inference import stored
from cellscale.methods.parts.contour_classes import contour_classes
from cellscale.methods.protocol import Batch
from cellscale.methods.rib_cage import Agreement, inner, one_hot, patches, refuse_collapse
from cellscale.networks.rib_cage import BEFORE, BEHIND, ClassificationNetwork, Estimator, RibCageNetwork
from cellscale.testing.cases import FRAMES
from cellscale.testing.conformance import QUICK
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.tiling.windows import Windows, mirrored
from cellscale.training.loop import ends_of, only
from cellscale.training.run import train
from cellscale.training.task import TrainingTask
from cellscale.training.weight_averaging import copied
from tests.support.variants import GAME

TRAINED = dataclasses.replace(QUICK, steps=60, batch_size=2, crop=53)


def convolutions(network: Any) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]


def test_the_estimator_turns_85_pixels_into_64() -> None:
    network = Estimator(1, 3, 16)
    assert network(torch.zeros(1, 1, 85, 85)).shape == (1, 3, 64, 64)
    assert [(layer.kernel_size[0], layer.out_channels) for layer in convolutions(network)] == [
        (9, 16),
        (7, 32),
        (5, 64),
        (4, 64),
        (1, 3),
    ]


def test_an_estimate_looks_10_pixels_up_and_left_and_11_down_and_right() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 60, 60, dtype=torch.float64, requires_grad=True)
    Estimator(1, 3, 4).double().eval()(image)[0, :, 30 - BEFORE, 25 - BEFORE].sum().backward()
    assert image.grad is not None
    rows, columns = (image.grad[0, 0] != 0).nonzero().T
    assert (30 - int(rows.min()), int(rows.max()) - 30) == (BEFORE, BEHIND) == (10, 11)
    assert (25 - int(columns.min()), int(columns.max()) - 25) == (10, 11)


def test_a_budget_is_the_estimators_and_noise_falls() -> None:
    method: Any = load_method("ribcage", estimator_steps=2, discriminator_steps=3)
    (stage,) = method.stages()
    assert ends_of((stage,), 100) == [250]
    assert sum(stage.updates[0].is_due(step) for step in range(250)) == 100
    game = method.training.game
    assert [game.noise_at(progress) for progress in (0, 0.5, 1)] == pytest.approx([0.5, 0.3, 0.1])
    assert dataclasses.replace(game, final_noise=-1.0).noise_at(1) == 0.5


def windowed(
    method: Any, networks: dict[str, Any], image: NDArray[Any], core: int, reach: int
) -> dict[Any, NDArray[np.uint8]]:
    """Stored maps of a frame (y, x), made window by window."""
    windows = Windows(shape=image.shape, core=core, multiple=method.reaches.multiple, reach=reach)
    whole = {name: np.zeros(image.shape, np.uint8) for name in method.maps}
    for number in range(len(windows)):
        box, part = windows.window_box(number), windows.core_box(number)
        rows, columns = mirrored(box.y0, box.y1, image.shape[0]), mirrored(box.x0, box.x1, image.shape[1])
        seen = torch.from_numpy(image[rows[:, None], columns])[None, None]
        with torch.inference_mode():
            (maps,) = stored(method.predict(networks, seen))
        for name, values in maps.items():
            whole[name][part.slices] = values[part.within(box).slices]
    return whole


def test_tiles_and_windows_give_the_labels_of_the_whole_frame(tmp_path: Path) -> None:
    model = train(
        TrainingTask(method=load_method("ribcage-ce", width=4), data=[FRAMES], output=str(tmp_path), settings=TRAINED)
    )
    method, networks = model.method, {name: network.double() for name, network in model.networks.items()}
    image = np.concatenate([frame[0, :, :57] for frame, _ in FRAMES]) / 255.0
    whole = windowed(method, networks, image, max(image.shape), method.reaches.reach)
    expected = whole_frame(method, whole)
    assert expected.max() > 10
    for core in (16, 41):
        maps = windowed(method, networks, image, core, method.reaches.reach)
        assert all(np.array_equal(maps[name], whole[name]) for name in whole)
        assert np.array_equal(tiled_frame(method, maps, core + 3), expected)
        narrow = windowed(method, networks, image, core, method.reaches.reach - 1)
        assert any(not np.array_equal(narrow[name], whole[name]) for name in whole)


def test_a_frame_narrower_than_the_reach_is_predicted() -> None:
    method: Any = load_method("ribcage-ce", width=4)
    networks = {name: network.eval() for name, network in method.networks().items()}
    assert method.predict(networks, torch.zeros(1, 1, 5, 30))["cell"].shape == (1, 5, 30)


def test_the_printed_list_is_read_in_two_ways() -> None:
    def features(ribs: int, closing: bool) -> Any:
        network: Any = RibCageNetwork(1, 3, 64, ribs=ribs, width=64, closing=closing)
        assert network(torch.zeros(2, 1, 64, 64), torch.zeros(2, 3, 64, 64)).shape == (2,)
        blocks = [[part[1].out_channels for part in (b.image, b.segmentation, b.spine)] for b in network.blocks]
        return blocks, [layer.out_channels for layer in convolutions(network.close)], network

    of_ribs, close, network = features(8, True)
    assert of_ribs == [[8, 8, 4], [32, 32, 16], [64, 64, 32]]
    assert close == [64]
    assert [layer.out_features for layer in network.score if isinstance(layer, torch.nn.Linear)] == [64, 64, 1]
    of_spine, close, _ = features(16, False)
    assert of_spine == [[16, 16, 8], [64, 64, 32], [128, 128, 64]]
    assert close == []
    for printed, ribs in (("ribs", 8), ("spine", 16)):
        discriminator: Any = load_method("ribcage", printed=printed).networks()["discriminator"]
        assert discriminator.blocks[0].image[1].out_channels == ribs


def test_the_spine_sees_both_ribs_and_a_rib_sees_itself_alone() -> None:
    network: Any = RibCageNetwork(1, 3, 16, ribs=4, width=8, closing=True).eval()
    image, segmentation = torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16)
    first = network.blocks[0](image, segmentation, image[:, :0])
    other = network.blocks[0](image, 1 - segmentation, image[:, :0])
    assert [torch.equal(a, b) for a, b in zip(first, other, strict=True)] == [True, False, False]


def test_the_classification_network_is_that_of_the_authors() -> None:
    network = ClassificationNetwork(4, 16, features=64, hidden=32)
    assert [layer.out_channels for layer in convolutions(network)] == [64] * 2 + [128] * 2 + [256] * 6
    assert network(torch.zeros(2, 1, 16, 16), torch.zeros(2, 3, 16, 16)).shape == (2,)
    classification: Any = load_method("classdisc")
    assert classification.training.hidden == 4096


def test_patches_are_squares_of_the_image_in_order() -> None:
    values = torch.arange(2 * 3 * 9 * 13.0).reshape(2, 3, 9, 13)
    found = patches(values, 4)
    assert found.shape == (2 * 2 * 3, 3, 4, 4)
    assert torch.equal(found[4], values[0, :, 4:8, 4:8])
    assert torch.equal(found[6], values[1, :, :4, :4])


def batch_of(count: int = 4, side: int = 37) -> Batch:
    """Random crops of the frames' kind."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 5, (count, 5, 5)), np.ones((8, 8))).astype(np.uint32)[:, :side, :side]
    classes = torch.from_numpy(np.stack([contour_classes(one) for one in labels]))
    image = torch.from_numpy((labels > 0)[:, None] + 0.1 * rng.standard_normal((count, 1, side, side))).float()
    return Batch(image=image, labels=torch.from_numpy(labels.astype(np.int64)), targets={"classes": classes})


@pytest.mark.parametrize("name", ["ribcage", "classdisc"])
def test_estimator_and_discriminator_minimise_equations_3_and_4(name: str) -> None:
    torch.manual_seed(0)
    method, batch = load_method(name, **{**GAME, "noise": 0.0}), batch_of()
    networks = {name: network.eval() for name, network in method.networks().items()}
    estimate = torch.softmax(networks["estimator"](batch.image), dim=1)
    truth = torch.nn.functional.one_hot(inner(batch.targets["classes"]).long(), 3).movedim(3, 1).float()
    odds = [torch.sigmoid(networks["discriminator"](inner(batch.image), one)) for one in (truth, estimate)]
    first, second = (update.loss(networks, batch) for update in method.stages()[0].updates)
    torch.testing.assert_close(first["estimator"], -odds[1].log().mean())
    torch.testing.assert_close(second["true"], -odds[0][::2].log().mean())
    torch.testing.assert_close(second["estimated"], -(1 - odds[1][1::2]).log().mean())


@torch.no_grad()
def test_smoothing_asks_for_less_than_certainty() -> None:
    torch.manual_seed(0)
    batch, losses = batch_of(), []
    method: Any = load_method("ribcage", **{**GAME, "noise": 0.0})
    networks = {name: network.eval() for name, network in method.networks().items()}
    for smoothing in (0.0, 1.0):
        game = dataclasses.replace(method.training.game, smoothing=smoothing)
        losses.append(float(game.discriminator_loss(networks, batch)["true"]))
    true = networks["discriminator"](inner(batch.image[::2]), one_hot(inner(batch.targets["classes"][::2])))
    assert losses[1] - losses[0] == pytest.approx(float(true.mean()), abs=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_discriminator_sees_truth_and_estimate_through_the_same_noise(noise: Any) -> None:
    torch.manual_seed(0)
    method: Any = load_method("ribcage", **{**GAME, "noise": noise})
    game = method.training.game
    seen: list[Tensor] = []

    def network(images: Tensor, values: Tensor) -> Tensor:
        seen.append(values)
        return values.mean(dim=(1, 2, 3))

    networks = {"discriminator": network}
    truth = one_hot(torch.randint(3, (2, 32, 32)))
    true, estimated = game.log_odds(networks, torch.zeros(4, 1, 32, 32), truth, truth, 0.0)
    assert true.shape == estimated.shape == (8,)
    for half in seen[0].tensor_split(2):
        assert float((half - patches(truth, 16)).std()) == pytest.approx(noise, rel=0.05)


@pytest.mark.parametrize("resting", ["batch", "running"])
def test_the_frozen_network_normalises_by_the_batch(resting: str) -> None:
    """Running statistics that are far off change what the trained network learns from, or nothing."""
    method, batch = load_method("ribcage", **{**GAME, "noise": 0.0, "resting": resting}), batch_of()
    losses: dict[tuple[str, ...], list[float]] = {}
    for shift in (0.0, 5.0):
        torch.manual_seed(0)
        networks = method.networks()
        for network in networks.values():
            for layer in network.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    assert layer.running_mean is not None
                    layer.running_mean += shift
        for update in method.stages()[0].updates:
            before = {name: copied({name: network}) for name, network in networks.items() if name not in update.trains}
            with only(networks, update.trains), torch.no_grad():
                terms = update.loss(networks, batch)
            losses.setdefault(update.trains, []).append(float(torch.stack([*terms.values()]).sum()))
            after = {name: copied({name: networks[name]}) for name in before}
            torch.testing.assert_close(after, before, rtol=0, atol=0)
    for first, second in losses.values():
        assert (first == second) == (resting == "batch")


def test_the_updates_take_turns_of_20_steps() -> None:
    updates = load_method("ribcage", estimator_steps=20, discriminator_steps=20).stages()[0].updates
    turns = ["".join("ed"[i] for i, update in enumerate(updates) if update.is_due(step)) for step in range(80)]
    assert "".join(turns) == ("e" * 20 + "d" * 20) * 2


def test_agreement_is_cohens_kappa() -> None:
    agreement = Agreement()
    classes = torch.tensor([[[0, 0, 0, 1, 1, 2]]])
    found = torch.tensor([[[0, 0, 1, 1, 1, 0]]])
    agreement.count(torch.nn.functional.one_hot(found, 3).movedim(3, 1).float(), classes)
    chance = (3 * 3 + 2 * 3 + 1 * 0) / 36
    assert agreement.kappa() == pytest.approx((4 / 6 - chance) / (1 - chance))


def test_a_training_that_collapses_is_told_and_leaves_no_model(tmp_path: Path) -> None:
    """A discriminator that does not learn is deceived by a pattern that has nothing to do with cells (κ = −0.08)."""
    method: Any = load_method("ribcage", **{**GAME, "discriminator_rate": 1e-9, "estimator_steps": 20})
    settings = dataclasses.replace(TRAINED, steps=106, crop=37, seed=1)
    with pytest.raises(
        RunError, match=r"training collapsed: .*background \d+%, .*κ = -?0\.\d\d, expected at least 0\.2"
    ):
        train(TrainingTask(method=method, data=[FRAMES], output=str(tmp_path / "m"), settings=settings))
    assert not (tmp_path / "m" / "model.json").exists()


@pytest.mark.parametrize(("updates", "least", "refused"), [(100, 0.1, True), (99, 0.1, False), (100, -1.0, False)])
def test_a_short_training_cannot_collapse_and_the_check_can_be_switched_off(
    updates: Any, least: float, refused: Any
) -> None:
    agreement = Agreement()
    for _ in range(updates):
        agreement.count(torch.eye(3)[:1].reshape(1, 3, 1, 1).expand(1, 3, 4, 4), torch.randint(3, (1, 4, 4)))
    assert math.isclose(agreement.kappa(), 0, abs_tol=1e-6)
    if refused:
        with pytest.raises(RunError, match="background 100%, cell 0%, contour 0%"):
            refuse_collapse({"agreement": agreement}, least)
    else:
        refuse_collapse({"agreement": agreement}, least)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({}, {"crop": 36}, "A crop of 36 px leaves 15 px of estimate; .* needs 16 px. Set crop to at least 37"),
        ({}, {"crop": 37, "batch_size": 1, "steps": 2}, "Set batch_size to 2 or more"),
    ],
)
def test_crops_and_batches_that_are_too_small_are_refused(
    settings: Any, changes: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(
            TrainingTask(
                method=load_method("ribcage", **GAME, **settings),
                data=[FRAMES],
                output=str(tmp_path),
                settings=dataclasses.replace(TRAINED, **changes),
            )
        )


@pytest.mark.parametrize(
    ("setting", "message"), [({"side": 40}, "a multiple of 16"), ({"estimator_steps": 0}, "least 1")]
)
def test_a_game_that_cannot_be_played_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_method("ribcage", **setting)
