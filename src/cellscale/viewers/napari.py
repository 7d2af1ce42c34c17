"""Napari: an image and its label layers as lazy pyramids, with the image's scale; one of them may be corrected."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from cellscale.errors import MissingError
from cellscale.ngff.frame_ranges import ranges
from cellscale.ngff.labels import open_labels
from cellscale.ngff.views import view_of
from cellscale.storage.urls import Location
from cellscale.viewers.corrections import Correction, correction_of
from cellscale.viewers.neuroglancer_state import contrast
from cellscale.viewers.scenes import Scene, scene

log = logging.getLogger("cellscale")
SAVE, CORRECT = "F5", "F6"
"""Keys that save the corrected frames, and call the frame correct as it is."""


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


def add_correction(viewer: Any, correction: Correction) -> Any:
    """Add the layer to paint on to a napari viewer, select it and bind its keys; return napari's layer.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
        The viewer.
    correction : Correction
        Its array.
    """
    image = correction.image
    scale = [image.levels[0].scale[image.axes.index(axis)] for axis in correction.axes]
    layer = viewer.add_labels(correction, name=correction.name, scale=scale, multiscale=False)
    viewer.layers.selection.active = layer

    def save(viewer: Any) -> None:
        viewer.status = saved(correction)

    def correct(viewer: Any) -> None:
        t = viewer.dims.current_step[correction.axes.index("t")] if "t" in correction.axes else 0
        correction.correct.add(int(t))
        viewer.status = f"frame {t} is correct; {SAVE} saves"

    viewer.bind_key(SAVE, save, overwrite=True)
    viewer.bind_key(CORRECT, correct, overwrite=True)
    return layer


def saved(correction: Correction) -> str:
    """Save a correction; return and log what was saved."""
    url = correction.save()
    message = f"frames {ranges(correction.frames())} (half-open) → {url}" if url else "no frame was corrected"
    log.info("%s", message)
    return message


def _correction(shown: Scene, name: str, save_as: str | None) -> Correction:
    """The correction of a layer that is shown, or of another one of the image."""
    layer = next((layer for layer in shown.labels if layer.name == name), None)
    if layer is None:
        layer = open_labels(shown.image.url, name, storage_options=shown.image.storage_options)
    return correction_of(shown.image, layer, save_as)


def view_in_napari(
    shown: Scene | Location, *, correct: str | None = None, save_as: str | None = None
) -> list[int] | None:
    """Show an image and its label layers in a napari window, and wait until it is closed.

    With `correct`, a copy of a layer is shown to be painted on. The frames that were changed are saved when the window
    is closed, and at any time with F5; F6 adds the shown frame as it is. The saved layer names them as annotated, so
    that `train` uses these frames alone; the layer that is corrected stays as it is.

    Parameters
    ----------
    shown : Scene or str
            Result of `scene`, or the URL of an image, with all its layers.
    correct : str, optional
        Name of a layer to correct, of the size of the image.
    save_as : str, optional
        Layer that gets the corrected frames; one that is there is continued. None: `correct` with `-corrected`.

    Returns
    -------
    list of int or None
        The frames that the saved layer has; None without `correct`.

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
    correction = None if correct is None else _correction(shown, correct, save_as)
    try:
        from napari import Viewer, run
    except ImportError as error:
        raise MissingError(f"napari cannot be loaded ({error}). pip install 'cellscale[napari]'.") from error
    viewer = Viewer(title=shown.image.url)
    add_layers(viewer, shown)
    if correction is None:
        run()
        return None
    add_correction(viewer, correction)
    run()
    saved(correction)
    return correction.frames()
