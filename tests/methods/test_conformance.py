"""Every method keeps what `cellscale.testing.conformance` checks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cellscale.methods import METHODS, load_method
from cellscale.methods.protocol import Method
from cellscale.settings.fields import replaced
from cellscale.testing import conformance
from cellscale.testing.cases import FRAMES
from tests.support.variants import SMALL, TINY

GAMES = ("ribcage", "classdisc")
"""Methods that train on pairs of samples, longer and on other crops; noise is drawn for the whole batch."""
LONGER = dataclasses.replace(conformance.QUICK, steps=100, crop=53)
SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{schedule} {name}": (name, {"schedule": schedule, "dropout": 0.05})
    for name in ("deepsplit", "branchnet", "double-unet")
    for schedule in ("cumulative", "simultaneous")
}
OWN_TESTS = {"maskrcnn"}
"""Methods without maps: tests/methods/test_shape_aware_loss.py holds them to what applies."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {}) for name in METHODS if f"cumulative {name}" not in SCHEDULES and name not in OWN_TESTS
} | SCHEDULES


def responses_of(forest: Any) -> conformance.Subject:
    """A forest with the responses that it compares with its thresholds, as maps."""

    def responses(window: Tensor) -> dict[str, Tensor]:
        planes = forest.features(window[0].numpy())
        return {str(i): torch.from_numpy(plane[None]) for i, plane in enumerate(planes)}

    return conformance.Subject(method=forest, responses=responses)


def subject_of(method: Method) -> conformance.Subject:
    if method.name == "pixel-forest":
        return responses_of(method)
    if method.name in GAMES:
        return conformance.Subject(method=method, training=LONGER, samples_together=2)
    return conformance.Subject(method=method)


@pytest.fixture(params=VARIANTS)
def subject(request: pytest.FixtureRequest) -> conformance.Subject:
    """Every method and schedule, small, with the statistics of the frames."""
    name, settings = VARIANTS[request.param]
    method: Any = load_method(name, **SMALL.get(name, TINY), **settings).fit_statistics(labels for _, labels in FRAMES)
    return subject_of(method)


@conformance.each_check
def test_every_method(subject: conformance.Subject, check: conformance.Check) -> None:
    if subject.method.name in GAMES and check is conformance.check_sample_means:
        subject = dataclasses.replace(subject, method=replaced(subject.method, {"noise": 0.0}))
    check(subject)


@pytest.mark.parametrize("variant", ["unet3", "cumulative deepsplit", "ribcage-ce", "pixel-forest"])
@settings(max_examples=4, deadline=None)
@given(
    shape=st.tuples(st.integers(20, 110), st.integers(30, 110)),
    window_size=st.integers(24, 120),
    tile_size=st.integers(20, 120),
)
def test_labels_depend_on_neither_window_nor_tile(
    variant: str, shape: tuple[int, int], window_size: int, tile_size: int
) -> None:
    name, chosen = VARIANTS[variant]
    method: Any = load_method(name, **SMALL.get(name, TINY), **chosen)
    subject = conformance.Subject(method=method)
    conformance.check_windows(subject, shape=shape, window_size=window_size, tile_size=tile_size)
