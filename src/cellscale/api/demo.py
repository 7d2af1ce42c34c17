"""A small example of the whole workflow: synthesize, train, segment, score, draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cellscale.api import data, evaluation, segmentation, training
from cellscale.engine.ray_map import cluster
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels
from cellscale.progress import Progress, silent
from cellscale.storage.urls import Location
from cellscale.types import Box
from cellscale.viewers.pictures import panels

SHAPE = (10, 512, 512)
"""Frames, height and width of the demo's time-lapse."""
LEARN, VALIDATE, TEST = (0, 6), (6, 8), (8, 10)
"""Half-open ranges of frames."""
SETTINGS = {"width": 16, "depth": 3, "crop": 192, "validate_every": 200, "learning_rate": 0.002}
"""A small network, so that two processors need about two minutes."""
STEPS = 400


def demo(output: Location = "demo", *, on_progress: Progress = silent) -> dict[str, Any]:
    """Make a time-lapse, train `saw` briefly, segment it on a local Ray, score it and draw a picture.

    Parameters
    ----------
    output : str or path
        Folder to write to; the results of an earlier demo are replaced.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    dict
        scores on the test frames, places of image, model and picture, and the next commands to try.

    Examples
    --------
    >>> import cellscale
    >>> result = cellscale.demo("demo")  # doctest: +SKIP
    >>> result["scores"]["f1"] > 0.9  # doctest: +SKIP
    True
    """
    folder = Path(output)
    movie, model, picture = (str(folder / name) for name in ("movie.zarr", "model", "demo.png"))
    folder.mkdir(parents=True, exist_ok=True)
    data.synthesize(movie, shape=SHAPE, cells=110, seed=1, overwrite=True, on_progress=on_progress)
    with cluster(None):
        training.train(
            "saw",
            [movie],
            output=model,
            frames=LEARN,
            validation_frames=VALIDATE,
            settings=SETTINGS,
            steps=STEPS,
            overwrite=True,
            on_progress=on_progress,
        )
        segmentation.segment(movie, model=model, tile_size=256, on_progress=on_progress)
    scores = evaluation.evaluate(movie, frames=TEST, on_progress=on_progress)
    draw(movie, TEST[0], picture)
    return {"scores": scores.to_dict(), "image": movie, "model": model, "picture": picture, "next": _next(movie, model)}


def draw(movie: str, frame: int, picture: str) -> None:
    """Write a PNG of a frame: image, ground truth and prediction."""
    image, truth, cells = open_image(movie), open_labels(movie, "truth"), open_labels(movie, "cells")
    box = Box.of(image.plane_shape())
    layers = {"truth": truth.read(box, t=frame), "prediction": cells.read(box, t=frame)}
    Path(picture).write_bytes(panels(image.read(box, t=frame)[0], layers))


def _next(movie: str, model: str) -> list[str]:
    return [
        f"cellscale segment {movie} --model {model} --layer again --tile-size 100   # other tiles, the same labels",
        f"cellscale evaluate {movie} --layer again --ground-truth cells             # F1 1.0",
        "cellscale import frames.tif mine.zarr --masks masks.tif             # your own images",
        "cellscale train saw mine.zarr --output mine.model --validation-frames 8:10   # trains on all other frames",
    ]
