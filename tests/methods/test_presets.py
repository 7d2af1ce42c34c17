"""Presets: the papers as printed, item by item; what wins over what; every line is a setting with a source."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cellscale.api.data import synthesize
from cellscale.api.training import list_methods, train
from cellscale.errors import MissingError
from cellscale.kernels.weights import contour_complexity, ronneberger
from cellscale.methods import METHODS, load_method, settings_of
from cellscale.methods.multicellnet import coupled_dice
from cellscale.methods.presets import preset, presets
from cellscale.methods.protocol import Batch
from cellscale.settings.fields import flat, replaced
from cellscale.testing.cases import CASES
from cellscale.testing.naive import shapes
from cellscale.tiling.in_memory import whole_frame
from cellscale.training.settings import TrainingSettings

LABELS = CASES["two touching"]


def paper(name: str, which: str = "paper") -> tuple[Any, TrainingSettings]:
    """A method, and settings of its training, as printed."""
    found = preset(name, which)
    return replaced(load_method(name), found.method), replaced(TrainingSettings(), found.training)


def convolutions(network: Any) -> list[tuple[int, int, int]]:
    """Side, inputs and outputs of each convolution, in their order."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [(m.kernel_size[0], m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, kinds)]


def parameters(network: Any) -> Any:
    return sum(parameter.numel() for parameter in network.parameters())


def u_net_parameters(channels: int, classes: int, width: int = 64, depth: int = 4) -> int:
    """Two 3 × 3 convolutions a block, transposed 2 × 2 convolutions, biases, no normalisation: by the layer list."""
    sizes = [width * 2**level for level in range(depth + 1)]
    count = 0
    for i, o in zip([channels, *sizes], sizes, strict=False):
        count += 9 * i * o + o + 9 * o * o + o
    for size in sizes[:-1]:
        count += 4 * 2 * size * size + size + 9 * 2 * size * size + size + 9 * size * size + size
    return count + width * classes + classes


def test_every_method_has_presets_and_every_line_of_them_is_a_setting_with_a_comment() -> None:
    for name in METHODS:
        found = presets(name)
        assert {"paper", "default"} <= set(found)
        for one in found.values():
            replaced(load_method(name), one.method)
            replaced(TrainingSettings(), one.training)
    assert {method["name"]: method["presets"] for method in list_methods()}["saw"] == ["default", "fast", "paper"]
    for path in files("cellscale.methods.presets").iterdir():
        if path.name.endswith(".toml"):
            text = path.read_text()
            assert text.startswith("# ")
            assert set(tomllib.loads(text)) <= {*METHODS, "every"}
            for table in re.split(r"\.paper[-\d]*\.\w+\]\n", text)[1:]:
                assert "#" in table.partition("\n")[0]


@pytest.mark.parametrize(
    ("name", "classes"),
    [("unet-ronneberger", 1), ("unet2", 2), ("unet3", 3), ("focal", 3), ("dwm", 3), ("saw", 3), ("unet-binary", 1)],
)
def test_the_papers_u_net_has_64_to_1024_features_and_nothing_else(name: str, classes: int) -> None:
    method, _ = paper(name)
    network = method.networks()["unet"]
    assert [level[0].out_channels for level in network.down] == [64, 128, 256, 512, 1024]
    assert parameters(network) == u_net_parameters(1, classes)
    assert not any(isinstance(m, nn.BatchNorm2d | nn.Dropout | nn.Dropout2d) for m in network.modules())


RATES = {
    "unet-ronneberger": (1e-4, "exponential", 10, 8000),
    "multicellnet": (1e-4, "exponential", 10, 5000),
    "saw": (1e-4, "none", 4, 1000),
    "deepsplit": (1e-4, "none", 4, 400),
    "maskrcnn": (5e-4, "none", 2, 30),
    "unet-binary": (1e-3, "none", 2, 30),
    "mu-lux": (1e-4, "none", 4, 0),
    "calt-us": (1e-4, "none", 4, 0),
}


@pytest.mark.parametrize("name", RATES)
def test_rates_batches_and_epochs_are_the_papers(name: str) -> None:
    method, settings = paper(name)
    found = method.adam.learning_rate, method.adam.decay, settings.batch_size, settings.epochs
    assert found == RATES[name]
    optimizer = method.adam.optimizer([nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.Adam)


def test_mask_rcnn_is_torchvisions_and_its_rate_falls_every_three_epochs() -> None:
    method, settings = paper("maskrcnn")
    net = method.networks()["mask_rcnn"]
    assert net.rpn.head.cls_logits.out_channels == 3
    assert net.roi_heads.box_predictor.cls_score.out_features == 2
    assert net.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 2
    assert net.roi_heads.fg_bg_sampler.batch_size_per_image == 512
    assert [stage.name for stage in method.stages()] == ["weights", "shape-aware"]
    counted = settings.counted(134, 1)
    epoch = counted.steps_per_epoch
    assert (epoch, counted.steps) == (67, 30 * 67)
    assert method.patience * counted.validate_every < counted.steps  # early stopping is possible
    rates = [
        counted.rate(lambda progress: 1.0, step, counted.steps) for step in (0, 3 * epoch - 1, 3 * epoch, 6 * epoch)
    ]
    assert rates == pytest.approx([1, 1, 0.1, 0.01])
    assert (settings.augmentation.turns, settings.augmentation.flips) == (False, "horizontal")


def test_the_border_weights_are_ronnebergers() -> None:
    method, _ = paper("unet-ronneberger")
    found = method.fit_statistics([LABELS]).targets(LABELS)
    inside = found["cell"] > 0
    expected = np.where(inside, (~inside).sum() / inside.sum(), 1.0)
    expected = expected / expected.max()
    cells = np.where(inside, LABELS, 0)
    expected = expected + shapes.ronneberger(cells, w0=10, sigma=5, squares=False, where=~inside)
    np.testing.assert_allclose(found["weight"], expected, rtol=1e-5)


def test_the_shape_aware_weights_are_equations_3_and_4() -> None:
    method, _ = paper("saw")
    method = method.fit_statistics([LABELS])
    found = method.targets(LABELS)
    counts = np.bincount(found["classes"].ravel(), minlength=3)
    balance = (counts.min() / counts)[found["classes"]]
    distances, contours = contour_complexity(LABELS)
    assert method.weighting.tau == pytest.approx(distances[contours].max())
    narrow = shapes.shape_aware_weights(
        LABELS, tau=method.weighting.tau, sigma=3, radius=20, propagate="both", offset=0
    )
    np.testing.assert_allclose(found["weight"], balance + narrow, atol=1e-4)


def test_the_distance_weights_are_equation_2() -> None:
    method, _ = paper("dwm")
    labels = np.pad(LABELS, 40)
    found = method.fit_statistics([labels]).targets(labels)
    counts = np.bincount(found["classes"].ravel(), minlength=3)
    assert found["weight"][found["classes"] == 2].tolist() == pytest.approx([1] * counts[2])
    assert found["weight"].min() == 0
    assert found["weight"][found["classes"] == 1].tolist() == pytest.approx([counts[2] / counts[1]] * counts[1])


def test_deepsplit_weighs_as_section_3_2_says() -> None:
    method, settings = paper("deepsplit")
    found = method.fit_statistics([LABELS]).targets(LABELS)
    contact, inside = found["separation"] > 0, found["cell"] > 0
    assert set(np.unique(found["separation_weight"])) == {np.float32(22.6), np.float32(5), np.float32(1)}
    assert (found["separation_weight"][contact] == np.float32(22.6)).all()
    assert found["weight"][inside].sum() == pytest.approx((~inside).sum(), rel=1e-4)
    cells = np.where(inside, LABELS, 0)
    border = ronneberger(cells, w0=10, sigma=5, squares=True)
    np.testing.assert_allclose(found["weight"][~inside], 1 + border[~inside], rtol=1e-5)
    networks = method.networks()
    assert set(networks) == {"segmentation", "separation", "stage_one"}
    assert [level[0].out_channels for level in networks["segmentation"].encoder] == [64, 128, 256, 512, 1024]
    dropouts = [m.p for m in networks["segmentation"].modules() if isinstance(m, nn.Dropout)]
    assert dropouts == [0.2] * 9  # of values ("some nodes"), not of feature maps
    one, two = method.stages()
    assert (one.updates[0].trains, two.updates[0].trains) == (("stage_one",), ("segmentation", "separation"))
    assert two.updates[0].loss.keywords["share"] == 0.3
    assert method.intensity.rule == "equalise"
    assert (settings.augmentation.gamma, settings.augmentation.warped) == (1.0, 1.0)
    baseline, alike = paper("unet-ronneberger", "paper-3")
    assert (baseline.unet, baseline.squares, baseline.intensity.rule) == (method.unet, True, "equalise")
    assert settings.crop == alike.crop < 512  # the paper's images are of 512 px, and shifted
    assert np.array_equal(baseline.fit_statistics([LABELS]).targets(LABELS)["weight"], found["weight"])


def test_deepsplit_gives_no_pixel_of_the_separation_back() -> None:
    method, _ = paper("deepsplit")
    cells = np.zeros((40, 60), np.uint8)
    cells[5:35, 5:55] = 255
    separation = np.zeros_like(cells)
    separation[:, 28:32] = 255
    found = whole_frame(method, {"cell": cells, "separation": separation})
    assert np.array_equal(found > 0, (cells > 0) & (separation == 0))
    assert len(np.unique(found)) == 3


def test_multicellnet_balances_printed_dice_losses() -> None:
    method, settings = paper("multicellnet")
    networks = method.networks()
    assert parameters(networks["region"]) == u_net_parameters(1, 1)
    assert parameters(networks["edge"]) == u_net_parameters(64 + 128 + 64, 1)
    for network in networks.values():
        nn.init.zeros_(network.head.weight)
    batch = Batch(
        image=torch.zeros(1, 1, 16, 16),
        labels=torch.zeros(1, 16, 16, dtype=torch.int64),
        targets={"region": torch.ones(1, 16, 16), "edge": torch.zeros(1, 16, 16)},
    )
    # f_r = f_e = ½ everywhere: D = 2·½ / (1 + ½) of the region, and of the edge next to nothing.
    with torch.no_grad():
        terms = coupled_dice(networks, batch, **method.stages()[0].updates[0].loss.keywords)
    e1, e2 = 1 - (256 + 1) / (256 + 128 + 1), 1 - 1 / (128 + 1)
    assert float(terms["region"] + terms["edge"]) == pytest.approx(np.hypot(e1, e2), rel=1e-5)
    augmentation = settings.augmentation
    assert (augmentation.turns, augmentation.flips, augmentation.warped) == (False, "both", 0.0)
    assert (method.seeding.map, method.decoding) == ("region", "contours")


def test_mu_lux_is_the_submitted_network() -> None:
    method, _ = paper("mu-lux")
    network = method.networks()["unet"]
    assert [level[0].out_channels for level in network.down] == [32, 64, 128, 256, 512]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.ConvTranspose2d) for m in network.modules())
    assert network.head.out_channels == 4
    assert (round(method.markers.threshold * 255), round(method.threshold * 255), method.markers.radius) == (
        240,
        216,
        4,
    )


def test_the_rib_cage_has_the_printed_layers() -> None:
    method, settings = paper("ribcage")
    networks = method.networks()
    listed = [(side, outputs) for side, _, outputs in convolutions(networks["estimator"])]
    assert listed == [(9, 16), (7, 32), (5, 64), (4, 64), (1, 3)]
    ribs = [(side, outputs) for side, _, outputs in convolutions(networks["discriminator"])]
    for block in ((9, 8), (5, 32), (3, 64)):
        assert ribs.count(block) == 2
    for block in ((9, 4), (5, 16), (3, 32), (4, 64)):
        assert ribs.count(block) == 1
    linear = [m.out_features for m in networks["discriminator"].modules() if isinstance(m, nn.Linear)]
    assert linear == [64, 64, 1]
    estimator, discriminator = method.stages()[0].updates
    assert [estimator.turn, discriminator.turn, estimator.every] == [(0, 20), (20, 40), 40]
    rates = [
        update.optimizer([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] for update in method.stages()[0].updates
    ]
    assert rates == [1e-3, 1e-3]
    assert (method.training.game.noise, settings.batch_size, settings.crop) == (0.0, 200, 85)
    vgg, _ = paper("classdisc")
    listed = [(side, outputs) for side, _, outputs in convolutions(vgg.networks()["discriminator"])]
    assert listed == [(3, 64)] * 2 + [(3, 128)] * 2 + [(3, 256)] * 6


def test_a_preset_is_below_a_file_below_settings_below_an_argument(tmp_path: Path) -> None:
    image, config = str(tmp_path / "i.zarr"), tmp_path / "c.toml"
    synthesize(image, shape=(2, 48, 48), cells=4)
    config.write_text("[method]\n'unet.width' = 3\nsigma = 4.0\n[training]\nbatch_size = 2\nsteps = 9\n")
    model = train(
        "unet-ronneberger",
        [image],
        output=str(tmp_path / "m"),
        preset="paper",
        config=str(config),
        settings={"crop": 32, "unet.width": 2, "unet.depth": 1, "loader_workers": 0, "margin": 4},
        steps=1,
        backend="serial",
    )
    found = settings_of(model.method) | model.training["settings"]
    assert (found["unet.norm"], found["border"], found["max_grad_norm"]) == (False, 10.0, 1e9)
    assert (found["sigma"], found["batch_size"]) == (4.0, 2)
    assert (found["unet.width"], found["crop"]) == (2, 32)
    assert (found["steps"], found["epochs"]) == (1, 0.0)


def test_the_default_of_an_adversarial_training_is_the_recipe_that_was_measured() -> None:
    found = preset("ribcage", None)
    settings = replaced(TrainingSettings(), found.training)
    assert (settings.batch_size, settings.crop, settings.foreground_fraction, settings.ema_decay) == (24, 85, 0.7, 0.99)
    assert not preset("saw", None).training
    assert flat(replaced(TrainingSettings(), preset("saw", None).training)) == flat(TrainingSettings())


def rows(columns: str) -> list[list[list[str]]]:
    """The backticked words in each cell of the table of a page with these column names."""
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    table = page.partition(f"| {columns} |\n|{'---|' * len(columns.split(' | '))}\n")[2].partition("\n\n")[0]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_the_documentation_lists_the_presets_of_each_method() -> None:
    listed = {name: names for methods, names in rows("method | presets") for name in methods}
    assert listed == {method["name"]: method["presets"] for method in list_methods()}
    assert {name for names in listed.values() for name in names} == {name for (name,), _ in rows("preset | meaning")}


def test_the_documentation_lists_what_presets_set_of_the_settings_that_are_off() -> None:
    off = {name.partition("=")[0] for (name, *_), _ in rows("setting | effect")} - {"adam.fused"}
    listed = {
        (method, name): {*settings}
        for methods, names, settings in rows("method | preset | settings")
        for method in methods
        for name in names
    }
    bare, found = flat(TrainingSettings()), {}
    for method in METHODS:
        for name, one in presets(method).items():
            chosen = flat(replaced(TrainingSettings(), one.training))
            if settings := {f"{key}={chosen[key]}" for key in off if chosen[key] != bare[key]}:
                found[method, name] = settings
    assert listed == found


def test_a_preset_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(MissingError, match=r"preset 'papers' of 'saw'.*paper"):
        preset("saw", "papers")
    assert preset("examples.insides:INSIDES", None).method == {}
