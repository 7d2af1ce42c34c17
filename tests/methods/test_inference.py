from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from cellscale.errors import InputError
from cellscale.methods import inference, load_method
from cellscale.methods.inference import Precision, fuse_batchnorm, stored
from cellscale.models.model import tensors

windows_to_maps: Any = inference.windows_to_maps


@pytest.fixture
def method() -> Any:
    return load_method("saw", width=4, depth=2)


@pytest.fixture
def networks(method: Any) -> Any:
    torch.manual_seed(0)
    return method.networks()


def windows(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, 1, 32, 48)).astype(np.float32)


def test_probabilities_are_rounded_to_whole_numbers() -> None:
    values = torch.tensor([[[0.0, 0.5 / 255 - 1e-6, 0.5 / 255 + 1e-6, 0.998, 1.0]]])
    (found,) = stored({"cell": values})
    assert found["cell"].dtype == np.uint8
    assert found["cell"].tolist() == [[0, 0, 1, 254, 255]]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_maps_have_the_windows_size_and_the_methods_names(
    method: Any, networks: dict[str, Any], precision: Precision
) -> None:
    found = windows_to_maps(method, networks, windows(3), precision=precision)
    assert [{name: values.shape for name, values in maps.items()} for maps in found] == [
        {"cell": (32, 48), "touching": (32, 48)}
    ] * 3


def test_a_prediction_draws_nothing_and_leaves_the_statistics(method: Any, networks: dict[str, Any]) -> None:
    before = {key: value.clone() for key, value in networks["unet"].train().state_dict().items()}
    first, second = (
        windows_to_maps(method, networks, windows(2), precision="fp32", placed=placed) for placed in (False, True)
    )
    assert all(np.array_equal(a["cell"], b["cell"]) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(value, before[key]) for key, value in networks["unet"].state_dict().items())


def test_bf16_is_near_fp32(method: Any, networks: dict[str, Any]) -> None:
    (exact,), (near,) = (windows_to_maps(method, networks, windows(1), precision=p) for p in ("fp32", "bf16"))
    difference = np.abs(exact["cell"].astype(int) - near["cell"])
    assert 0 < difference.max() < 20


def test_flips_make_a_prediction_that_turns_with_its_window(method: Any, networks: dict[str, Any]) -> None:
    window = windows(1)
    (found,) = windows_to_maps(method, networks, window, precision="fp32", flips=True)
    (turned,) = windows_to_maps(method, networks, window[..., ::-1, :].copy(), precision="fp32", flips=True)
    (plain,) = windows_to_maps(method, networks, window, precision="fp32")
    assert abs(found["cell"].astype(int) - turned["cell"][::-1]).max() <= 1
    assert abs(found["cell"].astype(int) - plain["cell"]).max() > 1


def test_candidates_have_no_flips() -> None:
    method: Any = load_method("maskrcnn", width=4)
    with pytest.raises(InputError, match=r"predicts candidates, which have no mean\. Set test_time_flips=false"):
        windows_to_maps(method, method.networks(), np.zeros((1, 1, 64, 64), np.float32), flips=True)


@pytest.mark.parametrize("name", ["saw", "unet-binary", "deepsplit", "multicellnet", "ribcage-ce"])
def test_fused_networks_compute_the_same_without_batchnorm(name: str) -> None:
    torch.manual_seed(0)
    method: Any = load_method(name)
    networks = method.networks()
    for layer in (part for network in networks.values() for part in network.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 2)
    before = {key: value.clone() for key, value in tensors(networks).items()}
    found = fuse_batchnorm(networks)
    assert not any(isinstance(part, nn.BatchNorm2d) for network in found.values() for part in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in tensors(networks).items())
    plain = {key: network.eval() for key, network in networks.items()}
    with torch.inference_mode():
        image = torch.rand(1, 1, 96, 96)
        values, expected = method.predict(found, image), method.predict(plain, image)
    for key in method.maps:
        torch.testing.assert_close(values[key], expected[key], rtol=1e-3, atol=1e-4)
