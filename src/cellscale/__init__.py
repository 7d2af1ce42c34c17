"""cellscale: published cell segmentation on OME-Zarr time-lapses of any size.

The public names are loaded on first use, so that `import cellscale` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "import_images": "cellscale.api",
    "train": "cellscale.api",
    "segment": "cellscale.api",
    "evaluate": "cellscale.api",
    "synthesize": "cellscale.api",
    "demo": "cellscale.api",
    "methods": "cellscale.api",
    "open_image": "cellscale.api",
    "open_labels": "cellscale.api",
    "load_model": "cellscale.checkpoints",
    "save_model": "cellscale.checkpoints",
    "CellscaleError": "cellscale.errors",
}

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _PLACES:
        raise AttributeError(f"module 'cellscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
