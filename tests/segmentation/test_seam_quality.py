"""Seam quality of a published layer: the same counts as on the whole frames, and no seams."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellscale.metrics.straightness import RUN, lines_beside
from cellscale.testing.naive.straightness import straight_pixels
from tests.blobs import blurred_noise
from tests.support.runs import arrays, segmented, written


def test_counts_over_shards_are_those_of_whole_frames(tmp_path: Path) -> None:
    """A line lies exactly between two shards, at 2048 px."""
    image = written(str(tmp_path / "wide.zarr"), blurred_noise((2, 100, 2200)))
    found = segmented(image, "cells", tile_size=64).seams
    assert found is not None
    totals = np.zeros(4, np.int64)
    for labels in arrays(image, "cells")[0][:, 0]:
        for axis, turned in enumerate((labels, labels.T)):
            size = turned.shape[0]
            for pair in lines_beside(range(64, size, 64), size, seed=axis):
                totals += np.concatenate([straight_pixels(turned, line, RUN) for line in pair])
    assert (found["border_px"], found["border_px_beside"]) == (totals[1], totals[3])
    assert found["share"] == totals[0] / totals[1]
    assert found["share_beside"] == totals[2] / totals[3]
    assert found["lines"] == 2 * (1 + 34)
    low, high = found["interval"]
    assert low <= 0 <= high


def test_shards_counted_in_several_tasks_add_up(tmp_path: Path) -> None:
    image = written(str(tmp_path / "movie.zarr"), blurred_noise((3, 150, 211)))
    one, other = (segmented(image, name, tile_size=40, task_px=px) for name, px in (("one", 10**7), ("other", 500)))
    assert other.tasks["publish-0"] > one.tasks["publish-0"]
    assert one.seams == other.seams


def test_a_single_tile_has_no_lines(tmp_path: Path) -> None:
    image = written(str(tmp_path / "movie.zarr"), blurred_noise((1, 60, 70)))
    found = segmented(image, "cells").seams
    assert found is not None
    assert (found["lines"], found["interval"]) == (0, None)
