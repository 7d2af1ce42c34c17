"""Scene of a viewer: an image, its label layers, a frame and a slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellscale.ngff.array_io import check_range
from cellscale.ngff.frame_ranges import annotated
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import LabelLayer, list_labels, open_labels
from cellscale.storage.urls import Location, url_of

TRUTH = "truth"
"""Name of the layer with which others are compared."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image and its label layers; no pixel is read."""

    image: NgffImage
    labels: tuple[LabelLayer, ...]
    """Label layers; the ground truth comes first, so that other layers are drawn over it."""
    t: int
    """Number of the frame to show."""
    z: int
    """Number of the slice to show."""


def _opened(url: str, names: Sequence[str] | None, options: Mapping[str, Any] | None) -> list[LabelLayer]:
    wanted = list_labels(url, storage_options=options) if names is None else names
    return [open_labels(url, name, storage_options=options) for name in wanted]


def scene(
    image: Location,
    *,
    layers: Sequence[str] | None = None,
    labels_store: Location | None = None,
    frame: int | None = None,
    z: int = 0,
    storage_options: Mapping[str, Any] | None = None,
) -> Scene:
    """Open an image and its label layers for a viewer.

    Parameters
    ----------
    image : str or path
        URL of the image.
    layers : sequence of str, optional
        Names of layers; None: all, of the image and of `labels_store`.
    labels_store : str, optional
        Another store that holds label layers of the image.
    frame : int, optional
        First frame to show; None: the first one that has labels.
    z : int
        Slice.
    storage_options : mapping, optional
        For fsspec.

    Raises
    ------
    CellscaleError
        As `open_image` and `open_labels` do; MissingError for a frame or slice that does not exist.

    Examples
    --------
    >>> import cellscale
    >>> shown = cellscale.scene("movie.zarr", layers=["truth"], frame=1)
    >>> [layer.name for layer in shown.labels], shown.t
    (['truth'], 1)
    """
    opened = open_image(url_of(image, "image"), storage_options=storage_options)
    store = None if labels_store is None else url_of(labels_store, "store of labels")
    if layers is None:
        found = _opened(opened.url, None, storage_options)
        found += _opened(store, None, storage_options) if store else []
    else:
        found = _opened(store or opened.url, layers, storage_options)
    found.sort(key=lambda layer: layer.name != TRUTH)
    first = min((t for layer in found[-1:] for t in annotated(layer, range(opened.size("t")))), default=0)
    t = frame if frame is not None else first
    for axis, number, kind in (("t", t, "Frame"), ("z", z, "Slice")):
        check_range(kind, number, opened.size(axis), url=opened.url)
    return Scene(image=opened, labels=tuple(found), t=t, z=z)
