from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

import cellscale
from cellscale.errors import InputError
from cellscale.methods import load_method
from cellscale.methods.pixel_forest import Forest, at_most, responses
from cellscale.ngff.labels import open_labels
from cellscale.testing.cases import FRAMES, annotated_frame
from cellscale.testing.conformance import QUICK
from cellscale.training.run import train
from cellscale.training.task import TrainingTask
from cellscale.types import Box
from tests.support.variants import SMALL

METHOD: Any = load_method("pixel-forest", **SMALL["pixel-forest"])


def points(seed: int, classes: tuple[int, ...] = (0, 1, 2)) -> tuple[NDArray[np.float32], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((400, 5)).astype(np.float32)
    return values, rng.choice(classes, 400)


@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 2), (1,)])
def test_the_forest_votes_as_that_of_scikit_learn(classes: tuple[int, ...]) -> None:
    values, truth = points(0, classes)
    fitted = RandomForestClassifier(20, max_leaf_nodes=40, random_state=0).fit(values, truth)
    forest = Forest(20, 40)
    forest.take(fitted)
    shares = np.zeros((400, 3))
    shares[:, fitted.classes_] = fitted.predict_proba(values)
    np.testing.assert_allclose(forest(values), shares, atol=2e-5)


def test_a_second_fit_leaves_nothing_of_the_first() -> None:
    values, truth = points(1)
    large, small = (RandomForestClassifier(3, max_leaf_nodes=n, random_state=0).fit(values, truth) for n in (40, 4))
    twice, once = Forest(3, 40), Forest(3, 40)
    twice.take(large)
    for forest in (twice, once):
        forest.take(small)
    assert np.array_equal(twice(values), once(values))


@given(st.floats(-(2.0**99), 2.0**99), st.floats(-(2.0**99), 2.0**99, width=32), st.integers(-1, 1))
def test_a_threshold_in_32_bits_divides_as_that_in_64_bits(threshold: Any, value: float, step: int) -> None:
    near = np.nextafter(np.float32(threshold), np.float32(step * np.inf)) if step else np.float32(threshold)
    for seen in (np.float32(value), near):
        assert (seen <= at_most(np.array([threshold]))[0]) == (np.float64(seen) <= threshold)


def test_the_responses_of_a_bright_spot_and_of_an_edge() -> None:
    spot = np.zeros((41, 41))
    spot[20, 20] = 1
    smooth, laplacian, gradient, _, outer, inner, high, low = (one[20, 20] for one in responses(spot, 2.0))
    assert smooth == pytest.approx(1 / (2 * np.pi * 4), rel=0.02)
    assert laplacian == pytest.approx(high + low)
    assert high == pytest.approx(low)
    assert low < 0
    assert gradient == pytest.approx(0, abs=1e-12)
    edge = np.repeat([0.0, 1.0], 20)[None].repeat(40, axis=0)
    outer, inner = [one[20, 20] for one in responses(edge, 2.0)][4:6]
    assert outer > 0.01
    assert inner == pytest.approx(0, abs=1e-9)


def test_a_response_is_the_same_in_every_window() -> None:
    frame = ndimage.gaussian_filter(np.random.default_rng(0).random((1, 90, 80)), (0, 1, 1)).astype(np.float32)
    method: Any = load_method("pixel-forest", scales=[0.7, 3.5])
    reach, whole = method.reaches.reach, method.features(frame)
    core = np.s_[:, reach : reach + 20, reach : reach + 30]
    for y, x in ((3, 5), (17, 8)):
        part = method.features(frame[:, y : y + 20 + 2 * reach, x : x + 30 + 2 * reach])
        assert np.array_equal(part[core], whole[:, y + reach : y + reach + 20, x + reach : x + reach + 30])
        less = method.features(frame[:, y + 1 : y + 19 + 2 * reach, x + 1 : x + 29 + 2 * reach])
        wanted = whole[:, y + reach : y + reach + 20, x + reach : x + reach + 30]
        assert not np.array_equal(less[:, reach - 1 : reach + 19, reach - 1 : reach + 29], wanted)


def test_bands_of_rows_give_the_shares_of_the_whole_window(tmp_path: Path) -> None:
    model = train(TrainingTask(method=METHOD, data=[FRAMES], output=str(tmp_path), settings=QUICK))
    tall = torch.from_numpy(np.random.default_rng(0).random((1, 1, 1100, 24)).astype(np.float32))
    method: Any = model.method
    found = method.predict(model.networks, tall)
    values = method.features(tall[0].numpy())
    whole = model.networks["forest"](np.ascontiguousarray(values.reshape(len(values), -1).T))
    for number, name in enumerate(method.maps, 1):
        assert np.array_equal(found[name].numpy().ravel(), whole[:, number])


def test_one_frame_is_enough_and_tiles_do_not_matter(tmp_path: Path) -> None:
    image, labels = annotated_frame(5, (150, 130))
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "labels.npy", labels[None].astype(np.uint16))
    store = str(tmp_path / "movie.zarr")
    cellscale.import_images(f"{tmp_path}/image.npy", store, masks=f"{tmp_path}/labels.npy")
    small = {**SMALL["pixel-forest"], "crop": 64, "loader_workers": 0}
    cellscale.train("pixel-forest", [store], output=f"{tmp_path}/m", settings=small, backend="serial")
    for tile in (32, 150):
        cellscale.segment(
            store,
            model=f"{tmp_path}/m",
            layer=f"t{tile}",
            tile_size=tile,
            backend="serial",
            settings={"window_size": 64},
        )
    first, second = (open_labels(store, f"t{tile}").read(Box(0, 0, 150, 130)) for tile in (32, 150))
    assert first.max() > 3
    assert np.array_equal(first, second)
    assert cellscale.evaluate(store, layer="t32").f1 > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": [0.0, 1.0]}, "expected σ above 0 px"),
        ({"trees": 0}, "'trees', 'batches' and 'pixels' are at least 1"),
    ],
)
def test_a_forest_that_cannot_be_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_method("pixel-forest", **settings)


def test_a_crop_without_a_pixel_to_learn_from_is_refused(tmp_path: Path) -> None:
    wide = dataclasses.replace(METHOD, scales=(6.0,))
    with pytest.raises(InputError, match=r"reach of 28 px: in a crop of 32 px .* Set crop to at least 57"):
        train(TrainingTask(method=wide, data=[FRAMES], output=str(tmp_path), settings=QUICK))
