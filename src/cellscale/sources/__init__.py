"""What comes from elsewhere, plane by plane: TIFF stacks and folders, Cell Tracking Challenge folders, npz and npy.

A source knows which of its frames exist: a page with a frame number lies at that frame, and frames between are empty.
"""

from cellscale.sources.frames import Source, open_source

__all__ = ["Source", "open_source"]
