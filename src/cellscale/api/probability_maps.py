"""A model's probability maps, the input of decoding, as an OME-Zarr image."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Unpack

import numpy as np

from cellscale.api.files import check_not_source
from cellscale.api.request import PredictionKeywords, segmentation_job, segmentation_options
from cellscale.errors import InputError
from cellscale.methods.inference import fuse_batchnorm
from cellscale.methods.protocol import Networks
from cellscale.models.model import Model
from cellscale.ngff.metadata import AXES
from cellscale.ngff.writer import ImageWriter, create_image
from cellscale.progress import Progress, silent
from cellscale.segmentation.intensity_statistics import measure_planes
from cellscale.segmentation.plan import Run
from cellscale.segmentation.predict import predictions_of
from cellscale.segmentation.records import WORK_ITEMS, put
from cellscale.storage.folder import Folder
from cellscale.storage.urls import Location, check_apart, url_of
from cellscale.types import Candidates


def _plane_maps(run: Run, networks: Networks, plane: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """All maps of a plane, (map, y, x), from the same windows as in a segmentation."""
    scratch = Folder(url=f"memory://maps-{uuid.uuid4().hex}")
    try:
        return _in_scratch(dataclasses.replace(run, planes=(run.planes[plane],), scratch=scratch), networks)
    finally:
        # It is in this process's memory, which a caller may go on using after an error.
        scratch.remove()


def _in_scratch(alone: Run, networks: Networks) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """All maps of the one plane of a run."""
    mappings = measure_planes(alone, [(0,)])
    put(
        alone.scratch,
        alone.intensity_statistics.record_name(0).path,
        {WORK_ITEMS: np.zeros((1, 1), np.int64), **mappings},
    )
    made = np.zeros((len(alone.method.maps), *alone.grid.shape), np.uint8)
    items = [(0, window) for window in range(len(alone.windows))]
    for (_, window), found in predictions_of(alone, networks, items):
        if not isinstance(found, Candidates):
            rows, columns = alone.windows.core_box(window).slices
            made[:, rows, columns] = np.stack([found[name] for name in alone.method.maps])
    return made


def _writer(run: Run, output: str, **options: Any) -> ImageWriter:
    image = run.image
    sizes = {axis: image.size(axis) for axis in AXES} | {"c": len(run.method.maps)}
    sizes["z"] = 1 if run.settings.z_mode == "max_projection" else sizes["z"]
    axes = [axis for axis in AXES if axis == "c" or axis in image.axes]
    return create_image(
        output,
        shape_tczyx=[sizes[axis] for axis in AXES],
        dtype=np.uint8,
        axes=axes,
        version=image.version,
        channels=run.method.maps,
        pixel_size_um=image.pixel_size_um(),
        z_step_um=image.z_step_um(),
        frame_interval_s=image.frame_interval_s(),
        **options,
    )


def predict_maps(
    image: Location,
    *,
    model: Location | Model,
    output: Location,
    overwrite: bool = False,
    on_progress: Progress = silent,
    **options: Unpack[PredictionKeywords],
) -> str:
    """Write the probability maps of an image as another image: uint8, round(255 p), a channel for each map.

    They are the numbers that `segment` decodes with the same settings. One process predicts frame by frame and holds
    the maps of one.

    Parameters
    ----------
    image : str or path
        URL of the image.
    model : str, path or Model
        A trained model, the URL of its folder, or a name of `list_models()`.
    output : str or path
        The store to write.
    overwrite : bool
        Replace an existing store.
    on_progress : callable
        Called with step, done and total.
    **options
        frames, channels, z_mode, level, config, settings, trust, storage_options: as for `segment`.

    Returns
    -------
    str
        URL of the maps. Frames outside the range stay empty.

    Raises
    ------
    InputError
        For a method that proposes candidates and has no maps.
    CellscaleError
        As `segment` does.

    Examples
    --------
    >>> import cellscale
    >>> url = cellscale.predict_maps("movie.zarr", model="model", output="maps.zarr", frames=(0, 1))
    >>> cellscale.open_image("maps.zarr").dims
    ('t', 'c', 'y', 'x')
    """
    output = url_of(output, "output")
    check_not_source(image, "predict-maps")
    job = segmentation_job(image, model, segmentation_options(options))
    run = job.run
    if not run.method.maps:
        raise InputError(f"{run.method.name} proposes candidates and has no maps. Choose another method's model.")
    check_apart(run.image.url, output)
    writer = _writer(run, output, overwrite=overwrite, storage_options=options.get("storage_options"))
    networks = fuse_batchnorm(job.model.networks)
    try:
        for plane, (t, z) in enumerate(run.planes):
            for c, values in enumerate(_plane_maps(run, networks, plane)):
                writer.write(values, t=t, c=c, z=0 if z == "max" else z)
            on_progress("predict", plane + 1, len(run.planes))
        writer.finish(sorted({t for t, _ in run.planes}))
    except BaseException:
        writer.remove()
        raise
    return writer.url
