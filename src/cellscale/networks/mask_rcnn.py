"""Mask R-CNN built from torchvision's parts, for images that are not resized and for windows full of cells.

The attributes are named as in torchvision, so that its weights fit. K. He et al., Mask R-CNN, ICCV 2017.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from cellscale.networks.finite import check_finite
from cellscale.networks.unet import block

Features: TypeAlias = dict[str, Tensor]
MaskLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Scores, truth and weights of masks (n, y, x) to a loss of each, (n,)."""
LEVELS = 5
"""Feature maps: strides 4, 8, 16, 32 and 64 px."""
SMALLEST = 3.0
"""Least size of a typical cell for anchors, px."""
MASK = 28
"""Side of a predicted mask, cells of its grid."""
RATIOS = (0.5, 1.0, 2.0)
"""Height over width of anchors."""
UNLIMITED = 1_000_000
LEAST = 0.05
"""Scores of proposals and detections below this are ignored."""
CHUNK = 256
"""Masks predicted at once."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Channel statistics of the images on which torchvision's weights were trained."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size of a Mask R-CNN."""

    backbone: Literal["small", "resnet50"]
    width: int
    """Features of the small backbone's first layer."""
    cell_size: float
    """√(height · width) of a typical cell's box, px: anchors follow it."""
    samples: int
    """Number of proposals of an image on which the box head is trained."""
    sizes_per_level: int = 2
    """Sizes of anchors at each level: torchvision's weights have one, small networks find more with two."""
    frozen: bool = False
    """Whether the BatchNorm of ResNet-50 keeps the loaded statistics, since two crops are too few for new ones."""
    epsilon: float = 1e-5
    """Added to the variances of frozen BatchNorm."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Cells of one image, best first."""

    boxes: Tensor
    """(n, 4) int64: y0, x0, y1, x1, half-open, px."""
    scores: Tensor
    """(n,) in 0 … 1."""
    masks: Tensor
    """(n, MASK, MASK) in 0 … 1."""
    full: dict[str, bool]
    """Whether there were more proposals, and more detections, than the limits."""


class SmallBackbone(nn.Module):
    """Four levels of two convolutions each, after a convolution of stride 2, and a feature pyramid."""

    def __init__(self, channels: int, width: int) -> None:
        """Make levels of 2, 4, 8 and 8 times `width` features; the pyramid has four times."""
        super().__init__()
        sizes = [2 * width, 4 * width, 8 * width, 8 * width]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.levels = nn.ModuleList(block(i, o) for i, o in zip([width, *sizes], sizes, strict=False))
        self.out_channels = 4 * width
        self.fpn = FeaturePyramidNetwork(sizes, self.out_channels, extra_blocks=LastLevelMaxPool())

    def forward(self, image: Tensor) -> Features:
        """Features of strides 4 to 64 px by name."""
        found: OrderedDict[str, Tensor] = OrderedDict()
        features = self.stem(image)
        for i, level in enumerate(self.levels):
            features = found[str(i)] = level(nn.functional.max_pool2d(features, 2))
        pyramid: Features = self.fpn(found)
        return pyramid


def anchor_sizes(cell_size: float, sizes: int) -> tuple[tuple[float, ...], ...]:
    """One or two sizes for each level, doubling from level to level, px; typical cells are 4 to 12 strides large."""
    level = min(max(math.floor(math.log2(max(cell_size, 1) / 24)), 0), LEVELS - 1)
    # torchvision rounds half an anchor's sides to whole px: of less than 1 px it would be empty, and its loss infinite.
    typical = [max(cell_size, SMALLEST) * 2.0 ** (i - level) for i in range(LEVELS)]
    return tuple((size / math.sqrt(2), size)[2 - sizes :] for size in typical)


def proposer(anchors: AnchorGenerator, head: RPNHead, *, limit: int, least: float = 0.0) -> RegionProposalNetwork:
    """The region proposal network with at most `limit` proposals for each image, of a score of at least `least`."""
    most = {"training": limit, "testing": limit}
    return RegionProposalNetwork(anchors, head, 0.7, 0.3, 256, 0.5, most, most, 0.7, score_thresh=least)


class MaskRCNN(nn.Module):
    """Backbone, region proposals, and heads for boxes and masks of two classes, background and cell."""

    def __init__(self, channels: int, shape: Shape) -> None:
        """Make it with fresh weights from torch's generator; new heads as He et al. (2015)."""
        super().__init__()
        small = shape.backbone == "small"
        norm = partial(FrozenBatchNorm2d, eps=shape.epsilon) if shape.frozen else nn.BatchNorm2d
        self.channels, self.small = channels, small
        self.backbone = (
            SmallBackbone(channels, shape.width)
            if small
            else resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5, norm_layer=norm)
        )
        features = self.backbone.out_channels
        hidden = 4 * features
        self.anchors = AnchorGenerator(anchor_sizes(shape.cell_size, shape.sizes_per_level), (RATIOS,) * LEVELS)
        head = RPNHead(features, self.anchors.num_anchors_per_location()[0])
        self.rpn = proposer(self.anchors, head, limit=1000)
        levels = ["0", "1", "2", "3"]
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
            TwoMLPHead(features * 7 * 7, hidden),
            FastRCNNPredictor(hidden, 2),
            0.5,
            0.5,
            shape.samples,
            0.25,
            None,
            LEAST,
            0.5,
            UNLIMITED,
            MultiScaleRoIAlign(levels, output_size=MASK // 2, sampling_ratio=2),
            MaskRCNNHeads(features, (features,) * 4, 1),
            MaskRCNNPredictor(features, features, 2),
        )
        kaiming_normal(self.roi_heads.box_predictor)
        kaiming_normal(self.roi_heads.mask_predictor)

    def features(self, images: Tensor) -> Features:
        """Feature maps of images (n, c, y, x), float32."""
        seen = images if self.small else normalised(images)
        return {name: values.float() for name, values in self.backbone(seen).items()}


def normalised(images: Tensor) -> Tensor:
    """Intensities 0 … 1 as torchvision's weights have seen them: three channels, grey ones repeated."""
    three = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    mean, deviation = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, DEVIATION))
    return (three - mean) / deviation


def kaiming_normal(module: nn.Module) -> None:
    """Draw weights as He et al. (2015); biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def truth_of(labels: Tensor) -> dict[str, Tensor]:
    """Boxes (n, 4) as x0, y0, x1, y1, half-open, classes (n,) and masks (n, y, x) of the cells of labels (y, x)."""
    numbers = torch.unique(labels)
    masks = labels == numbers[numbers > 0][:, None, None]
    rows, columns = masks.any(dim=2).int(), masks.any(dim=1).int()
    ends = [
        columns.argmax(dim=1),
        rows.argmax(dim=1),
        columns.shape[1] - columns.flip(1).argmax(dim=1),
        rows.shape[1] - rows.flip(1).argmax(dim=1),
    ]
    boxes = torch.stack(ends, dim=1).float()
    return {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64, device=labels.device), "masks": masks}


def losses(net: MaskRCNN, image: Tensor, labels: Tensor, weights: Tensor, mask_loss: MaskLoss) -> dict[str, Tensor]:
    """All loss terms of a batch, means over its images.

    Parameters
    ----------
    net : MaskRCNN
        In training mode.
    image : float tensor, (n, c, y, x)
        After the intensity rule.
    labels : int64 tensor, (n, y, x)
        Cells.
    weights : float tensor, (n, y, x)
        Weight of each pixel in the mask loss.
    mask_loss : callable
        Scores, truth and weights (k, MASK, MASK) to k losses.
    """
    features = net.features(image)
    with torch.autocast(image.device.type, enabled=False):
        each = [
            of_image(net, {k: v[i : i + 1] for k, v in features.items()}, truth_of(labels[i]), weights[i], mask_loss)
            for i in range(len(image))
        ]
    return {name: torch.stack([terms[name] for terms in each]).mean() for name in each[0]}


def of_image(
    net: MaskRCNN, features: Features, truth: dict[str, Tensor], weights: Tensor, mask_loss: MaskLoss
) -> dict[str, Tensor]:
    """Loss terms of one image: of the proposals, of the boxes' heads and of the masks of true cells."""
    size = (weights.shape[0], weights.shape[1])
    images = ImageList(weights[None, None], [size])
    proposals, first = net.rpn(images, features, [truth])
    heads = net.roi_heads
    chosen, matched, classes, offsets = heads.select_training_samples(proposals, [truth])
    pooled = heads.box_head(heads.box_roi_pool(features, chosen, [size]))
    of_class, of_box = fastrcnn_loss(*heads.box_predictor(pooled), classes, offsets)
    cells = classes[0] > 0
    return {
        "objectness": first["loss_objectness"],
        "proposals": first["loss_rpn_box_reg"],
        "class": of_class,
        "box": of_box,
        "mask": of_masks(net, features, truth["masks"], weights, chosen[0][cells], matched[0][cells], mask_loss),
    }


def of_masks(
    net: MaskRCNN,
    features: Features,
    truth: Tensor,
    weights: Tensor,
    boxes: Tensor,
    cells: Tensor,
    mask_loss: MaskLoss,
) -> Tensor:
    """Mean loss of the masks on boxes, each with the number of its true cell; truth and weights are cropped alike."""
    scores = mask_scores(net.roi_heads, features, boxes, (weights.shape[0], weights.shape[1]))
    if len(boxes) == 0:
        return scores.sum()
    wanted = on_boxes(truth.float()[:, None], cells, boxes)
    return mask_loss(scores, wanted, on_boxes(weights[None, None], torch.zeros_like(cells), boxes)).mean()


def mask_scores(heads: Any, features: Features, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of the class of cells before the sigmoid, (n, MASK, MASK)."""
    pooled = heads.mask_roi_pool(features, [boxes], [size])
    scores: Tensor = heads.mask_predictor(heads.mask_head(pooled))[:, 1]
    return scores


def on_boxes(images: Tensor, which: Tensor, boxes: Tensor) -> Tensor:
    """Means of images (k, 1, y, x) over the cells of a MASK × MASK grid on each box, (n, MASK, MASK)."""
    regions = torch.cat([which[:, None].to(boxes.dtype), boxes], dim=1)
    found: Tensor = roi_align(images, regions, (MASK, MASK), aligned=True)[:, 0]
    return found


def detected(net: MaskRCNN, images: Tensor, *, proposals: int, detections: int) -> list[Found]:
    """Cells of each image (n, c, y, x); boxes are rounded to whole px before their masks are predicted.

    Parameters
    ----------
    net : MaskRCNN
        In evaluation mode.
    images : float tensor, (n, c, y, x)
        After the intensity rule; y and x are multiples of 64.
    proposals, detections : int
        Most for each image.

    Raises
    ------
    NotFiniteError
        For features or scores with NaN or infinities, of which no cell would be found.
    """
    features = net.features(images)
    for name, values in features.items():
        check_finite(f"features {name}", values)
    size = (images.shape[2], images.shape[3])
    rpn = proposer(net.anchors, net.rpn.head, limit=proposals, least=LEAST).eval()
    with torch.autocast(images.device.type, enabled=False):
        each = [{name: values[i : i + 1] for name, values in features.items()} for i in range(len(images))]
        found = [
            in_image(net, rpn, one, size, number=i, proposals=proposals, detections=detections)
            for i, one in enumerate(each)
        ]
    for i, one in enumerate(found):
        check_finite("masks", one.masks[None], first=i)
    return found


def in_image(
    net: MaskRCNN, rpn: Any, features: Features, size: tuple[int, int], *, number: int, proposals: int, detections: int
) -> Found:
    """Cells of one image, the number-th of a batch."""
    heads = net.roi_heads
    regions, _ = rpn(ImageList(features["0"].new_zeros(1, 1, *size), [size]), features)
    pooled = heads.box_head(heads.box_roi_pool(features, regions, [size]))
    box_scores, offsets = heads.box_predictor(pooled)
    check_finite("scores", box_scores[None], first=number)
    boxes, scores, _ = (found[0] for found in heads.postprocess_detections(box_scores, offsets, regions, [size]))
    full = {"proposals": len(regions[0]) >= proposals, "detections": len(boxes) > detections}
    boxes, scores = boxes[:detections].round(), scores[:detections]
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    masks = [torch.sigmoid(mask_scores(heads, features, part, size)) for part in boxes.split(CHUNK)]
    return Found(boxes=boxes[:, [1, 0, 3, 2]].long(), scores=scores, masks=torch.cat(masks), full=full)
