"""Two label layers of equal size: one that is scored, and the ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellscale.errors import InputError
from cellscale.ngff.label_layer import LabelLayer, open_labels
from cellscale.storage.urls import Location, url_of


def open_pair(
    image: Location,
    layer: str,
    ground_truth: str,
    *,
    ground_truth_store: Location | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[LabelLayer, LabelLayer]:
    """Open a layer and the ground truth that it is scored against.

    Parameters
    ----------
    image : str or path
        URL of the image, or of the store that holds the layer.
    layer, ground_truth : str
        Names of the two layers.
    ground_truth_store : str or path, optional
        Store of the ground truth; None: the image's own.
    storage_options : mapping, optional
        Options for fsspec.

    Returns
    -------
    tuple of LabelLayer
        The layer, and the ground truth.

    Raises
    ------
    MissingError
        For a layer that does not exist.
    InputError
        If the layers differ in size.
    """
    store = image if ground_truth_store is None else ground_truth_store
    found = open_labels(url_of(image, "image"), layer, storage_options=storage_options)
    true = open_labels(url_of(store, "ground_truth_store"), ground_truth, storage_options=storage_options)
    sizes = [tuple(one.size(axis) for axis in "tzyx") for one in (found, true)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"Layer {found.name!r} is {sizes[0]} (t, z, y, x), {true.name!r} is {sizes[1]}; expected equal sizes."
        )
    return found, true
