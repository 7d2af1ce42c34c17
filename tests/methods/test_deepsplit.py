"""Two stages: what each moves, what is kept, and what the mask in the end is made of."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cellscale.errors import InputError
from cellscale.kernels.distances.transform import two_nearest_labels
from cellscale.methods import load_method
from cellscale.methods.deepsplit import joint_loss, mask_of_stage_one
from cellscale.methods.inference import windows_to_maps
from cellscale.models.model import Model, load_model, save_model
from cellscale.segmentation.plan import Settings, plan
from cellscale.segmentation.run import segment
from cellscale.segmentation.target import Target
from cellscale.settings.fields import replaced
from cellscale.storage.folder import Folder
from cellscale.testing import conformance
from cellscale.testing.cases import CASES, FRAMES
from cellscale.testing.conformance import Subject, sample_batch
from cellscale.tiling.in_memory import whole_frame
from cellscale.training import loop
from cellscale.training.crops import mapped
from cellscale.training.run import train
from cellscale.training.task import TrainingTask
from cellscale.training.validation import frame_prediction, predicted, scored
from cellscale.training.workers import Workers
from cellscale.types import Box, Candidates
from tests.support.runs import arrays, written
from tests.support.variants import TINY

NAMES = ["deepsplit", "branchnet", "double-unet"]
BARE: dict[str, Any] = {"fill_holes_px": 0, "min_object_px": 0, "split_neck_px": 0, "band_radius": 0}


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> Any:
    """Each method as the paper prints it, before post-processing."""
    return load_method(request.param, **TINY, **BARE).fit_statistics(labels for _, labels in FRAMES)


def copies(networks: dict[str, Any]) -> dict[str, dict[Any, Any]]:
    return {name: {k: v.clone() for k, v in network.state_dict().items()} for name, network in networks.items()}


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


def trained(method: Any, on_step: Any = lambda *_: None, steps: int = 6) -> Any:
    torch.manual_seed(0)
    networks = method.networks()
    batch = sample_batch(Subject(method=method))
    loop.run(
        method.stages(),
        networks,
        lambda first: itertools.repeat(batch),
        settings=dataclasses.replace(conformance.QUICK, steps=steps),
        state=loop.State(),
        workers=Workers(),
        hooks=loop.Hooks(on_step=lambda stage, step, terms: on_step(stage, networks)),
    )
    return networks


def test_stage_one_leaves_the_separation_and_stage_two_leaves_stage_one(method: Any) -> None:
    torch.manual_seed(0)
    fresh = copies(method.networks())
    seen: dict[str, list[dict[str, Any]]] = {"segmentation": [], "separation": []}
    trained(method, lambda stage, networks: seen[stage].append(copies(networks)))
    assert [len(states) for states in seen.values()] == [3, 3]
    for state in seen["segmentation"]:
        assert equal(state["separation"], fresh["separation"])
        assert equal(state["segmentation"], fresh["segmentation"])
        assert not equal(state["stage_one"], fresh["stage_one"])
    kept = seen["segmentation"][-1]["stage_one"]
    for state in seen["separation"]:
        assert equal(state["stage_one"], kept)
        assert not equal(state["separation"], fresh["separation"])
        assert not equal(state["segmentation"], kept)


def test_stage_one_is_scored_by_its_own_mask(method: Any, tmp_path: Path) -> None:
    """The separation that nothing has trained is above a half on half of all pixels, and would cut the mask to bits."""
    method = replaced(method, {"stage_one": 30 / 31, "learning_rate": 0.01})
    settings = dataclasses.replace(conformance.QUICK, steps=31, validate_every=30)
    model = train(
        TrainingTask(method=method, data=[FRAMES], validation=[FRAMES], output=str(tmp_path), settings=settings)
    )
    pairs = predicted(method, mask_of_stage_one(model.networks), FRAMES, device="cpu", precision="fp32")
    assert all(not isinstance(maps, Candidates) and not maps["separation"].any() for maps, _ in pairs)
    expected = scored(method, pairs)
    rows = [line.split(",") for line in (tmp_path / "history.csv").read_text().splitlines()]
    found = {name: float(value) for step, stage, name, value in rows[1:] if stage == "validation" and step == "30"}
    assert {name: found[name] for name in ("dice", "seg", "f1")} == pytest.approx(
        {name: expected[name] for name in ("dice", "seg", "f1")}, rel=1e-4
    )
    assert expected["dice"] > 0.5


def test_the_baseline_can_have_the_loss_of_stage_one() -> None:
    """A table at equal losses: the same mask, the same weights to the last bit."""
    labels = [labels for _, labels in FRAMES]
    method: Any = load_method("deepsplit").fit_statistics(labels).targets(labels[0])
    baseline: Any = (
        load_method("unet-ronneberger", squares=True, scale="background").fit_statistics(labels).targets(labels[0])
    )
    assert np.array_equal(baseline["cell"], method["cell"])
    assert np.array_equal(baseline["weight"], method["weight"])
    other: Any = load_method("unet-ronneberger", squares=True).fit_statistics(labels).targets(labels[0])
    ratio = method["weight"] / other["weight"]
    assert ratio.max() > 1.2 * ratio.min()


def test_the_second_u_net_has_sizes_of_its_own() -> None:
    method: Any = load_method("double-unet", width=8, depth=3)
    assert (method.second.width, method.second.depth) == (4, 1)
    other: Any = load_method("double-unet", width=8, depth=3, second_width=6, second_depth=2)
    blocks = other.networks()["separation"].unet.encoder
    assert [level[0].out_channels for level in blocks] == [6, 12, 24]
    assert other.reaches.reach > method.reaches.reach
    with pytest.raises(InputError, match="'second_depth' is 4; expected at most the depth of the first, 3"):
        load_method("double-unet", depth=3, second_depth=4)
    with pytest.raises(InputError, match=r"'unet\.up' is 'bilinear'; expected 'transposed'"):
        load_method("deepsplit", up="bilinear")


def test_stage_two_starts_from_stage_one(method: Any) -> None:
    torch.manual_seed(0)
    networks = method.networks()
    assert not equal(networks["stage_one"].state_dict(), networks["segmentation"].state_dict())
    method.stages()[0].on_end(networks)
    assert equal(networks["stage_one"].state_dict(), networks["segmentation"].state_dict())


def test_the_mask_is_stage_ones_without_stage_twos_separation(method: Any, tmp_path: Path) -> None:
    """Also after saving and loading: the kept network is a part of the model."""
    networks = {name: network.eval() for name, network in trained(method).items()}
    save_model(Model(method=method, networks=networks), str(tmp_path))
    loaded = load_model(str(tmp_path))
    image = mapped(FRAMES[0][0], method.intensity)[None]
    with torch.inference_mode():
        window = torch.from_numpy(image).contiguous(memory_format=torch.channels_last)
        kept = torch.sigmoid(networks["stage_one"](window).scores)
        parting = torch.sigmoid(networks["separation"](networks["segmentation"](window)))
    stored = [(255 * values[0]).round().numpy() for values in (kept, parting)]
    for cell, separation in itertools.product(np.quantile(stored[0], [0.3, 0.6]), np.quantile(stored[1], [0.5, 0.9])):
        limits: dict[str, Any] = {"threshold": int(cell) / 255, "separation": int(separation) / 255}
        wanted = (stored[0] > int(cell)) & ~(stored[1] > int(separation))
        (maps,) = windows_to_maps(loaded.method, loaded.networks, image, precision="fp32")
        found = whole_frame(load_method(method.name, **TINY, **BARE, **limits), maps)
        assert np.array_equal(found > 0, wanted)
        assert 0 < wanted.sum() < wanted.size


def test_both_from_the_start_has_one_stage_and_no_kept_network() -> None:
    method: Any = load_method("deepsplit", **TINY, schedule="simultaneous")
    assert set(method.networks()) == {"segmentation", "separation"}
    assert [update.trains for stage in method.stages() for update in stage.updates] == [("segmentation", "separation")]


def test_the_segmentation_counts_a_third_in_stage_two(method: Any) -> None:
    torch.manual_seed(0)
    networks, batch = method.networks(), sample_batch(Subject(method=method))
    one, two = method.stages()
    method.stages()[0].on_end(networks)
    for network in networks.values():
        network.eval()
    alone, both = (stage.updates[0].loss(networks, batch) for stage in (one, two))
    torch.testing.assert_close(both["segmentation"], 0.3 * alone["segmentation"])


@pytest.mark.parametrize("detached", [True, False])
def test_the_separation_teaches_the_segmentations_decoder_unless_detached(detached: bool) -> None:
    method: Any = load_method("deepsplit", **TINY)
    networks, batch = method.networks(), sample_batch(Subject(method=method))
    joint_loss(networks, batch, share=0.0, detached=detached)["separation"].backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in networks["segmentation"].decoder.blocks.parameters()]
    assert all(g is None or not g.any() for g in gradients) == detached
    assert networks["segmentation"].encoder[0][0].weight.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_the_reach_holds_for_deeper_networks(name: str) -> None:
    conformance.check_reach(Subject(method=load_method(name, width=2, depth=3)))


def test_targets_are_those_of_the_paper() -> None:
    labels = CASES["row of gaps"]
    method: Any = load_method("deepsplit", class_counts=(300, 100))
    found = method.targets(labels)
    _, first, _, second = two_nearest_labels(labels)
    inside, contact = labels > 0, found["separation"] > 0
    assert np.array_equal(found["cell"] > 0, inside)
    assert (found["weight"][inside] == 3).all()
    expected = 1 + 10 * np.exp(-(first + second.astype(float)) / 50)
    np.testing.assert_allclose(found["weight"][~inside], expected[~inside], rtol=1e-6)
    assert contact[10, 37:42].all()
    assert not contact[10, [36, 42]].any()
    assert set(np.unique(found["separation_weight"][contact])) == {np.float32(22.6)}
    assert (found["separation_weight"][inside & ~contact] == 5).all()
    assert (found["separation_weight"][~inside & ~contact] == 1).all()


def test_tiles_do_not_change_the_labels_of_an_equalised_frame(tmp_path: Path) -> None:
    """A frame that is ten times brighter on one side: equalised tile by tile, it would look otherwise."""
    noise = np.random.default_rng(0).gamma(2.0, 300.0, (3, 150, 211))
    pixels = (noise * np.linspace(1, 10, 211)).clip(0, 65535).astype(np.uint16)[:1]
    image = written(str(tmp_path / "movie.zarr"), pixels)
    torch.manual_seed(0)
    plain: Any = load_method("deepsplit", **{**TINY, "width": 2})
    networks: dict[str, Any] = {name: network.eval() for name, network in plain.networks().items()}
    for decoder in (networks["stage_one"].decoder, networks["separation"].decoder):
        decoder.head.weight.data *= 20
    maps = frame_prediction(plain, networks, mapped(pixels, plain.intensity), device="cpu", precision="fp32")
    assert not isinstance(maps, Candidates)
    limits: dict[str, Any] = {
        "threshold": np.median(maps["cell"]) / 255,
        "separation": np.quantile(maps["separation"], 0.9) / 255,
    }
    method: Any = load_method("deepsplit", **{**TINY, "width": 2}, **{k: float(v) for k, v in limits.items()})
    found = {}
    for window, tile in itertools.product((64, 2048), (37, 1024)):
        name = f"w{window}t{tile}"
        run = plan(
            image,
            Model(method=method, networks=networks),
            Settings(precision="fp32", window_size=window, tile_size=tile),
            Folder(url=f"{image.url}/.cellscale-{name}"),
        )
        segment(run, networks, Target(store=image.url, name=name))
        found[window, tile] = arrays(image, name)[0][0, 0]
    assert found[64, 37].max() > 10
    assert np.array_equal(found[64, 37], found[64, 1024])
    assert np.array_equal(found[2048, 37], found[2048, 1024])
    assert np.array_equal(found[2048, 37], whole_frame(method, maps))
    left = mapped(pixels[..., : Box.of(pixels.shape).x1 // 2], method.intensity)
    assert not np.allclose(left, mapped(pixels, method.intensity)[..., : left.shape[-1]], atol=0.05)
