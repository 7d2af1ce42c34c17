"""Random label images and masks for Hypothesis: noise and smooth shapes, also of one row or none."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

small = st.tuples(st.integers(0, 14), st.integers(0, 14))
volumes = arrays.arrays(np.uint32, st.tuples(*[st.integers(0, 6)] * 3), elements=st.sampled_from([0, 1, 1, 1, 2]))
spacings = st.tuples(*[st.integers(1, 5)] * 3) | st.sampled_from([(12, 6, 18), (5, 70_001, 30_011)])
noise = arrays.arrays(np.uint32, small, elements=st.sampled_from([0, 0, 0, 1, 2, 3, 7]))


@st.composite
def cells(draw, longest=22):
    """Smooth cells that touch: level sets of smoothed noise, divided at random lines."""
    shape = draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.standard_normal(shape), draw(st.sampled_from([0.0, 1.0, 2.0, 4.0])))
    mask = field > draw(st.sampled_from([-0.5, 0.0, 0.5])) * field.std()
    parts = np.indices(shape)[draw(st.integers(0, 1))] // draw(st.integers(2, 12)) + 1
    return np.where(mask, parts + 10 * ndimage.label(mask)[0], 0).astype(np.uint32)


label_images = noise | cells()
masks = label_images.map(lambda labels: labels > 0)


def scattered(shape, share, seed=0, labels=9):
    """A few labelled pixels, far from one another."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < share, rng.integers(1, labels + 1, shape), 0).astype(np.uint32)
