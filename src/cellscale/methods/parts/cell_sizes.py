"""Sizes and density of the cells in the training frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cellscale.kernels.arguments import label_image
from cellscale.kernels.concavities import consecutive_labels
from cellscale.kernels.overlaps import label_areas
from cellscale.settings.fields import setting
from cellscale.types import Box, Labels


def boxes_of_cells(labels: Labels) -> dict[int, Box]:
    """Return the bounding box of each cell by its label, whatever the labels are: they need be neither small nor dense.

    Examples
    --------
    >>> import numpy as np
    >>> boxes_of_cells(np.array([[0, 7, 7], [0, 0, 7]], np.uint32))
    {7: Box(y0=0, x0=1, y1=2, x1=3)}
    """
    # SciPy's list has an entry for each number up to the greatest, and its integers are signed.
    numbers, _ = label_areas(labels)
    dense, _ = consecutive_labels(label_image(labels))
    found = ndimage.find_objects(dense.astype(np.int32))
    return {
        number: Box(y.start, x.start, y.stop, x.stop) for number, (y, x) in zip(numbers.tolist(), found, strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Sizes of cells in the training frames: anchors, limits and windows follow from it.

    0: fitted by `fit_statistics`; until then, and without any cell, TYPICAL.
    """

    size: float = setting(0.0, fitted=True)
    """Median of √(height · width) of their boxes, px."""
    longest: int = setting(0, fitted=True)
    """Longest side of a box, px."""
    density: float = setting(0.0, fitted=True)
    """Cells in each 1000 × 1000 px of the fullest frame."""

    def or_else(self, other: Cells) -> Cells:
        """Replace values of 0 by those of another."""
        return Cells(
            size=self.size or other.size, longest=self.longest or other.longest, density=self.density or other.density
        )

    @classmethod
    def of(cls, frames: Iterable[Labels]) -> Cells:
        """Measure the boxes of the cells of frames; without any cell, all is 0."""
        sides, density = [np.zeros((0, 2), np.int64)], 0.0
        for frame in frames:
            found = boxes_of_cells(frame).values()
            sides.append(np.array([box.shape for box in found], np.int64).reshape(-1, 2))
            density = max(density, 1e6 * len(found) / frame.size)
        every = np.concatenate(sides)
        if not len(every):
            return cls()
        size = float(np.median(np.sqrt(every.prod(axis=1))))
        return cls(size=size, longest=int(every.max()), density=density)


TYPICAL = Cells(size=32.0, longest=64, density=1000.0)
"""Values used without measurements."""
