from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.methods import METHODS, load_method
from cellscale.methods.parts.tuning import cells_of, minimum_areas, quality, searched
from cellscale.tiling.in_memory import whole_frame
from tests.blobs import blurred_noise


def frame() -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.uint32]]:
    """Two cells of 400 px, a speck of 9 px, and maps that separate them at thresholds other than 0.5."""
    truth = np.zeros((64, 64), np.uint32)
    truth[10:30, 10:30], truth[10:30, 31:51] = 1, 2
    cell = np.where(truth > 0, 230, 20).astype(np.uint8)
    cell[10:30, 30] = 190
    cell[50:53, 50:53] = 230
    return {"cell": cell}, truth


def test_the_search_finds_threshold_and_minimum_area() -> None:
    maps, truth = frame()
    method: Any = load_method("unet2")
    assert quality(method, [(maps, truth)]) < 0.6
    tuned = method.calibrate([(maps, truth)])
    assert tuned.thresholds.gamma2 == 0.8
    assert 9 < tuned.thresholds.minimum_area <= 400
    assert len(np.unique(cells_of(tuned, maps))) == 3


def test_thresholds_that_share_a_pixel_move_together() -> None:
    """Cells are .35 cell and .55 touching: neither threshold helps alone."""
    truth = frame()[1]
    maps = {name: np.zeros(truth.shape, np.uint8) for name in ("cell", "touching")}
    maps["cell"][truth > 0], maps["touching"][truth > 0], maps["touching"][10:30, 30] = 90, 140, 230
    method: Any = load_method("saw")
    assert quality(method, [(maps, truth)]) == 0
    alone = {"thresholds.gamma2": (0.3, 0.7), "thresholds.gamma1": (0.3, 0.7)}
    assert quality(searched(method, [(maps, truth)], alone), [(maps, truth)]) == 0
    tuned = method.calibrate([(maps, truth)])
    assert quality(tuned, [(maps, truth)]) > 0.95
    assert tuned.thresholds.gamma1 > 140 / 255
    assert tuned.thresholds.gamma2 < 90 / 255


@pytest.mark.parametrize("name", [name for name in METHODS if load_method(name).maps])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_sees_the_cells_of_a_segmentation(name: str, seed: int) -> None:
    method: Any = load_method(name)
    noise = [blurred_noise((96, 110), 10 * seed + i) / 2000 - 1 for i in range(len(method.maps))]
    ideal = method.perfect_prediction(ndimage.label(blurred_noise((96, 110), seed) > 2100)[0].astype(np.uint32))
    values = [ideal[name] + 0.4 * other for name, other in zip(method.maps, noise, strict=True)]
    maps = {name: (255 * value.clip(0, 1)).astype(np.uint8) for name, value in zip(method.maps, values, strict=True)}
    found, whole = cells_of(method, maps), whole_frame(method, maps)
    pairs = np.unique(np.stack([found[whole > 0], whole[whole > 0]]), axis=1)
    assert np.array_equal(found > 0, whole > 0)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert whole.any()


def test_equal_settings_keep_what_was_there() -> None:
    maps, truth = frame()
    maps["cell"][truth == 0] = 20
    method: Any = load_method("unet2", gamma2=0.6)
    assert searched(method, [(maps, truth)], {"thresholds.gamma2": [0.2, 0.55, 0.7]}) == method


def test_the_same_frames_give_the_same_settings() -> None:
    maps, truth = frame()
    assert load_method("unet2").calibrate([(maps, truth)]) == load_method("unet2").calibrate([(maps, truth)])


def test_minimum_areas_are_shares_of_the_median() -> None:
    _, truth = frame()
    assert minimum_areas([truth]) == [0, 12, 24, 48, 100]
    assert minimum_areas([np.zeros((4, 4), np.uint32)]) == [0, 0, 0, 0, 0]
