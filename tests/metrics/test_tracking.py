"""TRA, DET, LNK, CT, TF and BC against another implementation of the challenge's measures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from ctc_metrics.scripts.evaluate import calculate_metrics

from cellscale.errors import InputError
from cellscale.metrics.tracking import Tracked, tracked, tracking_scores
from cellscale.types import Table

NAMES = {"tra": "TRA", "det": "DET", "lnk": "LNK", "ct": "CT", "tf": "TF"} | {f"bc_{i}": f"BC({i})" for i in range(4)}


def lineage(rng: np.random.Generator, frames: int) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """Objects (frame, track) of cells that divide, die and appear, and the parents of tracks."""
    objects, parents, waiting, track = [], {}, [(0, 0)] * 5 + [(3, 0)] * 2, 0
    while waiting:
        begin, parent = waiting.pop()
        track += 1
        end = min(frames - 1, begin + int(rng.integers(0, 7)))
        objects += [(frame, track) for frame in range(begin, end + 1)]
        if parent:
            parents[track] = parent
        if end < frames - 1 and rng.random() < 0.6:
            waiting += [(end + 1, track)] * 2
    return objects, parents


def damaged(
    rng: np.random.Generator, objects: list[tuple[int, int]], parents: dict[int, int]
) -> tuple[list[tuple[int, int]], dict[int, int], list[tuple[int, int, int]]]:
    """A result with lost, spurious and merged objects, cut and swapped tracks; and its matches."""
    swap = dict(enumerate(rng.permutation(np.arange(1, 200)).tolist(), 1))
    cut = {track: int(rng.integers(1, 12)) for _, track in objects if rng.random() < 0.3}
    found, matches = set(), []
    names: dict[int, list[int]] = {}
    for frame, track in objects:
        if rng.random() < 0.05:
            continue
        name = swap[track] + (200 if frame >= cut.get(track, 99) else 0)
        if rng.random() < 0.04 and names.get(frame):
            name = names[frame][-1]
        names.setdefault(frame, []).append(name)
        found.add((frame, name))
        matches.append((frame, track, name))
    found |= {(int(frame), 900 + i) for i, frame in enumerate(rng.integers(0, 10, 3))}
    named = {name for _, name in found}
    ends = {name: max(frame for frame, other in found if other == name) for name in named}
    begins = {name: min(frame for frame, other in found if other == name) for name in named}
    kept = {}
    for child, parent in parents.items():
        a, b = swap[child], swap[parent]
        b = b + 200 if b + 200 in named else b
        if a in named and b in named and ends[b] < begins[a] and rng.random() < 0.9:
            kept[a] = b
    return sorted(found), kept, matches


def parents_table(parents: dict[int, int]) -> Table:
    return {"track": np.array(list(parents), np.int64), "parent": np.array(list(parents.values()), np.int64)}


def made(objects: list[tuple[int, int]], parents: dict[int, int]) -> Tracked:
    frame, track = np.array(objects, np.int64).reshape(-1, 2).T
    return tracked(frame, track, parents_table(parents))


def rows_of(value: Tracked, frames: int) -> list[list[int]]:
    return [value.objects["track"][value.objects["frame"] == frame].tolist() for frame in range(frames)]


def other_scores(truth: Tracked, found: Tracked, matches: Table, frames: int) -> dict[str, Any]:
    renamed = {
        (int(f), int(n)): int(t)
        for f, n, t in zip(*(found.objects[name] for name in ("frame", "number", "track")), strict=True)
    }
    mapped: list[tuple[list[int], list[int]]] = [([], []) for _ in range(frames)]
    for frame, true, name in zip(*(matches[name].tolist() for name in ("frame", "truth", "found")), strict=True):
        mapped[frame][0].append(true)
        mapped[frame][1].append(renamed[frame, name])
    trajectories = {
        "labels_ref": rows_of(truth, frames),
        "labels_comp": rows_of(found, frames),
        "mapped_ref": [true for true, _ in mapped],
        "mapped_comp": [names for _, names in mapped],
    }
    tables = [
        np.stack([value.tracks[name] for name in ("track", "begin", "end", "parent")], 1) for value in (found, truth)
    ]
    return dict(calculate_metrics(*tables, trajectories, {}, ["DET", "TRA", "LNK", "CT", "TF", "BC"], True))


@pytest.mark.parametrize("seed", range(30))
def test_random_lineages_score_as_elsewhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    objects, parents = lineage(rng, 10)
    names, kept, pairs = damaged(rng, objects, parents)
    truth, found = made(objects, parents), made(names, kept)
    matches = dict(zip(("frame", "truth", "found"), np.array(pairs, np.int64).T, strict=True))
    mine, other = tracking_scores(truth, found, matches), other_scores(truth, found, matches, 10)
    theirs = {name: math.nan if other[key] is None else other[key] for name, key in NAMES.items()}
    assert {name: mine[name] for name in NAMES} == pytest.approx(theirs, abs=1e-9, nan_ok=True)
    assert {name: mine[name] for name in ("ns", "fn", "fp", "ed", "ea", "ec")} == {
        name: other[f"AOGM_{name.upper()}"] for name in ("ns", "fn", "fp", "ed", "ea", "ec")
    }


def test_a_perfect_result_and_an_empty_one() -> None:
    objects, parents = lineage(np.random.default_rng(5), 10)
    truth = made(objects, parents)
    matches = {"frame": truth.objects["frame"], "truth": truth.objects["track"], "found": truth.objects["track"]}
    assert {tracking_scores(truth, truth, matches)[name] for name in NAMES} == {1.0}
    nothing = {name: column[:0] for name, column in matches.items()}
    scores = tracking_scores(truth, made([], {}), nothing)
    assert [scores[name] for name in ("tra", "det", "lnk", "ct", "tf", "bc_0")] == [0.0] * 6


def test_a_swap_of_two_tracks_costs_edges_alone() -> None:
    objects = [(frame, track) for frame in range(4) for track in (1, 2)]
    names = [(frame, track if frame < 2 else 3 - track) for frame, track in objects]
    matches = dict(
        zip(
            ("frame", "truth", "found"),
            np.array([(f, t, n) for (f, t), (_, n) in zip(objects, names, strict=True)]).T,
            strict=True,
        )
    )
    scores = tracking_scores(made(objects, {}), made(names, {}), matches)
    assert (scores["ed"], scores["ea"], scores["ec"], scores["det"]) == (2, 2, 0, 1.0)
    assert scores["lnk"] == pytest.approx(1 - (2 + 3) / 9)
    assert scores["tra"] == pytest.approx(1 - (2 + 3) / (80 + 9))
    assert (scores["ct"], scores["tf"]) == (0.0, 0.5)


def test_a_track_with_a_gap_becomes_two() -> None:
    found = made([(0, 1), (1, 1), (4, 1), (5, 2), (5, 3)], {2: 1, 3: 1})
    assert {name: column.tolist() for name, column in found.tracks.items()} == {
        "track": [1, 2, 3, 4],
        "begin": [0, 5, 5, 4],
        "end": [1, 5, 5, 4],
        "parent": [0, 4, 4, 1],
    }
    assert found.objects["number"].tolist() == [1, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("parents", "words"), [({2: 9}, "which has no object"), ({2: 1}, "before its parent 1 has ended")]
)
def test_parents_that_do_not_fit_are_named(parents: dict[int, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made([(0, 1), (1, 1), (1, 2)], parents)
