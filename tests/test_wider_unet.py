"""The benchmark script that makes a U-Net wider."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from cellscale.methods import load_method
from cellscale.models.model import Model, digest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_a_wider_u_net_has_the_same_output_and_learns_with_all_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    wider = importlib.import_module("wider_unet").wider
    method = load_method("unet-ronneberger", width=4, depth=2)
    torch.manual_seed(1)
    model = Model(method=method, networks=method.networks())
    images = torch.rand(2, 1, 32, 48)
    model.networks["unet"].train()(images)  # BatchNorm has statistics of its own
    before = model.networks["unet"].eval()(images)
    made = wider(model, 6)
    assert made.method.unet.width == 6
    assert digest(wider(model, 6)) == digest(made)
    after = made.networks["unet"].eval()(images)
    torch.testing.assert_close(after, before)
    made.networks["unet"].train()(images).square().sum().backward()
    # In two steps every weight has a gradient: at first those of the old features from the new ones, then the latter's.
    torch.optim.SGD(made.networks["unet"].parameters(), 0.01).step()
    made.networks["unet"].zero_grad()
    made.networks["unet"](images).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for name, p in made.networks["unet"].named_parameters() if p.ndim == 4)
