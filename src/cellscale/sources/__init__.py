"""Images of other formats, plane by plane: TIFF stacks and folders, CTC folders, npz, npy, files of microscopes.

A source knows which of its frames exist: a page with a frame number lies at that frame, and frames between are empty.
"""

from cellscale.sources.frames import Source, matched
from cellscale.sources.opening import Series, open_source, open_sources

__all__ = ["Series", "Source", "matched", "open_source", "open_sources"]
