"""What `fit_statistics` fits, what it must leave alone, and on which pixels classes are counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cellscale.methods import METHODS, load_method, settings_of
from cellscale.methods.parts.class_balance import Balance
from cellscale.settings.fields import replaced, unfitted
from cellscale.testing.cases import FRAMES
from cellscale.training.run import fitted_to
from cellscale.training.settings import TrainingSettings

LABELS = [labels for _, labels in FRAMES]


def other(value: float) -> float:
    """Another value of the same type, as a user may ask for."""
    if isinstance(value, list):
        return [part + 1 for part in value]
    return value + 1


@pytest.mark.parametrize("name", METHODS)
def test_a_setting_that_was_given_is_not_fitted_over(name: str) -> None:
    method: Any = load_method(name)
    fitted = method.fit_statistics(LABELS)
    found, before = settings_of(fitted), settings_of(method)
    asked = {key: other(value) for key, value in found.items() if value != before[key]}
    kept = settings_of(replaced(method, asked).fit_statistics(LABELS))
    assert {key: kept[key] for key in asked} == asked
    assert unfitted(fitted) == method
    assert fitted.fit_statistics(LABELS[:1]) == fitted


def test_equation_3_as_printed_can_be_asked_for() -> None:
    saw: Any = load_method("saw", unit=1.0, exponent=1.0, class_counts=[9, 3, 1]).fit_statistics(LABELS)
    assert saw.weighting.unit == 1.0
    flat = dataclasses.replace(saw, weighting=dataclasses.replace(saw.weighting, unit=2.0))
    balance = np.array([1 / 9, 1 / 3, 1], np.float32)
    one, two = (method.targets(LABELS[0]) for method in (saw, flat))
    np.testing.assert_allclose(two["weight"] - one["weight"], one["weight"] - balance[one["classes"]], atol=1e-6)


@pytest.mark.parametrize("name", ["unet3", "focal", "dwm", "saw"])
def test_a_class_that_never_occurs_changes_no_weight_of_the_others(name: str) -> None:
    """Two cells far apart: nothing is touching, and a pixel of it that a crop makes counts nothing."""
    labels = np.zeros((60, 60), np.uint32)
    labels[5:15, 5:15], labels[40:55, 40:55] = 1, 2
    method: Any = load_method(name).fit_statistics([labels])
    assert method.class_counts[2] == 0
    weights = method.balance.of(method.class_counts)
    assert weights.tolist() == pytest.approx([np.sqrt(325 / 3275), 1, 0])


def test_without_any_cell_background_still_counts() -> None:
    empty = [np.zeros((20, 20), np.uint32)]
    for name in ("unet-ronneberger", "deepsplit", "unet-binary", "maskrcnn", "unet3"):
        weight: Any = load_method(name).fit_statistics(empty).targets(empty[0])["weight"]
        assert (weight == 1).all()


def test_a_balance_has_a_mean_and_a_ratio() -> None:
    assert Balance().ratio(300, 100) == pytest.approx(3)
    assert Balance(exponent=0.5).ratio(400, 100) == pytest.approx(2)
    assert Balance(cap=2).ratio(300, 100) == pytest.approx(2)
    assert Balance().ratio(300, 0) == 1
    assert Balance().mean((90, 0, 10)) == pytest.approx(0.2)
    assert Balance(exponent=0).mean((90, 0, 10)) == 1


def test_classes_are_counted_on_the_crops_that_training_sees() -> None:
    """In a frame that is nearly empty, samples around cells have other shares than the frame."""
    image, labels = np.zeros((1, 300, 300), np.uint8), np.zeros((300, 300), np.uint32)
    labels[100:120, 100:120] = 1
    frames: Any = [(image, labels)]
    how: dict[str, Any] = {"steps": 8, "batch_size": 4, "crop": 64, "loader_workers": 0}
    around = TrainingSettings(**how, foreground_fraction=1.0)
    for settings, least, most in ((TrainingSettings(**how), 0.0, 0.03), (around, 0.05, 0.12)):
        method: Any = fitted_to(load_method("unet-ronneberger"), frames, settings, lambda *done: None)
        assert sum(method.class_counts) == 8 * 4 * 64**2
        assert least <= method.class_counts[1] / sum(method.class_counts) <= most
