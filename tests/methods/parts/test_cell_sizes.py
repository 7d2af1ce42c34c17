"""Boxes of cells for labels of any size, and the targets that need them."""

from __future__ import annotations

import numpy as np
import pytest

from cellscale.methods import METHODS, load_method
from cellscale.methods.parts.cell_sizes import Cells, boxes_of_cells
from cellscale.testing.cases import CASES
from cellscale.types import Box, Labels

LARGE = 2**32 - 3


def with_large_labels(labels: Labels) -> Labels:
    """The same cells, some of whose labels a signed integer of 32 bits does not hold, in the same order."""
    table = np.concatenate([[0], LARGE - 10**9 * np.arange(4)[::-1], LARGE + np.arange(1, 3)]).astype(np.uint32)
    assert labels.max() < len(table)
    return table[labels]


def test_boxes_are_found_by_label() -> None:
    labels = np.zeros((6, 9), np.uint32)
    labels[1:3, 2:7] = LARGE
    labels[5, 8] = 2
    labels[0, 0] = 10**9
    assert boxes_of_cells(labels) == {2: Box(5, 8, 6, 9), 10**9: Box(0, 0, 1, 1), LARGE: Box(1, 2, 3, 7)}
    assert boxes_of_cells(np.zeros((3, 3), np.uint32)) == {}
    assert Cells.of([labels]).longest == 5


@pytest.mark.parametrize("name", METHODS)
def test_targets_and_statistics_do_not_depend_on_the_numbers_of_the_labels(name: str) -> None:
    labels = CASES["two touching"].astype(np.uint32)
    large = with_large_labels(labels)
    small, other = (load_method(name).fit_statistics([image]) for image in (labels, large))
    assert small == other
    expected, found = small.targets(labels), small.targets(large)
    assert all(np.array_equal(found[key], values) for key, values in expected.items())
