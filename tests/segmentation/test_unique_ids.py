"""Numbers through all frames: no number occurs in two of them, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cellscale
from cellscale.errors import RunError
from cellscale.segmentation import join
from tests.blobs import blobs_model, blurred_noise
from tests.support.runs import arrays, segmented, table, written


@pytest.mark.parametrize("axes", ["tyx", "tzyx"])
def test_numbers_run_through_slices_and_frames(tmp_path: Path, axes: str) -> None:
    pixels = blurred_noise((4, 90, 120)).reshape((2, 2, 90, 120) if axes == "tzyx" else (4, 90, 120))
    image = written(str(tmp_path / "i.zarr"), pixels, axes)
    segmented(image, "plain")
    segmented(image, "unique", unique_ids=True, tile_size=40)
    plain, unique = arrays(image, "plain")[0], arrays(image, "unique")[0]
    assert np.array_equal(plain > 0, unique > 0)
    counts = [int(frame.max()) for frame in plain]
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for frame, numbered, offset in zip(plain, unique, before, strict=True):
        assert np.array_equal(np.where(frame > 0, frame + offset, 0), numbered)
    labels = table(image, "unique").label
    assert sorted(labels) == list(range(1, sum(counts) + 1))


def test_the_option_is_an_argument(tmp_path: Path) -> None:
    image = written(str(tmp_path / "i.zarr"), blurred_noise((2, 90, 120)))
    cellscale.segment(image.url, model=blobs_model(), unique_ids=True, backend="serial")
    assert table(image, "cells").label.is_unique


def test_more_cells_than_numbers_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = written(str(tmp_path / "i.zarr"), blurred_noise((2, 90, 120)))
    cells = segmented(image, "plain").cells
    monkeypatch.setattr(join, "MOST_CELLS", cells - 1)
    with pytest.raises(RunError, match=f"All frames together have {cells} cells; uint32 labels end at {cells - 1}"):
        segmented(image, "unique", unique_ids=True)
