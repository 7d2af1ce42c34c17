"""Hypothesis strategies for label images, masks, probability maps and candidates.

Label images are noise or smooth touching shapes; images of one row, one column or no pixel are among them.

>>> from hypothesis import given
>>> from cellscale.kernels.touching import separated
>>> @given(label_images())
... def test_separated_is_idempotent(labels):
...     assert (separated(separated(labels)) == separated(labels)).all()
>>> test_separated_is_idempotent()
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from cellscale.testing.cases import random_candidates, random_maps
from cellscale.types import Candidates, Labels, Mask, StoredMaps

_SEEDS = st.integers(0, 2**32 - 1)


def noise(longest: int = 14) -> st.SearchStrategy[Labels]:
    """Label images (y, x) in which every pixel is drawn by itself; sides of 0 … `longest` px."""
    sides = st.integers(0, longest)
    return arrays.arrays(np.uint32, st.tuples(sides, sides), elements=st.sampled_from([0, 0, 0, 1, 2, 3, 7]))


@st.composite
def cells(draw: st.DrawFn, longest: int = 22) -> Labels:
    """Label images (y, x) of smooth cells that touch: level sets of smoothed noise, divided along straight lines.

    Parameters
    ----------
    draw : callable
        Passed by Hypothesis.
    longest : int
        Sides are 1 … `longest` px.
    """
    shape = draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    rng = np.random.default_rng(draw(_SEEDS))
    field = ndimage.gaussian_filter(rng.standard_normal(shape), draw(st.sampled_from([0.0, 1.0, 2.0, 4.0])))
    mask = field > draw(st.sampled_from([-0.5, 0.0, 0.5])) * field.std()
    parts = np.indices(shape)[draw(st.integers(0, 1))] // draw(st.integers(2, 12)) + 1
    return np.where(mask, parts + 10 * ndimage.label(mask)[0], 0).astype(np.uint32)


def label_images() -> st.SearchStrategy[Labels]:
    """Label images (y, x), uint32, of up to 22 × 22 px: `noise` or `cells`."""
    return noise() | cells()


def masks() -> st.SearchStrategy[Mask]:
    """Masks (y, x) of the cells of `label_images`."""
    return label_images().map(lambda labels: labels > 0)


def label_volumes() -> st.SearchStrategy[Labels]:
    """Label images (z, y, x), uint32, with sides of 0 … 6 px."""
    sides = st.tuples(*[st.integers(0, 6)] * 3)
    return arrays.arrays(np.uint32, sides, elements=st.sampled_from([0, 1, 1, 1, 2]))


@st.composite
def probability_maps(draw: st.DrawFn, names: Sequence[str], shortest: int = 8, longest: int = 70) -> StoredMaps:
    """Stored predictions of a method, uint8 (y, x) by name, as `cases.random_maps` makes them.

    Parameters
    ----------
    draw : callable
        Passed by Hypothesis.
    names : sequence of str
        Names of the maps; `Method.maps` of a method.
    shortest, longest : int
        Least and greatest side, px.
    """
    sides = st.integers(shortest, longest)
    return random_maps(names, (draw(sides), draw(sides)), draw(_SEEDS))


@st.composite
def candidates(draw: st.DrawFn, longest: int = 9) -> Candidates:
    """Up to twelve candidates that compete for the pixels of a region of up to 14 × 14 px.

    Parameters
    ----------
    draw : callable
        Passed by Hypothesis.
    longest : int
        Longest side of a box, px.
    """
    shape = (draw(st.integers(1, 14)), draw(st.integers(1, 14)))
    return random_candidates(shape, draw(st.integers(0, 12)), longest, draw(_SEEDS))
