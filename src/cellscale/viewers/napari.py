"""Napari: an image and its label layers as lazy pyramids, with the image's scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellscale.errors import MissingError
from cellscale.ngff.views import view_of
from cellscale.storage.urls import Location
from cellscale.viewers.neuroglancer_state import contrast
from cellscale.viewers.scenes import Scene, scene


def _pyramid(levels: Sequence[Any]) -> dict[str, Any]:
    """Napari's arguments for a pyramid; a single level is a plain array."""
    return {"data": list(levels), "multiscale": True} if len(levels) > 1 else {"data": levels[0], "multiscale": False}


def add_layers(viewer: Any, shown: Scene) -> None:
    """Add a scene's layers to a napari viewer and go to its frame.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        The viewer.
    shown : Scene
        Image and labels.
    """
    image, axes = shown.image, [axis for axis in "tzyx" if axis in shown.image.axes]
    scale = [image.levels[0].scale[image.axes.index(axis)] for axis in axes]
    views = [view_of(image, level) for level in range(len(image.levels))]
    for c, window in enumerate(contrast(image, shown.t, shown.z)):
        levels = [view.isel(c=c, missing_dims="ignore").transpose(*axes).data for view in views]
        name = image.channels[c]
        viewer.add_image(**_pyramid(levels), name=name, contrast_limits=window, scale=scale, blending="additive")
    for layer in shown.labels:
        views = [view_of(layer, level).isel(c=0, missing_dims="ignore") for level in range(len(layer.levels))]
        levels = [view.transpose(*axes, missing_dims="ignore").data for view in views]
        viewer.add_labels(**_pyramid(levels), name=layer.name, scale=scale, visible=layer is shown.labels[-1])
    for axis, number in (("t", shown.t), ("z", shown.z)):
        if axis in axes:
            viewer.dims.set_current_step(axes.index(axis), number)


def view_in_napari(shown: Scene | Location) -> None:
    """Show an image and its label layers in a napari window, and wait until it is closed.

    Parameters
    ----------
    shown : Scene or str
        Result of `scene`, or the URL of an image, with all its layers.

    Raises
    ------
    CellscaleError
        For an image that cannot be opened; MissingError where napari is not installed.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.view_in_napari("movie.zarr")  # doctest: +SKIP
    """
    shown = shown if isinstance(shown, Scene) else scene(shown)
    try:
        from napari import Viewer, run
    except ImportError as error:
        raise MissingError(f"napari cannot be loaded ({error}). pip install 'cellscale[napari]'.") from error
    add_layers(Viewer(title=shown.image.url), shown)
    run()
