"""Images of other formats, plane by plane: TIFF stacks, CTC and other folders, npz, npy, microscope files, arrays.

A source lists its existing frames: a page with a frame number belongs to that frame, and frames in between are empty.
"""

from cellscale.sources.arrays import array_image
from cellscale.sources.frames import Source, matched, stack
from cellscale.sources.opening import Series, is_source, open_source, open_sources
from cellscale.sources.origin import origin_of

__all__ = [
    "Series",
    "Source",
    "array_image",
    "is_source",
    "matched",
    "open_source",
    "open_sources",
    "origin_of",
    "stack",
]
