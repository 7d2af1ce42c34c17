"""Paper 4: its loss, and what of the suite applies to candidates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d

from cellscale.errors import InputError, MissingError
from cellscale.methods import load_method
from cellscale.methods.inference import windows_to_maps
from cellscale.methods.parts.cell_sizes import Cells
from cellscale.methods.shape_aware_loss import MaskLoss
from cellscale.networks.mask_rcnn import anchor_sizes
from cellscale.networks.pretrained import pretrained
from cellscale.settings.fields import unfitted
from cellscale.testing import conformance
from cellscale.testing.cases import CASES, FRAMES
from cellscale.testing.conformance import Subject, sample_batch, worker_batch
from cellscale.training import loop
from cellscale.training.workers import Workers
from cellscale.types import Candidates

TINY: dict[str, Any] = {"width": 4, "samples": 16, "adam.learning_rate": 0.003}
QUICK = dataclasses.replace(conformance.QUICK, steps=4, batch_size=2, crop=64)


@pytest.fixture(scope="module")
def method() -> Any:
    return load_method("maskrcnn", **TINY).fit_statistics(labels for _, labels in FRAMES)


@pytest.fixture
def networks(method: Any) -> Any:
    torch.manual_seed(0)
    return method.networks()


@pytest.mark.parametrize("kind", ["shape-aware", "bce", "focal"])
def test_a_loss_is_a_weighted_mean_over_the_mask(kind: Any) -> None:
    scores, truth, weights = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[3.0, 1.0]]])
    p = torch.sigmoid(scores)
    surprise = -torch.log(torch.where(truth > 0, p, 1 - p))
    hardness = (1 - torch.exp(-surprise)) ** 2 if kind == "focal" else torch.ones_like(surprise)
    expected = (weights * hardness * surprise).sum() / 4
    torch.testing.assert_close(MaskLoss(kind=kind).of_masks(scores, truth, weights), expected[None])


def test_weights_are_those_of_equation_3() -> None:
    labels = CASES["two touching"]
    loss = MaskLoss().fit_statistics([np.array([[0, 0, 0, 2]])], lambda labels: (labels > 0).astype(np.uint8))
    weights = loss.weights(labels)
    assert weights[20, 29] == 3 + 10
    assert weights[20, 7] == pytest.approx(1 + 10 * np.exp(-9 / 50))
    assert (MaskLoss(kind="bce").weights(labels) == 1).all()


def test_cells_are_measured() -> None:
    cells = Cells.of([CASES["two touching"], CASES["empty"]])
    assert cells == Cells(size=20.0, longest=20, density=2e6 / 64**2)
    assert Cells.of([CASES["empty"]]) == Cells()


@pytest.mark.parametrize("case", CASES)
def test_decoding_the_perfect_candidates_returns_the_labels(method: Any, case: str) -> None:
    conformance.check_perfect_prediction(
        Subject(method=unfitted(method).fit_statistics([CASES[case]])), labels=CASES[case]
    )


def test_settings_survive_json(method: Any) -> None:
    conformance.check_settings(Subject(method=method))


def test_only_its_network_moves(method: Any) -> None:
    conformance.check_frozen_networks(Subject(method=method, training=QUICK))


def test_a_training_is_repeatable(method: Any) -> None:
    conformance.check_training(Subject(method=method, training=QUICK))


def test_training_brings_all_terms_down(method: Any, networks: dict[str, Any]) -> None:
    batch = sample_batch(Subject(method=method, training=QUICK), 2)
    updater = loop.Updater(method.stages()[0].updates[0], networks, 1000)
    torch.manual_seed(0)
    curve = [updater.step(batch, 0, QUICK, Workers()) for _ in range(8)]
    assert sum(curve[-1].values()) < 0.9 * sum(curve[0].values())


def test_a_loss_is_a_mean_of_sample_losses(method: Any, networks: dict[str, Any]) -> None:
    batch = sample_batch(Subject(method=method, training=QUICK), 2)
    (update,) = method.stages()[0].updates
    networks["mask_rcnn"].train()
    for module in networks["mask_rcnn"].modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(0)
    whole = update.loss(networks, batch)
    torch.manual_seed(0)
    parts = [update.loss(networks, worker_batch(batch, slice(i, i + 1), iter(()))) for i in range(2)]
    for name, value in whole.items():
        torch.testing.assert_close(value, torch.stack([part[name] for part in parts]).mean(), rtol=1e-4, atol=1e-6)


def test_a_crop_without_cells_has_a_loss(method: Any, networks: dict[str, Any]) -> None:
    batch = sample_batch(Subject(method=method, training=QUICK), 1)
    empty = dataclasses.replace(batch, labels=torch.zeros_like(batch.labels))
    networks["mask_rcnn"].train()
    terms = method.stages()[0].updates[0].loss(networks, empty)
    assert all(torch.isfinite(value) for value in terms.values())
    assert float(terms["mask"].detach()) == 0


def test_candidates_are_whole_numbers_within_their_limits(method: Any, networks: dict[str, Any]) -> None:
    window = np.random.default_rng(0).random((2, 1, 64, 128)).astype(np.float32)
    first, again = windows_to_maps(method, networks, np.concatenate([window[:1]] * 2), precision="fp32")
    assert isinstance(first, Candidates)
    assert len(first) <= 16 + int(4 * method.cells.density * 64 * 128 / 1e6)
    assert first.boxes.dtype == np.int32
    assert first.scores.dtype == np.uint16
    assert first.masks.dtype == np.uint8
    assert (first.boxes[:, 2:] - first.boxes[:, :2] <= method.longest).all()
    for name in ("boxes", "scores", "masks"):
        assert np.array_equal(getattr(first, name), getattr(again, name))


def test_limits_that_are_reached_are_told(method: Any, networks: dict[str, Any]) -> None:
    window = np.random.default_rng(0).random((1, 1, 64, 64)).astype(np.float32)
    tight = dataclasses.replace(method, cells=dataclasses.replace(method.cells, longest=1))
    (found,) = windows_to_maps(tight, networks, window, precision="fp32")
    assert isinstance(found, Candidates)
    assert len(found) == 0 or found.reached["longest"] > 0
    assert set(found.reached) == {"proposals", "detections", "longest"}


def test_missing_weights_are_named(networks: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"No weights at '/nowhere\.pth'.*or one of coco, imagenet"):
        pretrained(networks, "/nowhere.pth")
    torch.save({"head": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth' holds nothing that fits"):
        pretrained(networks, str(tmp_path / "other.pth"))
    with pytest.raises(
        InputError, match=r"'coco', which fits ResNet-50; the backbone is 'small'\. Set backbone=resnet50"
    ):
        load_method("maskrcnn", weights="coco")


@pytest.mark.parametrize("name", ["coco", "imagenet"])
def test_weights_that_cannot_be_downloaded_are_named(
    networks: dict[str, Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(MissingError, match=f"{name!r} cannot be downloaded from https://.*set weights to its path"):
        pretrained(networks, name)


@pytest.fixture(scope="module")
def torchvisions() -> dict[str, Tensor]:
    """Some tensors of torchvision's Mask R-CNN on 91 classes, by the names of its older versions."""
    shapes = {
        "backbone.body.conv1.weight": (64, 3, 7, 7),
        "backbone.body.bn1.running_var": (64,),
        "backbone.fpn.inner_blocks.0.weight": (256, 256, 1, 1),
        "rpn.head.conv.weight": (256, 256, 3, 3),
        "rpn.head.cls_logits.weight": (3, 256, 1, 1),
        "rpn.head.bbox_pred.bias": (12,),
        "roi_heads.mask_head.mask_fcn1.bias": (256,),
        "roi_heads.box_predictor.cls_score.bias": (91,),
        "auxiliary.bias": (4,),
    }
    return {name: torch.full(shape, 0.5) for name, shape in shapes.items()}


def test_a_training_takes_all_that_torchvisions_weights_have(
    torchvisions: Any, tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights, one size of anchors a level: else the output layers of the proposals would be lost."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(torchvisions, tmp_path / "hub" / "checkpoints" / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth")
    method: Any = load_method("maskrcnn", backbone="resnet50", weights="coco")
    networks = method.networks()
    start, learn = method.stages()
    assert (start.share, learn.share) == (0, 1)
    assert start.on_end is not None
    with caplog.at_level("INFO", logger="cellscale"):
        start.on_end(networks)
    net = networks["mask_rcnn"]
    for value in (
        net.backbone.body.conv1.weight,
        net.backbone.body.bn1.running_var,
        net.backbone.fpn.inner_blocks[0][0].weight,
        net.rpn.head.conv[0][0].weight,
        net.rpn.head.cls_logits.weight,
        net.rpn.head.bbox_pred.bias,
        net.roi_heads.mask_head[0][0].bias,
    ):
        assert (value == 0.5).all()
    assert "coco: took 7 of " in caplog.text
    assert "1 of another shape: roi_heads.box_predictor.cls_score" in caplog.text
    assert "1 left in the file: auxiliary.bias" in caplog.text


def test_with_weights_batch_norm_stays_as_it_was_loaded() -> None:
    """Two crops are no batch to take statistics from."""
    for settings, frozen in (({"weights": "coco"}, True), ({"weights": "coco", "batch_norm": "trained"}, False)):
        net: Any = load_method("maskrcnn", backbone="resnet50", **settings).networks()["mask_rcnn"].train()
        assert any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules()) != frozen
        before = net.backbone.body.bn1.running_mean.clone()
        with torch.no_grad():
            net.features(torch.rand(1, 1, 64, 64))
        assert torch.equal(net.backbone.body.bn1.running_mean, before) == frozen


def test_frozen_batch_norm_has_the_epsilon_of_its_weights() -> None:
    for weights, expected in (("coco", 0.0), ("imagenet", 1e-5)):
        net: Any = load_method("maskrcnn", backbone="resnet50", weights=weights).networks()["mask_rcnn"]
        assert {m.eps for m in net.backbone.modules() if isinstance(m, FrozenBatchNorm2d)} == {expected}


def test_a_resnet_alone_is_a_backbone(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.full((64, 3, 7, 7), 0.5), "fc.bias": torch.zeros(1000)}, tmp_path / "r.pth")
    networks: Any = load_method("maskrcnn", backbone="resnet50", weights=str(tmp_path / "r.pth")).networks()
    pretrained(networks, str(tmp_path / "r.pth"))
    assert (networks["mask_rcnn"].backbone.body.conv1.weight == 0.5).all()


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0, 2.9, 30.0, 2000.0])
@pytest.mark.parametrize("per_level", [1, 2])
def test_no_anchor_is_empty_however_small_cells_are(size: float, per_level: int) -> None:
    generator = AnchorGenerator(anchor_sizes(size, per_level), ((0.5, 1.0, 2.0),) * 5)
    boxes = torch.cat(list(generator.cell_anchors))
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 2
