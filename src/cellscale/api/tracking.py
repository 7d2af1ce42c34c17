"""Track the objects of a label layer through time; score and export tracks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from cellscale.engine.ray_map import RayExecutor, cluster
from cellscale.errors import MissingError
from cellscale.ngff.image import open_image
from cellscale.ngff.label_pair import open_pair
from cellscale.ngff.labels import LabelLayer, open_labels
from cellscale.progress import Progress, silent
from cellscale.segmentation.executor import Serial
from cellscale.segmentation.target import Target
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.settings.keywords import check_backend, options_from
from cellscale.storage.folder import Folder, write_file
from cellscale.storage.outputs import check_ending
from cellscale.storage.urls import Location, check_apart, url_of, with_urls
from cellscale.storage.urls import address as full_url
from cellscale.tracking import exports
from cellscale.tracking.lineage import read_parents, tracks_of
from cellscale.tracking.options import TrackingKeywords, TrackingOptions
from cellscale.tracking.plan import check_whole, failed_regions, plan_tracks
from cellscale.tracking.run import track as run_tracking
from cellscale.tracking.scoring import score_tracks
from cellscale.viewers.lineage import MOST_FAMILIES, lineage_picture


@dataclass(frozen=True, kw_only=True)
class TrackingResult:
    """A finished tracking: the layer that was published, and what was found."""

    layer: str
    """URL of the layer of tracks."""
    frames: int
    """Number of frames."""
    objects: int
    """Objects in all frames."""
    tracks: int
    """Number of tracks."""
    divisions: int
    """Number of divisions."""
    gaps: int
    """Links over frames in which a cell is missing."""
    failed_regions: int
    """Regions of the tracked layer that were not segmented."""
    reused: Mapping[str, int]
    """Tasks of each step that an earlier attempt had done."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a dictionary of JSON's types."""
        return dataclasses.asdict(self)


def track(
    image: Location,
    *,
    backend: Literal["ray", "serial"] = "ray",
    address: str | None = None,
    on_progress: Progress = silent,
    **options: Unpack[TrackingKeywords],
) -> TrackingResult:
    """Follow the objects of a label layer through time and write a layer whose labels are tracks.

    Objects of consecutive frames are linked by overlap and distance (one assignment of the least cost for each pair of
    frames), then over gaps, then daughters are given to mothers. A cell keeps its number; daughters get new ones.
    The object table has track, parent, generation and velocity of each object.

    Parameters
    ----------
    image : str or path
        URL of the image.
    backend : {"ray", "serial"}
        Work on a Ray cluster, or in this process without Ray.
    address : str
        Address of a Ray cluster; None: RAY_ADDRESS, or a Ray started on this machine.
    on_progress : callable
        Called with step, done and total.
    **options
        layer, new_layer, layer_store, max_distance_px, max_gap, divisions, window, overwrite, allow_failed_tiles,
        storage_options: as `cellscale.tracking.options.TrackingOptions` says.

    Returns
    -------
    TrackingResult
        The layer, and the number of tracks, divisions and gaps.

    Raises
    ------
    CellscaleError
        For an image or layer that does not exist or does not fit, a layer with failed regions while
        `allow_failed_tiles` is not set, or a run in which tasks failed.

    Examples
    --------
    >>> import cellscale
    >>> result = cellscale.track("movie.zarr", layer="truth", backend="serial")
    >>> result.frames, result.tracks > 0
    (3, True)
    """
    check_backend(backend)
    chosen = options_from(TrackingOptions, with_urls(options, "layer_store"), "a tracking")
    storage = dict(chosen.storage_options or {})
    opened = open_image(url_of(image, "image"), storage_options=storage)
    source = open_labels(chosen.layer_store or opened.url, chosen.layer, storage_options=storage)
    if not chosen.allow_failed_tiles:
        check_whole(source)
    home = source.url.rpartition("/labels/")[0]
    scratch = Folder(url=f"{home}/.cellscale-{chosen.name}", storage_options=storage)
    run = plan_tracks(opened, source, chosen.rules, scratch, chosen.window)
    output = None if home == opened.url else home
    target = Target(store=home, name=chosen.name, output=output, overwrite=chosen.overwrite)
    engine = RayExecutor()
    serial = Serial(attempts=engine.attempts, backoff_s=engine.backoff_s)
    with nullcontext() if backend == "serial" else cluster(address):
        executor = serial if backend == "serial" else engine
        counts, report = run_tracking(run, target, executor=executor, on_progress=on_progress)
    found = {**dataclasses.asdict(counts), "failed_regions": len(failed_regions(source))}
    return TrackingResult(layer=target.layer, frames=run.frames, reused=report.reused, **found)


def evaluate_tracks(
    image: Location,
    *,
    layer: str = "cells-tracks",
    ground_truth: str = "truth",
    ground_truth_store: Location | None = None,
    ground_truth_tracks: Location | None = None,
    frames: Frames = None,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> dict[str, Any]:
    """Score a layer of tracks against the ground truth by the measures of the Cell Tracking Challenge.

    Parameters
    ----------
    image : str or path
        URL of the image, or of the store that holds the layer.
    layer, ground_truth : str
        Names of the two layers, whose labels are tracks.
    ground_truth_store : str
        Store of the ground truth; None: the image's own.
    ground_truth_tracks : str or path
        The challenge's table of the true tracks, `man_track.txt`; None: what the layer's object table says, or no
        parents.
    frames : tuple of int
        Half-open range of frames; None: all.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    dict
        tra, det, lnk, ct, tf, bc_0 … bc_3, the counts that they are made of, and the number of frames.

    Raises
    ------
    CellscaleError
        For layers or frames that do not exist, layers of different size, or a table that is damaged.

    Examples
    --------
    >>> import cellscale
    >>> scores = cellscale.evaluate_tracks("movie.zarr", layer="truth-tracks", ground_truth="truth-tracks")
    >>> scores["tra"]
    1.0
    """
    found, true = open_pair(
        image, layer, ground_truth, ground_truth_store=ground_truth_store, storage_options=storage_options
    )
    chosen = chosen_frames(frames, found.size("t"), found.url)
    parents = None
    if ground_truth_tracks is not None:
        place = url_of(ground_truth_tracks, "ground_truth_tracks")
        folder, _, name = full_url(place).rpartition("/")
        text = Folder(url=folder, storage_options=dict(storage_options or {})).read(name)
        if text is None:
            raise MissingError(f"No table of tracks was found at {place}.")
        parents = read_parents(place, text)
    scores = score_tracks(found, true, chosen, parents=parents, on_progress=on_progress)
    return {"frames": len(chosen), **scores}


def _opened(
    image: Location, output: Location, layer: str, storage_options: Mapping[str, Any] | None
) -> tuple[LabelLayer, str]:
    """Open a layer of tracks; return it with the URL of the output, which must not lie in the image, nor hold it."""
    url, place = url_of(image, "image"), url_of(output, "output")
    check_apart(url, place)
    return open_labels(url, layer, storage_options=storage_options), place


def export_ctc(
    image: Location,
    output: Location,
    *,
    layer: str = "cells-tracks",
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> int:
    """Write a layer of tracks as a folder of the Cell Tracking Challenge: `maskTTT.tif` and `res_track.txt`.

    Parameters
    ----------
    image : str or path
        URL of the image, or of the store that holds the layer.
    output : str or path
        The folder, any fsspec URL; it must be empty, or have masks of a stopped export of this layer.
    layer : str
        Name of the layer.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    int
        Number of tracks; one with gaps counts as several, as the challenge wants it.

    Raises
    ------
    CellscaleError
        For a layer that does not exist, a folder that has files, or more tracks than the masks can hold.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.export_ctc("movie.zarr", "challenge", layer="truth-tracks") > 0
    True
    """
    found, place = _opened(image, output, layer, storage_options)
    folder = Folder(url=full_url(place), storage_options=dict(storage_options or {}))
    return exports.export_ctc(found, folder, on_progress=on_progress)


def export_geff(
    image: Location,
    output: Location,
    *,
    layer: str = "cells-tracks",
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Write the tracks of a layer as a GEFF graph that points at the layer; needs the extra `track`.

    Parameters
    ----------
    image : str or path
        URL of the image, or of the store that holds the layer.
    output : str or path
        The folder, on this machine; it must be empty, and appears when it is complete.
    layer : str
        Name of the layer.
    storage_options : mapping
        Options for fsspec.

    Returns
    -------
    int
        Number of nodes: one for each object.

    Raises
    ------
    CellscaleError
        For a layer without tracks, a folder that has files, or a missing package.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.export_geff("movie.zarr", "lineage.geff", layer="truth-tracks") > 0
    True
    """
    found, place = _opened(image, output, layer, storage_options)
    return exports.export_geff(found, place)


def draw_lineage(
    image: Location,
    output: Location = "lineage.png",
    *,
    layer: str = "cells-tracks",
    families: int = MOST_FAMILIES,
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Draw the tracks of a layer over time, with their divisions, as PNG or SVG.

    Parameters
    ----------
    image : str or path
        URL of the image, or of the store that holds the layer.
    output : str or path
        The picture, any fsspec URL that ends with .png or .svg.
    layer : str
        Name of the layer.
    families : int
        Most families that are drawn: those with the most tracks first, then the longest.
    storage_options : mapping
        Options for fsspec.

    Returns
    -------
    int
        Number of tracks of the layer.

    Raises
    ------
    CellscaleError
        For a layer without tracks, another ending, or a picture that cannot be written.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.draw_lineage("movie.zarr", "lineage.svg", layer="truth-tracks") > 0
    True
    """
    found, place = _opened(image, output, layer, storage_options)
    form = check_ending(place, "picture", ".png", ".svg").removeprefix(".")
    tracks = tracks_of(found)
    write_file(place, lineage_picture(tracks, families=families, form=form), storage_options)
    return len(tracks["track"])
