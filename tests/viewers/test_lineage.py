"""Pictures of lineages: a line for each track, mothers in the middle of their daughters, the largest families first."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cellscale
from cellscale.errors import InputError, MissingError
from cellscale.types import Table
from cellscale.viewers.lineage import lineage_picture
from tests.tracking.test_run import cells, stored, tracked


def tracks(*rows: tuple[int, int, int, int]) -> Table:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return dict(zip(("track", "begin", "end", "parent"), columns, strict=True))


FAMILY = tracks((1, 0, 3, 0), (2, 0, 9, 0), (3, 4, 9, 1), (4, 4, 6, 1), (5, 7, 9, 4), (6, 7, 9, 4))


def paths(svg: bytes) -> list[list[tuple[float, float]]]:
    """Points of the lines of a picture, by collection order."""
    found = re.findall(r'<path d="M ([-\d.]+) ([-\d.]+) \nL ([-\d.]+) ([-\d.]+) \n" clip-path', svg.decode())
    return [[(float(a), float(b)), (float(c), float(d))] for a, b, c, d in found]


def test_each_track_is_a_line_and_each_daughter_is_joined() -> None:
    lines = paths(lineage_picture(FAMILY, form="svg"))
    level = [line for line in lines if line[0][1] == line[1][1]]
    joints = [line for line in lines if line[0][1] != line[1][1]]
    assert len(level) == 6
    assert len(joints) == 4
    mother, _, third, fourth, *_ = level
    assert mother[0][1] == pytest.approx((third[0][1] + fourth[0][1]) / 2, abs=1e-3)
    assert mother[1][0] - mother[0][0] < level[1][1][0] - level[1][0][0]


def test_the_largest_families_are_drawn() -> None:
    svg = lineage_picture(FAMILY, families=1, form="svg")
    assert len([line for line in paths(svg) if line[0][1] == line[1][1]]) == 5


def test_equal_tracks_give_equal_bytes_and_none_give_a_picture() -> None:
    assert lineage_picture(FAMILY) == lineage_picture(FAMILY)
    assert Image.open(io.BytesIO(lineage_picture(tracks()))).size[0] > 100


def test_the_picture_of_a_layer(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    tracked(image, "cells-tracks")
    assert cellscale.draw_lineage(image.url, tmp_path / "l.png") == 11
    with Image.open(tmp_path / "l.png") as picture:
        assert picture.size[0] > 100
    with pytest.raises(InputError, match=r"ends with \.png or \.svg"):
        cellscale.draw_lineage(image.url, tmp_path / "l.jpg")
    with pytest.raises(MissingError, match="has no tracks"):
        cellscale.draw_lineage(image.url, tmp_path / "l.png", layer="cells")
