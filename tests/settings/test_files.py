from pathlib import Path

import pytest

from cellscale.errors import InputError, MissingError
from cellscale.methods import load_method
from cellscale.settings.fields import replaced
from cellscale.settings.files import assignments, names_of, read_config
from cellscale.training.settings import TrainingSettings

FIELDS = {"method": names_of(load_method("saw")), "training": names_of(TrainingSettings())}


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


@pytest.mark.parametrize(
    ("old", "new"), [("average", "ema_decay"), ("training.clip", "max_grad_norm"), ("unknown", "ignore_label")]
)
def test_the_former_name_of_a_setting_is_an_error_that_names_the_new_one(old: str, new: str) -> None:
    with pytest.raises(InputError, match=f"is now called '{new}'"):
        replaced(TrainingSettings(), read_config(None, {old: 1}, FIELDS).section("training"))


def test_the_former_names_of_a_model_s_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"'cleaning.specks' is now called 'min_object_px'.* and one more"):
        load_method("deepsplit", **{"cleaning.specks": 8})
