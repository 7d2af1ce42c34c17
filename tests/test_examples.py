"""The example method of the documentation, one file outside of the package, keeps what every method must keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import cellscale
from cellscale.methods import load_method
from cellscale.models.model import Model
from cellscale.ngff.labels import open_labels
from cellscale.settings.fields import replaced
from cellscale.testing import conformance
from cellscale.types import Box
from tests.blobs import blurred_noise
from tests.ngff.pictures import make

METHOD = replaced(load_method("examples.insides:INSIDES"), {"width": 4})


@conformance.each_check
def test_conformance(check: conformance.Check) -> None:
    check(conformance.Subject(method=METHOD))


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
