from pathlib import Path

import pytest

from cellscale.errors import InputError, MissingError
from cellscale.methods import load_method
from cellscale.settings.fields import flat
from cellscale.settings.files import assignments, read_config
from cellscale.training.settings import TrainingSettings

FIELDS = {"method": flat(load_method("saw")), "training": flat(TrainingSettings())}


def test_assignments_go_over_the_file_and_find_their_section(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[training]\nsteps = 5\ncrop = 64\n[method]\nwidth = 8\n")
    found = read_config(str(tmp_path / "c.toml"), {"steps": 7, "unet.depth": 2, "method.gamma1": 0.25}, FIELDS)
    assert found.section("training") == {"steps": 7, "crop": 64}
    assert found.section("method") == {"width": 8, "unet.depth": 2, "gamma1": 0.25}
    assert found.section("engine") == {}


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("[trainig]\n", MissingError, "'training'"),
        ("steps = 3\n", MissingError, "steps"),
        ("[", InputError, "not valid TOML"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, error: type[Exception], hint: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(error, match=hint):
        read_config(str(tmp_path / "c.toml"), {}, FIELDS)


@pytest.mark.parametrize("text", ["steps = " + "9" * 5000, "a=" + "[" * 100_000, "\0"])
def test_a_file_by_a_stranger_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(InputError, match=r"c\.toml is not valid TOML: [^\n]{1,200}$"):
        read_config(str(tmp_path / "c.toml"), {}, FIELDS)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_a_value_that_no_parser_takes_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="Setting 'steps' is not a valid TOML value"):
        assignments([f"steps={value}"])


def test_words_that_assign_nothing_and_unknown_settings_are_refused() -> None:
    with pytest.raises(InputError, match="KEY=VALUE"):
        assignments(["width"])
    with pytest.raises(MissingError, match="'width'"):
        read_config(None, {"widht": 3}, FIELDS)
    with pytest.raises(MissingError, match="does not exist"):
        read_config("none.toml", {}, FIELDS)


def test_a_setting_is_found_by_its_full_name_before_the_last_part_of_another() -> None:
    fields = {"method": flat(load_method("ribcage")), "training": flat(TrainingSettings())}
    # "training" is a section and the name of a field of this method.
    assert read_config(None, {"training.game.noise": 0.5}, fields).section("method") == {"training.game.noise": 0.5}
    assert read_config(None, {"training.steps": 7}, fields).section("training") == {"steps": 7}
    calt_us = fields | {"method": flat(load_method("calt-us"))}
    assert read_config(None, {"seed": 3}, calt_us).section("training") == {"seed": 3}


@pytest.mark.parametrize(
    ("method", "name"), [("deepsplit", "schedule"), ("maskrcnn", "patience"), ("ribcage", "noise")]
)
def test_a_setting_of_two_sections_needs_the_section(method: str, name: str) -> None:
    fields = {"method": flat(load_method(method)), "training": flat(TrainingSettings())}
    with pytest.raises(InputError, match=f"Setting '{name}' .* give 'method.{name}' or 'training.{name}'"):
        read_config(None, {name: 1}, fields)
    assert read_config(None, {f"training.{name}": 1}, fields).section("training") == {name: 1}
