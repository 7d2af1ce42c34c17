"""Torchvision's weights for a Mask R-CNN: download, loading of the tensors that fit, and a report."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from cellscale.errors import InputError, MissingError

log = logging.getLogger("cellscale")
DOWNLOADS = ("coco", "imagenet")
"""Weights that torchvision offers for download."""
EXPECTED = "Expected torchvision's weights of maskrcnn_resnet50_fpn (COCO) or resnet50 (ImageNet), a .pth file"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Tensors of a file that were loaded into a network, and those that were not."""

    taken: tuple[str, ...]
    """The network's tensors that have the file's values."""
    other_shape: tuple[str, ...]
    """Those that keep their fresh values because the file's have another shape."""
    fresh: tuple[str, ...]
    """Those that the file does not have."""
    left: tuple[str, ...]
    """The file's tensors that the network does not have."""

    def __str__(self) -> str:
        """All of it in a sentence, parts by the first names of their tensors."""
        whole = len(self.taken) + len(self.other_shape) + len(self.fresh)
        rest = {"of another shape": self.other_shape, "not in the file": self.fresh, "left in the file": self.left}
        told = "; ".join(f"{len(names)} {what}: {', '.join(parts(names))}" for what, names in rest.items() if names)
        return f"took {len(self.taken)} of {whole} tensors" + (f" ({told})" if told else "")


def parts(names: Iterable[str]) -> list[str]:
    """Names of tensors without what comes after their layer."""
    return list(dict.fromkeys(".".join(name.split(".")[:3]) for name in names))


def load_fitting(net: nn.Module, weights: Mapping[str, Tensor]) -> Loaded:
    """Load the tensors whose names and shapes fit, of a Mask R-CNN or of its ResNet-50 alone.

    Names of older torchvisions are translated: its layers do so when they are handed tensors without a version. Numbers
    of batches say nothing where BatchNorm is frozen, and are not counted.
    """
    own = net.state_dict()
    of_backbone = not any(name.startswith("backbone.") for name in weights)
    named = {f"backbone.body.{name}": values for name, values in weights.items()} if of_backbone else dict(weights)
    named = {name: values for name, values in named.items() if not name.endswith("num_batches_tracked")}
    other = {name for name, values in named.items() if name in own and own[name].shape != values.shape}
    found = net.load_state_dict({name: values for name, values in named.items() if name not in other}, strict=False)
    missing = {name for name in found.missing_keys if not name.endswith("num_batches_tracked")}
    counted = [name for name in own if not name.endswith("num_batches_tracked")]
    return Loaded(
        taken=tuple(name for name in counted if name not in missing),
        other_shape=tuple(name for name in counted if name in other),
        fresh=tuple(name for name in counted if name in missing - other),
        left=tuple(found.unexpected_keys),
    )


def downloaded(name: str) -> Mapping[str, Tensor]:
    """Torchvision's weights "coco" or "imagenet", kept in torch's cache.

    Raises
    ------
    MissingError
        If they are not in the cache and cannot be downloaded.
    """
    weights = MaskRCNN_ResNet50_FPN_Weights.COCO_V1 if name == "coco" else ResNet50_Weights.IMAGENET1K_V2
    try:
        found: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"The weights {name!r} cannot be downloaded from {weights.url}: {error}. Download the file where there is "
            "a network, and set weights to its path."
        ) from error
    return found


def pretrained(networks: Mapping[str, nn.Module], source: str) -> None:
    """Start from torchvision's weights, where names and shapes fit, and log which do.

    Parameters
    ----------
    networks : mapping of str to nn.Module
        The Mask R-CNN.
    source : str
        "coco", "imagenet", or a file.

    Raises
    ------
    MissingError
        If there is no such file, or nothing to download from.
    InputError
        If nothing in it fits.
    """
    if source in DOWNLOADS:
        weights = downloaded(source)
    elif Path(source).is_file():
        weights = torch.load(source, map_location="cpu", weights_only=True)
    else:
        raise MissingError(f"No weights at {source!r}. {EXPECTED}, or one of {', '.join(DOWNLOADS)}.")
    loaded = load_fitting(networks["mask_rcnn"], weights)
    if not loaded.taken:
        raise InputError(f"{source!r} holds nothing that fits. {EXPECTED}.")
    log.info("%s: %s", source, loaded)
