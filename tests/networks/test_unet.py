from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cellscale.networks.unet import UNetShape, block, chained_reach, unet_reach
from cellscale.testing.reach import measured_reach


def exact(network: Any) -> Callable[[Tensor], Any]:
    """Predict in double precision, so that small influences are not rounded away."""
    network = network.double().eval()

    def predict(window: Tensor) -> dict[str, Any]:
        with torch.inference_mode():
            return {"scores": network(window.double())[:, 0]}

    return predict


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize(("norm", "up"), [(False, "transposed"), (True, "transposed"), (True, "bilinear")])
def test_the_computed_reach_is_the_measured_one(depth: int, norm: bool, up: Any) -> None:
    torch.manual_seed(depth)
    shape = UNetShape(width=4, depth=depth, norm=norm, up=up)
    network, reach = shape.network(1, 2), unet_reach(depth, up)
    assert shape.reach == reach
    assert measured_reach(exact(network), channels=1, multiple=2**depth, radius=reach + 4) == reach


def test_reach_of_two_convolutions_at_four_poolings_by_hand() -> None:
    assert [unet_reach(d) for d in range(5)] == [2, 9, 23, 51, 107]
    assert UNetShape(depth=4).reach == 107


def test_a_window_cut_out_of_a_frame_predicts_the_same_pixels() -> None:
    torch.manual_seed(0)
    shape = UNetShape(width=4, depth=2)
    network = shape.network(1, 1).eval()
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
    network: Any = UNetShape(width=16, depth=1, norm=False).network(1, 3)
    weights = network.down[1][0].weight.detach()
    fan_in, fan_out = 16 * 9, 32 * 9
    assert np.isclose(float(weights.std()), (2 / (fan_in + fan_out)) ** 0.5, rtol=0.05)
    biases = [module.bias for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(bias is not None and not bias.any() for bias in biases)


def test_each_pooling_doubles_the_features() -> None:
    network: Any = UNetShape(width=6, depth=3).network(2, 4)
    assert [level[0].out_channels for level in network.down] == [6, 12, 24, 48]
    assert network(torch.zeros(1, 2, 16, 24)).shape == (1, 4, 16, 24)


def test_interpolation_has_no_weights_of_its_own() -> None:
    network: Any = UNetShape(width=4, depth=2, up="bilinear").network(1, 2)
    assert not any(isinstance(module, torch.nn.ConvTranspose2d) for module in network.modules())
    assert [level[0].in_channels for level in network.merge] == [24, 12]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_chain_of_interpolating_networks_looks_as_far_as_computed(depth: int) -> None:
    torch.manual_seed(depth)
    shape = UNetShape(width=4, depth=depth, up="bilinear")
    chain = torch.nn.Sequential(shape.network(1, 1), shape.network(1, 1))
    reach = chained_reach(depth, "bilinear")
    found = measured_reach(exact(chain), channels=1, multiple=2**depth, radius=reach + 4)
    assert reach - 2 <= found <= reach


def test_dropout_may_take_single_values() -> None:
    torch.manual_seed(0)
    layers = UNetShape(dropout=0.5, dropped="values", norm=False).block(1, 8).train()
    shares = (layers(torch.rand(1, 1, 32, 32)) == 0).float().mean(dim=(0, 2, 3))
    assert not (shares == 1).all()
    assert torch.unique(shares).numel() > 4


def test_dropout_is_drawn_in_training_alone() -> None:
    torch.manual_seed(0)
    layers = block(1, 32, dropout=0.5)
    image = torch.rand(1, 1, 8, 8)
    dropped = (layers.train()(image).sum((0, 2, 3)) == 0).sum()
    assert dropped > 5
    assert torch.equal(layers.eval()(image), layers.eval()(image))
