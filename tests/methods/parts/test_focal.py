"""The focal loss where p is 0, 1 and between."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellscale.methods.parts.focal import focal

SCORES = (-100.0, -30.0, -8.0, 0.0, 1.0, 8.0, 30.0, 100.0)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
def test_value_and_gradient_are_the_formulas_at_certain_pixels_too(gamma: float) -> None:
    scores = torch.tensor(SCORES, requires_grad=True)
    found = focal(torch.nn.functional.softplus(-scores), gamma)
    found.sum().backward()  # type: ignore[no-untyped-call]
    x = np.array(SCORES)
    surprise, p, wrong = np.logaddexp(0, -x), np.exp(-np.logaddexp(0, -x)), np.exp(-np.logaddexp(0, x))
    np.testing.assert_allclose(found.detach(), wrong**gamma * surprise, rtol=1e-4, atol=1e-30)
    # d/dx (1 − p)^γ (−log p) with dp/dx = p (1 − p)
    slope = -(wrong**gamma) * (gamma * p * surprise + wrong)
    assert scores.grad is not None
    np.testing.assert_allclose(scores.grad, slope, rtol=1e-4, atol=1e-6)
