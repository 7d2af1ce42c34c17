"""Napari: an image and its label layers as lazy pyramids, with the image's scale; one of them may be corrected."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from cellscale.errors import CellscaleError, MissingError
from cellscale.ngff.frame_ranges import ranges
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer, open_labels
from cellscale.ngff.layer_tables import count_rows
from cellscale.ngff.track_rows import has_tracks, track_rows
from cellscale.ngff.views import view_of
from cellscale.storage.urls import Location
from cellscale.viewers.corrections import Correction, correction_of
from cellscale.viewers.neuroglancer_state import contrast
from cellscale.viewers.scenes import Scene, scene

log = logging.getLogger("cellscale")
MOST_OBJECTS = 2_000_000
"""Most objects whose paths are drawn: napari holds all of them in memory."""
SAVE, CORRECT = "F5", "F6"
"""Keys that save the corrected frames, and call the frame correct as it is."""


def _pyramid(levels: Sequence[Any]) -> dict[str, Any]:
    """Napari's arguments for a pyramid; a single level is a plain array."""
    return {"data": list(levels), "multiscale": True} if len(levels) > 1 else {"data": levels[0], "multiscale": False}


def _place(source: NgffImage | LabelLayer, axes: Sequence[str]) -> dict[str, Any]:
    """Napari's arguments for the place of an image or a label layer in the world: where the finest level lies."""
    level = source.levels[0]
    at = [source.axes.index(axis) for axis in axes if axis in source.axes]
    return {"scale": [level.scale[i] for i in at], "translate": [level.translation[i] for i in at]}


def _add_tracks(viewer: Any, layer: LabelLayer, axes: Sequence[str], **options: Any) -> None:
    """Add the paths of a layer's tracks, joined at divisions, unless there are more objects than napari can draw."""
    if count_rows(layer) > MOST_OBJECTS:
        log.warning("layer %r has more than %d objects; the paths of tracks are not drawn", layer.name, MOST_OBJECTS)
        return
    rows = track_rows(layer)
    names = {"t": "frame", **{axis: f"centroid_{axis}_px" for axis in "zyx"}}
    track, flat = rows["track"], np.zeros(len(rows["track"]))
    data = np.stack([track, *(rows.get(names[axis], flat) for axis in axes)], axis=1)
    order = np.lexsort((rows["frame"], track))
    first = order[np.unique(track[order], return_index=True)[1]]
    born = first[rows["parent"][first] > 0]
    parents = dict(zip(track[born].tolist(), ([mother] for mother in rows["parent"][born].tolist()), strict=True))
    features = {"generation": rows["generation"][order]}
    viewer.add_tracks(data[order], graph=parents, features=features, name=f"{layer.name} paths", **options)


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
    place = _place(image, axes)
    views = [view_of(image, level) for level in range(len(image.levels))]
    for c, window in enumerate(contrast(image, shown.t, shown.z)):
        levels = [view.isel(c=c, missing_dims="ignore").transpose(*axes).data for view in views]
        name = image.channels[c]
        viewer.add_image(**_pyramid(levels), name=name, contrast_limits=window, **place, blending="additive")
    for layer in shown.labels:
        views = [view_of(layer, level).isel(c=0, missing_dims="ignore") for level in range(len(layer.levels))]
        levels = [view.transpose(*axes, missing_dims="ignore").data for view in views]
        visible, place = layer is shown.labels[-1], _place(layer, axes)
        viewer.add_labels(**_pyramid(levels), name=layer.name, visible=visible, **place)
        if has_tracks(layer):
            _add_tracks(viewer, layer, [axis for axis in axes if axis in layer.axes], visible=visible, **place)
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
    place = _place(correction.image, correction.axes)
    layer = viewer.add_labels(correction, name=correction.name, multiscale=False, **place)
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


def saved_at_end(correction: Correction) -> str:
    """Save a correction whose window is closed, as `saved` does.

    Raises
    ------
    CellscaleError
        If it cannot be saved: names the file of this machine that keeps what was painted.
    """
    try:
        return saved(correction)
    except CellscaleError as error:
        kept = Path(mkdtemp(prefix="cellscale-")) / "painted.npz"
        correction.keep(kept)
        raise type(error)(
            f"{error} What was painted is kept in {kept}: give the same command with --painted {kept} to save it."
        ) from error


def _correction(shown: Scene, name: str, save_as: str | None) -> Correction:
    """The correction of a layer that is shown, or of another one of the image."""
    layer = next((layer for layer in shown.labels if layer.name == name), None)
    if layer is None:
        layer = open_labels(shown.image.url, name, storage_options=shown.image.storage_options)
    return correction_of(shown.image, layer, save_as)


def view_in_napari(
    shown: Scene | Location,
    *,
    correct: str | None = None,
    save_as: str | None = None,
    painted: str | Path | None = None,
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
        Layer that gets the corrected frames; an existing one is continued. None: `correct` with `-corrected`.
    painted : str or path, optional
        File in which an earlier call that could not save has kept what was painted.

    Returns
    -------
    list of int or None
        The frames that the saved layer has; None without `correct`.

    Raises
    ------
    CellscaleError
        For an image that cannot be opened, or corrections that cannot be saved: the error names the file that keeps
        what was painted. MissingError where napari is not installed.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.view_in_napari("movie.zarr")  # doctest: +SKIP
    """
    shown = shown if isinstance(shown, Scene) else scene(shown)
    correction = None if correct is None else _correction(shown, correct, save_as)
    if correction is not None and painted is not None:
        correction.restore(Path(painted))
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
    saved_at_end(correction)
    return correction.frames()
