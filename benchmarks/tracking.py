"""Tracks of ground-truth masks against the truth, and time and memory of many frames.

`python benchmarks/tracking.py real FOLDER` takes the sequences of the Cell Tracking Challenge in FOLDER, gives the
masks of every frame random numbers, tracks them and scores the tracks; also those by overlap alone, by laptrack and, if
it is installed, by ultrack. Names after FOLDER choose sequences or kinds of masks; `NAME=MODEL` adds masks by a model
of one's own, e.g. `DIC-C2DH-HeLa=models/dic`.
`python benchmarks/tracking.py scale FRAMES CELLS [FOLDER]` tracks many frames of synthetic cells.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from laptrack import LapTrack
from numpy.typing import NDArray

import cellscale
import many_frames
from annotated import pages
from cellscale.linking.tables import object_sums, overlap_sums, scaled_centroids, whole_objects
from cellscale.metrics.tracking import tracked, tracking_scores
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import publish_labels, stage_labels
from cellscale.ngff.writer import create_image

SEQUENCES = {"DIC-C2DH-HeLa": None, "Fluo-N2DL-HeLa": 46, "PhC-C2DL-PSC": None}
"""Sequences 01, and how many of their first frames follow each other without a gap."""
SCORES = ("tra", "det", "lnk", "ct", "tf", "bc_1")


def stored(url: Path, frames: Any, layer: str = "cells") -> NgffImage:
    """An image of zeros with a layer of these labels."""
    first = next(iter(frames)) if not isinstance(frames, np.ndarray) else frames[0]
    writer = create_image(
        str(url), shape_tczyx=(len(frames), 1, 1, *first.shape), dtype=np.dtype("u1"), axes=tuple("tyx")
    )
    writer.finish()
    image = open_image(str(url))
    made = stage_labels(image, layer, planes_z=1)
    for t in range(len(frames)):
        for box in made.shards():
            made.write(frames[t][box.slices], box, t=t)
    publish_labels(made)
    return image


def renumbered(frames: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The same objects with random numbers in every frame."""
    rng, made = np.random.default_rng(0), np.zeros_like(frames)
    for t, labels in enumerate(frames):
        ids = np.unique(labels[labels > 0])
        table = np.zeros(int(labels.max()) + 1, np.uint32)
        table[ids] = rng.permutation(len(ids)) + 1
        made[t] = table[labels]
    return made


def by_overlap(frames: NDArray[np.uint32]) -> list[dict[int, int]]:
    """Tracks by the greatest overlap with the frame before, each object once: label to track, frame by frame."""
    names: list[dict[int, int]] = []
    count = 0
    for t, labels in enumerate(frames):
        now: dict[int, int] = {}
        if t:
            pairs = overlap_sums(frames[t - 1], labels)
            for k in np.argsort(-pairs["pixels"], kind="stable"):
                a, b = int(pairs["a"][k]), int(pairs["b"][k])
                if b not in now and names[-1][a] not in now.values():
                    now[b] = names[-1][a]
        for label in np.unique(labels[labels > 0]).tolist():
            if label not in now:
                count += 1
                now[label] = count
        names.append(now)
    return names


def by_laptrack(frames: NDArray[np.uint32], radius: float) -> tuple[list[dict[int, int]], dict[int, int]]:
    """Tracks and parents by laptrack on scaled_centroids, with gaps and splits; squared distances up to the radius."""
    objects = [whole_objects([object_sums(f, origin=(0, 0), z=0, shape=f.shape)]) for f in frames]
    limit = radius**2
    tracker = LapTrack.model_validate(
        {"cutoff": limit, "gap_closing_cutoff": limit, "gap_closing_max_frame_count": 2, "splitting_cutoff": limit}
    )
    graph = tracker.predict([scaled_centroids(found, (1.0, 1.0, 1.0))[:, 1:] for found in objects])
    names: dict[tuple[int, int], int] = {}
    parents: dict[int, int] = {}
    for node in sorted(graph.nodes):
        before = list(graph.predecessors(node))
        if before and graph.out_degree(before[0]) == 1:
            names[node] = names[before[0]]
            continue
        names[node] = len(set(names.values())) + 1
        if before:
            parents[names[node]] = names[before[0]]
    labels = [found["label"].tolist() for found in objects]
    return [{labels[t][i]: names[t, i] for i in range(len(labels[t]))} for t in range(len(frames))], parents


def scored(
    folder: Path, truth: NDArray[np.uint32], found: NDArray[np.uint32], parents: dict[int, int]
) -> dict[str, Any]:
    """Scores of frames whose numbers are tracks."""
    man = np.loadtxt(folder / "01_man_track.txt", dtype=np.int64)

    def rows(frames: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ids = [np.unique(f[f > 0]).astype(np.int64) for f in frames]
        return np.repeat(np.arange(len(ids)), [len(i) for i in ids]), np.concatenate(ids)

    frame, track = rows(truth)
    known = np.isin(man[:, 0], track)
    mothers = np.where(np.isin(man[:, 3], track), man[:, 3], 0)
    true = tracked(frame, track, {"track": man[known, 0], "parent": mothers[known]})
    made = tracked(
        *rows(found), {"track": np.array(list(parents), np.int64), "parent": np.array(list(parents.values()), np.int64)}
    )
    matches = []
    for t, (a, b) in enumerate(zip(truth, found, strict=True)):
        pairs = overlap_sums(a, b)
        ids, counts = np.unique(a, return_counts=True)
        held = 2 * pairs["pixels"] > counts[np.searchsorted(ids, pairs["a"])]
        matches.append(np.stack([np.full(int(held.sum()), t), pairs["a"][held], pairs["b"][held]]))
    table = dict(zip(("frame", "truth", "found"), np.concatenate(matches, axis=1), strict=True))
    return tracking_scores(true, made, table)


def relabelled(frames: NDArray[np.uint32], names: list[dict[int, int]]) -> NDArray[np.uint32]:
    """Frames with the numbers of tracks."""
    made = np.zeros_like(frames)
    for t, now in enumerate(names):
        table = np.zeros(int(frames[t].max()) + 1, np.uint32)
        table[list(now)] = list(now.values())
        made[t] = table[frames[t]]
    return made


def radius_px(frames: NDArray[np.uint32]) -> float:
    """The median, over frames, of the radius that cellscale uses."""
    from cellscale.linking.links import LinkRules, radius_of

    tables = (whole_objects([object_sums(f, origin=(0, 0), z=0, shape=f.shape)]) for f in frames)
    return float(np.median([radius_of(table, LinkRules()) for table in tables]))


def masks_of(folder: Path, kind: str, stop: int | None) -> NDArray[np.uint32]:
    """Masks of a sequence, with random numbers in every frame: its own ones, or those of a model."""
    if kind in ("tra", "st_seg"):
        return renumbered(tifffile.imread(folder / f"01_{kind}.tif").astype(np.uint32)[:stop])
    with tempfile.TemporaryDirectory() as place:
        raw = pages(folder, "01_raw")
        frames = np.stack([raw[number] for number in pages(folder, "01_tra")][:stop])
        image = cellscale.save_image(frames, f"{place}/i.zarr", axes="tyx")
        cellscale.segment(image.url, model=kind, backend="serial")
        return renumbered(np.asarray(cellscale.open_labels(image.url, "cells")).astype(np.uint32))


def real(data: Path, chosen: tuple[str, ...] = ()) -> None:
    """Print a row of the table for each sequence, kind of masks and tracker; of chosen sequences and kinds."""
    trackers = ["cellscale", "laptrack", "overlap"] + ["ultrack"] * (importlib.util.find_spec("ultrack") is not None)
    print(f"| sequence | masks | tracker | {' | '.join(name.upper() for name in SCORES)} | s |")
    print("|---|---|---|" + "---|" * (len(SCORES) + 1))
    for name, stop in SEQUENCES.items():
        folder = data / name
        truth = tifffile.imread(folder / "01_tra.tif").astype(np.uint32)[:stop]
        models = [word.partition("=")[2] for word in chosen if word.startswith(f"{name}=")]
        for kind in ("tra", "st_seg", *(("nuclei",) if name.startswith("Fluo") else ()), *models):
            if chosen and not {name, kind, f"{name}={kind}"} & set(chosen):
                continue
            masks = masks_of(folder, kind, stop)
            for tracker in trackers:
                began = time.perf_counter()
                found, parents = _tracked(tracker, masks)
                seconds = time.perf_counter() - began
                scores = scored(folder, truth, found, parents)
                values = " | ".join(f"{scores[score]:.4f}" for score in SCORES)
                print(f"| {name} 01 | {Path(kind).name} | {tracker} | {values} | {seconds:.1f} |", flush=True)


def by_ultrack(masks: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], dict[int, int]]:
    """Frames and parents of ultrack with its default options, if it is installed."""
    import ultrack

    with tempfile.TemporaryDirectory() as place:
        config = ultrack.MainConfig()
        config.data_config.working_dir = Path(place)
        ultrack.track(config, labels=masks, overwrite=True)
        rows, graph = ultrack.to_tracks_layer(config)
        found = np.asarray(ultrack.tracks_to_zarr(config, rows)).astype(np.uint32)
    return found, {int(track): int(np.ravel(mothers)[0]) for track, mothers in graph.items()}


def _tracked(tracker: str, masks: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], dict[int, int]]:
    """Frames whose numbers are tracks, and the parents of tracks."""
    if tracker == "overlap":
        return relabelled(masks, by_overlap(masks)), {}
    if tracker == "ultrack":
        return by_ultrack(masks)
    if tracker == "laptrack":
        names, parents = by_laptrack(masks, radius_px(masks))
        return relabelled(masks, names), parents
    import pandas as pd

    with tempfile.TemporaryDirectory() as place:
        image = stored(Path(place) / "i.zarr", masks)
        result = cellscale.track(image.url, backend="serial")
        found = cellscale.open_labels(image.url, "cells-tracks").values
        table = pd.read_parquet(f"{result.layer}/objects.parquet")
    born = table[table.parent > 0]
    return found, dict(zip(born.track.tolist(), born.parent.tolist(), strict=True))


if __name__ == "__main__":
    if sys.argv[1] == "real":
        real(Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["CELLSCALE_DATA"]), tuple(sys.argv[3:]))
    elif sys.argv[1] == "scale":
        with tempfile.TemporaryDirectory() as place:
            many_frames.scale(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4] if len(sys.argv) > 4 else place))
    else:
        url, name, window, workers = sys.argv[2:]
        print(json.dumps(many_frames.run(url, name, int(window), int(workers))))
