"""Weights of the methods with a touching class, beyond conformance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellscale.kernels.weights import distance_weights
from cellscale.methods import load_method
from cellscale.testing.cases import CASES


def test_distance_weights_as_a_sum_leave_no_background_without_weight() -> None:
    labels = np.pad(CASES["two touching"], 60)
    methods: list[Any] = [load_method("dwm", form=form).fit_statistics([labels]) for form in ("product", "sum")]
    product, total = methods
    found = [method.targets(labels) for method in (product, total)]
    balance = product.balance.of(product.class_counts)[found[0]["classes"]]
    decay = distance_weights(found[0]["classes"] > 0, beta=30)
    np.testing.assert_allclose(found[0]["weight"], balance * decay, rtol=1e-6)
    np.testing.assert_allclose(found[1]["weight"], balance + np.float32(total.weighting.unit) * decay, rtol=1e-6)
    assert found[0]["weight"].min() == 0
    assert found[1]["weight"].min() > 0
    assert total.weighting.unit == pytest.approx(product.balance.mean(product.class_counts))
