"""A U-Net made wider without a change of its output, so that more training goes on from what it has learned.

    python benchmarks/wider_unet.py nuclei 24 wider

New features get fresh weights, and the old ones read nothing from them: their weights there are zero, and grow with
training. After Chen, Goodfellow and Shlens, Net2Net (ICLR 2016), who copy features instead.
"""

import argparse
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cellscale.models.model import Model, load_model, restore, save_model, tensors
from cellscale.settings.fields import replaced


def places(old: int, new: int, parts: int) -> Tensor:
    """Features of the old network among those of the new one, of which `parts` are concatenated."""
    return torch.cat([torch.arange(old // parts) + part * (new // parts) for part in range(parts)])


def filled(fresh: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The fresh weights of a wide U-Net with those of a narrow one of the same depth among them."""
    made = {name: values.clone() for name, values in fresh.items()}
    for name, values in old.items():
        if values.ndim == 4:  # a convolution, (outputs, inputs, y, x); a transposed one, (inputs, outputs, y, x)
            into = 0 if name.startswith("unet.up.") else 1
            target, source = (weights.movedim(into, 0) for weights in (made[name], values))
            target[:, : source.shape[1]] = 0
            # The first convolution of a block on the way up reads the skip and the features from below.
            parts = 2 if re.fullmatch(r"unet\.merge\.\d+\.0\.weight", name) else 1
            target[places(len(source), len(target), parts), : source.shape[1]] = source
        elif values.ndim == 1:
            made[name][: len(values)] = values
    return made


def wider(model: Model, width: int) -> Model:
    """The model with a U-Net of this width and the same output; repeatable."""
    torch.manual_seed(0)
    method = replaced(model.method, {"unet.width": width})
    networks = method.networks()
    restore(networks, filled(tensors(networks), tensors(model.networks)))
    return replace(model, method=method, networks=networks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("width", type=int)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    save_model(wider(load_model(given.model), given.width), given.output)


if __name__ == "__main__":
    main()
