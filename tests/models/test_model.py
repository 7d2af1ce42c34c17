from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from cellscale.errors import CellscaleError, DamagedError, InputError, MissingError, StoreError
from cellscale.methods import METHODS, load_method, settings_of
from cellscale.models.model import SHIPPED, Model, digest, load_model, save_model, shipped_models
from cellscale.sources.synthetic import Scene
from cellscale.storage.folder import Folder
from cellscale.training.validation import predicted, scored
from cellscale.types import Box
from tests.support.hostile import mutants

ROOT = Path(__file__).parents[2]
LARGEST_BYTES = 20_000_000
"""The limit on weights in the repository. A U-Net of width 24 has 17.5 MB; with 16-bit weights it would have half."""


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    method: Any = load_method("dwm", width=4, depth=1, gamma1=0.35, high=99.5, class_counts=[9, 5, 1])
    return Model(
        method=method,
        networks=method.networks(),
        pixel_size_um=(0.5, 0.25),
        training={"steps": 7, "validation": {"seg": 0.5}},
    )


def edited(folder: Path, **changes: Any) -> None:
    """Change entries of a model's description."""
    path = Path(folder) / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_model_comes_back_as_it_was(model: Model, tmp_path: Path) -> None:
    save_model(model, f"{tmp_path}/m")
    found = load_model(f"{tmp_path}/m")
    assert (found.method, found.pixel_size_um, found.training) == (model.method, (0.5, 0.25), model.training)
    assert digest(found) == digest(model)
    assert not found.networks["unet"].training
    for key, value in model.networks["unet"].state_dict().items():
        assert torch.equal(found.networks["unet"].state_dict()[key], value)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["model.json", "weights.safetensors"]


@pytest.mark.parametrize(
    ("training", "flips"),
    [
        ({}, False),
        ({"settings": None}, False),
        ({"settings": {"test_time_flips": 1}}, False),
        ({"settings": {"test_time_flips": True, "steps": 5}}, True),
    ],
)
def test_a_model_says_whether_its_thresholds_are_for_flips(model: Model, training: dict[str, Any], flips: bool) -> None:
    found = dataclasses.replace(model, training=training)
    assert found.test_time_flips == flips
    assert [found.with_flips(asked).test_time_flips for asked in (False, True)] == [False, True]
    assert found.training == training
    assert set(found.with_flips(True).training) == {*training, "settings"}


def test_a_model_in_an_object_store_comes_back(model: Model) -> None:
    save_model(model, "memory://bucket/models/m")
    assert digest(load_model("memory://bucket/models/m")) == digest(model)


def test_a_model_is_replaced(model: Model, tmp_path: Path) -> None:
    save_model(model, f"{tmp_path}/m")
    other = Model(method=load_method("saw", width=4, depth=1), networks=load_method("saw", width=4, depth=1).networks())
    save_model(other, f"{tmp_path}/m")
    assert load_model(f"{tmp_path}/m").method.name == "saw"
    assert load_model(f"{tmp_path}/m").pixel_size_um is None
    found = json.loads((tmp_path / "m" / "model.json").read_text())
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"model.json", found["weights"]}


def test_a_model_that_is_replaced_is_whole_at_every_moment(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, str(tmp_path))
    other = Model(method=load_method("saw", width=4, depth=1), networks=load_method("saw", width=4, depth=1).networks())
    seen = []
    for name in ("write", "update", "delete"):
        work = getattr(Folder, name)

        def looked(folder: Path, file: Any, *words: Any, work: Any = work) -> None:
            seen.append(digest(load_model(str(tmp_path))))
            work(folder, file, *words)
            seen.append(digest(load_model(str(tmp_path))))

        monkeypatch.setattr(Folder, name, looked)
    save_model(other, str(tmp_path))
    # Weights, then the description, whose change is a write of its own, then what belonged to the old weights: the two
    # files of their training's curve and themselves.
    assert seen == [digest(model)] * 4 + [digest(other)] * 8


@pytest.mark.parametrize("name", ["../weights.safetensors", "other", 3, "weights-0.safetensors"])
def test_a_description_names_only_weights_in_its_folder(model: Model, tmp_path: Path, name: str) -> None:
    save_model(model, f"{tmp_path}/m")
    edited(tmp_path / "m", weights=name)
    (tmp_path / "m" / "weights.safetensors").rename(tmp_path / "weights.safetensors")
    with pytest.raises(MissingError, match="No model at"):
        load_model(f"{tmp_path}/m")


def test_the_digest_follows_weights_and_settings(model: Model) -> None:
    before = digest(model)
    changed = Model(method=load_method("dwm", width=4, depth=1, gamma1=0.4), networks=model.networks)
    assert digest(changed) != before
    with torch.no_grad():
        next(model.networks["unet"].parameters()).add_(1e-3)
    assert digest(model) != before


def test_no_model_at_a_place(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"No model at .*/none: expected a folder with model\.json"):
        load_model(f"{tmp_path}/none")


def test_a_description_without_weights_is_no_model(model: Model, tmp_path: Path) -> None:
    save_model(model, str(tmp_path))
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(MissingError, match="No model"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"format": 2}, InputError, "has format 2, expected 1"),
        ({"method": "sow"}, MissingError, "Did you mean 'saw'"),
        ({"settings": {"unet.size": 3}}, MissingError, "Unknown setting 'unet.size'"),
        ({"settings": settings_of(load_method("dwm", width=8, depth=1))}, StoreError, "do not fit network 'unet'"),
        ({"weights_sha256": "0"}, StoreError, "not the file that model.json describes"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    model: Model, tmp_path: Path, changes: Any, error: Any, message: str
) -> None:
    save_model(model, str(tmp_path))
    edited(tmp_path, **changes)
    with pytest.raises(error, match=message):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "changes", [{"settings": None}, {"settings": []}, {"method": 3}, {"pixel_size_um": "0.5"}, {"training": None}]
)
def test_a_description_with_damaged_entries_is_refused(model: Model, tmp_path: Path, changes: Any) -> None:
    save_model(model, str(tmp_path))
    edited(tmp_path, **changes)
    with pytest.raises(StoreError, match=f"{next(iter(changes))}.*Copy the model again, or train it anew"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "size", [[], [1], [1, 2, 3], [True, 1], ["1", 1], [0, 1], [-1, 1], [float("nan"), 1], [10**400, 1], {"y": 1}]
)
def test_a_pixel_size_that_is_none_is_refused(model: Model, tmp_path: Path, size: int) -> None:
    save_model(model, str(tmp_path))
    edited(tmp_path, pixel_size_um=size)
    with pytest.raises(StoreError, match="'pixel_size_um' missing or of another type"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unet.depth": 40}, "depth of 0 to 10"),
        ({"unet.depth": 10}, "networks that its weights, .* numbers, cannot fill"),
        ({"unet.width": 1_000_000}, "networks that its weights, .* numbers, cannot fill"),
        ({"unet.width": 10**18}, "networks that its weights, .* numbers, cannot fill"),
        ({"unet.width": 0}, "width of at least 1"),
        ({"unet.width": 10**400}, "got a number of 1329 bits"),
        ({"class_counts": [1] * 20_000}, "at most 10000 entries"),
        ({"thresholds.gamma1": float("inf")}, "expects a finite number"),
        ({"thresholds.touching_radius": 10**6}, "give a decode_reach of 100"),
        ({"channels": 0}, "'channels' is 0; expected at least 1"),
        ({"channels": -1}, "'channels' is -1; expected at least 1"),
        ({"name": 1}, "Unknown setting 'name'"),
    ],
)
def test_settings_beyond_the_limits_are_refused_before_memory_is_taken(
    model: Model, tmp_path: Path, settings: Any, message: str
) -> None:
    save_model(model, str(tmp_path))
    edited(tmp_path, settings=settings_of(model.method) | {"unet.width": 4, "unet.depth": 1} | settings)
    with pytest.raises(CellscaleError, match=message):
        load_model(str(tmp_path))


def attack(folder: Path, every: Any) -> int:
    """Try each `every`-th mutant of a description; how many were refused."""
    path, refused = folder / "model.json", 0
    for name, document in itertools.islice(mutants(json.loads(path.read_text())), None, None, every):
        path.write_text(json.dumps(document))
        try:
            load_model(str(folder))
        except CellscaleError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
    return refused


def test_a_field_of_another_kind_is_refused_or_ignored(model: Model, tmp_path: Path) -> None:
    save_model(model, str(tmp_path))
    assert attack(tmp_path, 23) > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_field_of_another_kind_is_refused_or_ignored(tmp_path: Path, name: str) -> None:
    known = {full.rpartition(".")[2] for full in settings_of(load_method(name))}
    small = {"width": 2, "depth": 1, "hidden": 8, "trees": 2, "leaves": 4}
    method: Any = load_method(name, **{key: value for key, value in small.items() if key in known})
    save_model(Model(method=method, networks=method.networks(), pixel_size_um=(0.5, 0.5)), str(tmp_path))
    assert attack(tmp_path, 1) > 100


def test_forests_are_bounded_by_their_weights(tmp_path: Path) -> None:
    method: Any = load_method("pixel-forest", trees=2, leaves=4)
    save_model(Model(method=method, networks=method.networks()), str(tmp_path))
    edited(tmp_path, settings=settings_of(method) | {"trees": 10**5, "leaves": 10**7})
    with pytest.raises(DamagedError, match="cannot fill"):
        load_model(str(tmp_path))


FOREIGN = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from cellscale.methods import load_method
METHOD = load_method("dwm")
NOTHING = 3
"""


def test_a_model_does_not_decide_what_is_imported(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, str(tmp_path / "m"))
    (tmp_path / "stranger_a.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(tmp_path))
    edited(tmp_path / "m", method="stranger_a:METHOD")
    for trust in ((), ["stranger"], ["stranger_a:METHOD"], "stranger_ab", ["dwm"]):
        with pytest.raises(InputError, match=r"--trust-model stranger_a \(Python: trust=\['stranger_a'\]\)"):
            load_model(str(tmp_path / "m"), trust=trust)
    assert not (tmp_path / "ran").exists()
    assert load_model(str(tmp_path / "m"), trust=["stranger_a"]).method.name == "dwm"
    assert (tmp_path / "ran").exists()
    edited(tmp_path / "m", method="stranger_a:NOTHING")
    with pytest.raises(InputError, match="is not a valid method"):
        load_model(str(tmp_path / "m"), trust="stranger_a")


@pytest.mark.parametrize("name", ["antigravity:fly", "os:system", "cellscale.methods.deepsplit:DeepSplit", ":", ".m:X"])
def test_any_other_name_is_refused_unread(model: Model, tmp_path: Path, name: str) -> None:
    save_model(model, str(tmp_path))
    edited(tmp_path, method=name)
    with pytest.raises(InputError, match="which is not part of cellscale"):
        load_model(str(tmp_path))


def test_settings_that_are_newer_than_a_model_have_the_values_it_was_trained_with(model: Model, tmp_path: Path) -> None:
    save_model(model, str(tmp_path))
    settings = settings_of(model.method)
    for name in ("balance.exponent", "balance.cap", "touching_within"):
        del settings[name]
    edited(tmp_path, settings=settings)
    method: Any = load_model(str(tmp_path)).method
    trained: Any = model.method
    assert (method.balance.exponent, method.balance.cap, method.touching_within) == (1.0, 0.0, 0.0)
    assert trained.balance.exponent == 0.5


def test_a_model_without_a_setting_that_has_always_been_there_is_damaged(model: Model, tmp_path: Path) -> None:
    save_model(model, str(tmp_path))
    settings = settings_of(model.method)
    del settings["thresholds.gamma1"]
    edited(tmp_path, settings=settings)
    with pytest.raises(StoreError, match=r"is incomplete: No value for 'thresholds\.gamma1'"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("keep", [1, 100, 200])
def test_a_truncated_description_is_refused(model: Model, tmp_path: Path, keep: Any) -> None:
    save_model(model, str(tmp_path))
    (tmp_path / "model.json").write_bytes((tmp_path / "model.json").read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"is not a valid model description.*Copy the model again"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", "no json"])
def test_a_file_that_is_no_description_is_refused(model: Model, tmp_path: Path, text: str) -> None:
    save_model(model, str(tmp_path))
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(StoreError, match="is not a valid model description"):
        load_model(str(tmp_path))


def test_damaged_weights_are_found(model: Model, tmp_path: Path) -> None:
    save_model(model, str(tmp_path))
    content = bytearray((tmp_path / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match="Copy the model again"):
        load_model(str(tmp_path))


def test_a_place_that_cannot_be_written_is_named(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot look for .*weights\.safetensors: NotADirectoryError"):
        save_model(model, f"{tmp_path}/file/m")


def test_an_unknown_protocol_is_refused(model: Model) -> None:
    with pytest.raises(StoreError, match="Cannot open nothing://m"):
        save_model(model, "nothing://m")


def test_a_model_that_comes_with_the_package_has_a_name(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, f"{tmp_path}/models/discs")
    (tmp_path / "models" / "discs" / "card.md").write_text("# Round cells\n\nData: none.\n")
    shipped = tmp_path / "models"
    (listed,) = shipped_models(shipped)
    assert {**listed, "bytes": 0} == {
        "name": "discs",
        "summary": "Round cells",
        "method": "dwm",
        "pixel_size_um": [0.5, 0.25],
        "bytes": 0,
    }
    assert digest(load_model("discs", shipped=shipped)) == digest(model)
    monkeypatch.chdir(tmp_path)
    other = Model(method=load_method("saw", width=4, depth=1), networks=load_method("saw", width=4, depth=1).networks())
    save_model(other, "discs")
    assert load_model("discs", shipped=shipped).method.name == "saw"
    with pytest.raises(MissingError, match=r"No model at disks: expected .* included model \(discs\)"):
        load_model("disks", shipped=shipped)


def test_the_package_takes_its_models_along() -> None:
    """Every model in the package has a card, is small, and loads; the build takes all files of such a folder."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["cellscale"]
    assert "models/shipped/*/*" in built
    for found in shipped_models():
        assert found["bytes"] <= LARGEST_BYTES
        assert load_model(str(SHIPPED / found["name"])).method.name == found["method"]
        assert (SHIPPED / found["name"] / "card.md").read_text().count("\n") > 5


def test_the_model_of_nuclei_is_small_and_finds_nuclei_that_it_has_never_seen() -> None:
    (listed,) = [found for found in shipped_models() if found["name"] == "nuclei"]
    assert listed["bytes"] <= LARGEST_BYTES
    model, scene, box = load_model("nuclei"), Scene(shape=(1, 256, 256), cells=40, seed=5), Box(0, 0, 256, 256)
    frame = (scene.image(0, box)[None], scene.labels(0, box))
    found = scored(model.method, predicted(model.method, model.networks, [frame], device="cpu", precision="auto"))
    assert found["f1"] > 0.8


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(model: Model, tmp_path: Path, number: int) -> None:
    broken = {name: copy.deepcopy(network) for name, network in model.networks.items()}
    name, network = next(iter(broken.items()))
    key, parameter = next(iter(network.named_parameters()))
    parameter.data.view(-1)[0] = number
    save_model(dataclasses.replace(model, networks=broken), str(tmp_path / "model"))
    with pytest.raises(DamagedError, match=rf"1 of {parameter.numel()} numbers of '{name}\.{key}' are not finite"):
        load_model(str(tmp_path / "model"))
