"""A driver that is killed after some records, again and again: nothing is done twice, the tracks are equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels
from tests.support.killed import dying, killed_until_done
from tests.tracking.test_run import cells, pixels, rows, stored, tracked


def drive(url: str, records: int) -> None:
    tracked(open_image(url), "killed", window=5, executor=dying(records))


@pytest.mark.parametrize("records", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_after_some_records_resumes(tmp_path: Path, records: int) -> None:
    image = stored(tmp_path, cells())
    expected = tracked(image, "calm", window=5)
    # Objects, links, two lengths of gaps, divisions and tables in two tasks each, numbers and pixels in one.
    assert killed_until_done(drive, image.url, records) == 14 // records
    assert list_labels(image.url) == ("cells", "calm", "killed")
    assert all(map(np.array_equal, expected, pixels(image, "killed")))
    pd.testing.assert_frame_equal(rows(image, "calm"), rows(image, "killed"))
    assert not (tmp_path / "i.zarr" / ".cellscale-killed").exists()
