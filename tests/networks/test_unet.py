from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cellscale.networks.unet import UNet, UNetShape, block, unet_reach
from cellscale.testing.reach import measured_reach


def exact(network: Any) -> Callable[[Tensor], Any]:
    """Predict in double precision, so that small influences are not rounded away."""
    network = network.double().eval()

    def predict(window: Tensor) -> dict[str, Any]:
        with torch.inference_mode():
            return {"scores": network(window.double())[:, 0]}

    return predict


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("norm", [False, True])
def test_the_computed_reach_is_the_measured_one(depth: int, norm: bool) -> None:
    torch.manual_seed(depth)
    network = UNet(1, 2, width=4, depth=depth, norm=norm)
    reach = unet_reach(depth)
    assert measured_reach(exact(network), channels=1, multiple=2**depth, radius=reach + 4) == reach


def test_reach_of_two_convolutions_at_four_poolings_by_hand() -> None:
    assert [unet_reach(d) for d in range(5)] == [2, 9, 23, 51, 107]
    assert UNetShape(depth=4).reach == 107


def test_a_window_cut_out_of_a_frame_predicts_the_same_pixels() -> None:
    torch.manual_seed(0)
    network, shape = UNet(1, 1, width=4, depth=2).eval(), UNetShape(depth=2)
    halo = -(-shape.reach // shape.multiple) * shape.multiple
    frame = torch.rand(1, 1, 96, 96)
    with torch.inference_mode():
        whole = network(frame)
        part = network(frame[..., 8 : 8 + 2 * halo + 16, 8 : 8 + 2 * halo + 16])
    inner = slice(halo, halo + 16)
    wanted = whole[..., 8 + halo : 24 + halo, 8 + halo : 24 + halo]
    torch.testing.assert_close(part[..., inner, inner], wanted, rtol=0, atol=1e-5)


def test_weights_are_xavier_normal_and_biases_zero() -> None:
    torch.manual_seed(0)
    network = UNet(1, 3, width=16, depth=1, norm=False)
    convolution = network.down[1].get_submodule("0")
    assert isinstance(convolution, torch.nn.Conv2d)
    weights = convolution.weight.detach()
    fan_in, fan_out = 16 * 9, 32 * 9
    assert np.isclose(float(weights.std()), (2 / (fan_in + fan_out)) ** 0.5, rtol=0.05)
    biases = [module.bias for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert not any(bias.any() for bias in biases if bias is not None)


def test_each_pooling_doubles_the_features() -> None:
    network = UNetShape(width=6, depth=3).network(2, 4)
    assert [level.get_submodule("0").out_channels for level in network.down] == [6, 12, 24, 48]
    assert network(torch.zeros(1, 2, 16, 24)).shape == (1, 4, 16, 24)


def test_dropout_is_drawn_in_training_alone() -> None:
    torch.manual_seed(0)
    layers = block(1, 32, dropout=0.5)
    image = torch.rand(1, 1, 8, 8)
    dropped = (layers.train()(image).sum((0, 2, 3)) == 0).sum()
    assert dropped > 5
    assert torch.equal(layers.eval()(image), layers.eval()(image))
