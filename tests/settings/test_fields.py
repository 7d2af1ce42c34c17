from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

import pytest

from cellscale.errors import CellscaleError, InputError, MissingError
from cellscale.methods import METHODS, load_method, settings_of
from cellscale.settings.fields import fitting, flat, replaced
from cellscale.training.settings import TrainingSettings


def test_an_unknown_method_lists_the_known_ones_and_suggests_the_nearest() -> None:
    with pytest.raises(MissingError, match=r"Unknown method 'sow'\. Did you mean 'saw'\? Known: .*dwm, focal, .*saw"):
        load_method("sow")


def test_an_unknown_setting_suggests_the_nearest() -> None:
    with pytest.raises(MissingError, match=r"Unknown setting 'widht'\. Did you mean 'width'\?"):
        load_method("saw", widht=8)


def test_a_setting_of_another_weighting_is_unknown() -> None:
    with pytest.raises(MissingError, match="beta"):
        load_method("saw", beta=10)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"width": "wide"}, "'width' expects a whole number, got 'wide'"),
        ({"width": 8.5}, "'width' expects a whole number, got 8.5"),
        ({"width": True}, "'width' expects a whole number, got True"),
        ({"propagate": "outside"}, "'propagate' expects 'inside' or 'both', got 'outside'"),
        ({"norm": 1}, "'norm' expects true or false, got 1"),
        ({"sigma": "wide"}, "'sigma' expects a number, got 'wide'"),
        ({"class_counts": "1"}, "'class_counts' expects a list of whole numbers, got '1'"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused(settings: Any, expected: Any) -> None:
    with pytest.raises(InputError, match=expected):
        load_method("saw", **settings)


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("saw", {"learning_rate": -1.0}, "'learning_rate' is -1.0; expected at least 0"),
        ("saw", {"offset": -1}, "'offset' is -1.0; expected at least 0"),
        ("saw", {"minimum_area": -5}, "'minimum_area' is -5; expected at least 0"),
        ("saw", {"channels": 0}, "'channels' is 0; expected at least 1"),
        ("saw", {"dropout": 1.0}, "'dropout' is 1.0; expected a share of at least 0 and below 1"),
        ("l2s", {"reach": -1}, "'reach' is -1; expected at least 0"),
        ("ribcage", {"final_noise": -2.0}, "'final_noise' is -2.0; expected at least -1.0"),
        ("unet-ronneberger", {"threshold": 128}, "'threshold' is 128.0; expected at most 1.0"),
        ("saw", {"gamma1": 1.01}, "'gamma1' is 1.01; expected at most 1.0"),
        ("saw", {"tau_percentile": 101}, "'tau_percentile' is 101.0; expected at most 100.0"),
        ("focal", {"warm_up": 1.5}, "'warm_up' is 1.5; expected at most 1.0"),
        ("maskrcnn", {"score": 50}, "'score' is 50.0; expected at most 1.0"),
        ("ribcage", {"smoothing": 2.0}, "'smoothing' is 2.0; expected at most 0.5"),
        ("deepsplit", {"stage_one": 1.5}, "'stage_one' is 1.5; expected a share above 0 and below 1"),
        ("deepsplit", {"stage_one": 0.0}, "'stage_one' is 0.0; expected a share above 0 and below 1"),
        ("maskrcnn", {"backbone": "resnet50", "channels": 2}, "'channels' is 2 .* expected 1 or 3, grey or colour"),
        ("multicellnet", {"classes": 1}, "'classes' is 1; expected at least 2"),
        ("multicellnet", {"levels": [200, 100]}, r"'levels' is \[200, 100\]; expected ascending thresholds"),
        ("multicellnet", {"levels": [100, 300]}, r"'levels' is \[100, 300\]; expected .* from 1 to 255"),
        ("multicellnet", {"full": 0.0}, "'full' is 0.0; expected more than 0"),
        ("multicellnet", {"sigma": 0.0}, "'sigma' is 0.0 px; expected more than 0"),
    ],
)
def test_a_number_outside_its_range_is_refused(method: str, settings: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_method(method, **settings)


@pytest.mark.parametrize("name", ["gamma", "contrast", "scale", "elastic_spacing"])
def test_an_augmentation_by_a_factor_of_0_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is 0.*; expected at least 1"):
        replaced(TrainingSettings(), {f"augmentation.{name}": 0})


def test_a_negative_number_may_stand_for_none() -> None:
    found: Any = load_method("ribcage", final_noise=-1.0, least_agreement=-1.0), load_method("mu-lux", radius=-1)
    assert (found[0].training.game.final_noise, found[1].markers.radius) == (-1.0, -1)


@pytest.mark.parametrize("seed", [-1, 2**31, 3_000_000_000])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match=f"Setting 'seed' is {seed}; expected at least 0"):
        replaced(TrainingSettings(), {"seed": seed})


def test_a_setting_of_several_types_names_them_all() -> None:
    hint = bool | Literal["auto", "never"] | None
    assert [fitting(value, hint, "flips") for value in (True, "auto", None)] == [True, "auto", None]
    for wrong in (1, "on"):
        expected = f"'flips' expects true or false or 'auto' or 'never' or None, got {wrong!r}"
        with pytest.raises(InputError, match=expected):
            fitting(wrong, hint, "flips")


def test_whole_numbers_become_floats_and_lists_tuples() -> None:
    method: Any = load_method("saw", sigma=4, class_counts=[1, 2, 3])
    assert isinstance(method.weighting.sigma, float)
    assert method.class_counts == (1, 2, 3)


def test_short_and_full_names_set_the_same_field() -> None:
    assert load_method("dwm", width=8) == load_method("dwm", **{"unet.width": 8})


def test_a_method_outside_the_package_is_imported_by_its_place() -> None:
    assert load_method("cellscale.methods.shape_aware_weights:SAW").name == "saw"
    assert load_method("cellscale.methods.border_weights:BorderWeightedUNet").name == "unet-ronneberger"


@pytest.mark.parametrize("name", ["cellscale.nowhere:SAW", "cellscale.methods.shape_aware_weights:SEW"])
def test_a_method_that_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(MissingError, match="cannot be imported"):
        load_method(name)


@pytest.mark.parametrize("name", METHODS)
def test_settings_survive_json(name: str) -> None:
    changes = {"width": 5, "minimum_area": 17, "channels": 2, "high": 99.5}
    known = {full.rpartition(".")[2] for full in flat(load_method(name))}
    method: Any = load_method(name, **{key: value for key, value in changes.items() if key in known})
    settings = json.loads(json.dumps(settings_of(method)))
    assert load_method(name, **settings) == method
    assert method.intensity.high == 99.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    first: Inner = dataclasses.field(default_factory=Inner)
    second: Inner = dataclasses.field(default_factory=Inner)
    limit: float | None = None


def test_a_short_name_of_two_fields_is_refused() -> None:
    with pytest.raises(InputError, match=r"one of first\.size, second\.size"):
        replaced(Outer(), {"size": 2})


def test_fields_have_dotted_names_and_options_may_be_none() -> None:
    changed = replaced(Outer(), {"second.size": 3, "limit": 2})
    assert flat(changed) == {"first.size": 1, "second.size": 3, "limit": 2.0}
    assert replaced(changed, {"limit": None}).limit is None
    with pytest.raises(CellscaleError, match="'limit' expects"):
        replaced(changed, {"limit": "none"})
