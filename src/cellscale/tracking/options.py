"""Options of a tracking besides its image: one value, with one docstring a field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from cellscale.errors import InputError
from cellscale.linking.links import LinkRules
from cellscale.storage.urls import Location


class TrackingKeywords(TypedDict, total=False):
    """Keyword arguments of `cellscale.track`; `TrackingOptions` says what each means."""

    layer: str
    new_layer: str | None
    layer_store: Location | None
    max_distance_px: float | None
    max_gap: int
    divisions: bool
    window: int
    overwrite: bool
    allow_failed_tiles: bool
    storage_options: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Options of a tracking besides its image."""

    layer: str = "cells"
    """Name of the layer whose objects are tracked, segmented by any program."""
    new_layer: str | None = None
    """Name of the layer to write; None: the same with `-tracks`."""
    layer_store: str | None = None
    """Store that holds the layer, and gets the new one; None: the image's own."""
    max_distance_px: float | None = None
    """Farthest that a cell that overlaps nothing is looked for from one frame to the next, px; None: the median
    distance to the nearest neighbour in the frame, or three median diameters if that is less."""
    max_gap: int = 2
    """Most frames in a row in which a cell may be missing."""
    divisions: bool = True
    """Whether cells may divide."""
    window: int = 64
    """Frames in one task; no track depends on it."""
    overwrite: bool = False
    """Replace an existing layer when the new one is complete, and drop an unfinished run with other settings."""
    allow_failed_tiles: bool = False
    """Track a layer that has failed regions; cells that touch them end or begin there. They are named in the metadata
    of the new layer."""
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    """Options for fsspec; they may hold credentials and are never printed."""

    def __post_init__(self) -> None:
        """Check the names of the two layers; the rules of linking check the numbers."""
        if self.name == self.layer:
            raise InputError(f"The layer of tracks would have the name of the layer that it is made of, {self.name!r}.")

    @property
    def name(self) -> str:
        """Name of the layer to write."""
        return self.new_layer or f"{self.layer}-tracks"

    @property
    def rules(self) -> LinkRules:
        """Parameters of the linking."""
        return LinkRules(max_distance=self.max_distance_px, max_gap=self.max_gap, divisions=self.divisions)
