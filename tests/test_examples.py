"""The method of the documentation, which is one file outside of the package, keeps what every method must keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cellscale
from cellscale.methods import load_method
from cellscale.models.model import Model
from cellscale.ngff.labels import open_labels
from cellscale.settings.fields import replaced
from cellscale.types import Box
from tests.blobs import blurred_noise
from tests.cases import CASES
from tests.methods import conformance
from tests.methods.test_conformance import FRAMES
from tests.ngff.pictures import make

METHOD = replaced(load_method("examples.insides:INSIDES"), {"width": 4})


@pytest.mark.parametrize("case", CASES)
def test_the_perfect_prediction(case: str) -> None:
    conformance.check_ideal(METHOD, CASES[case])


def test_reach_settings_and_pieces() -> None:
    conformance.check_reach(METHOD)
    conformance.check_json(METHOD)
    maps = {name: np.random.default_rng(0).integers(0, 256, (72, 80)).astype(np.uint8) for name in METHOD.maps}
    conformance.check_pieces(METHOD, maps)


@pytest.mark.slow
def test_training(tmp_path: Path) -> None:
    conformance.check_training(METHOD, FRAMES, tmp_path)
    conformance.check_sample_means(METHOD, FRAMES)


def test_tiles_do_not_change_a_byte(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(method=METHOD, networks={name: net.eval() for name, net in METHOD.networks().items()})
    image = make(tmp_path / "i.zarr", blurred_noise((2, 100, 130)), "tyx")
    for name, tile in (("whole", 1024), ("tiles", 37)):
        cellscale.segment(
            image.url, model=model, layer=name, tile_size=tile, backend="serial", settings={"window_size": 64}
        )
    box = Box(0, 0, 100, 130)
    whole, tiles = ([open_labels(image.url, name).read(box, t=t) for t in range(2)] for name in ("whole", "tiles"))
    assert np.array_equal(whole, tiles)
