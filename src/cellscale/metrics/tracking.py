"""Scores of tracks: TRA, LNK and DET, complete tracks, track fractions and branching correctness.

Sources: P. Matula et al., Cell tracking accuracy measurement based on comparison of acyclic oriented graphs, 2015 (TRA,
DET; LNK is its part of the edges); V. Ulman et al., An objective comparison of cell-tracking algorithms, 2017 (CT, TF,
BC). A marker of the ground truth belongs to the object that covers more than half of it. Only rows of markers and
objects are kept, never pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.metrics.ctc import FN_WEIGHT, FP_WEIGHT, NS_WEIGHT
from cellscale.metrics.ratios import ratio
from cellscale.types import Table

ED_WEIGHT, EA_WEIGHT, EC_WEIGHT = 1, 1.5, 1
"""Costs of the operations of AOGM on edges, as the challenge sets them: ED, delete a redundant edge; EA, add a missing
one; EC, change the kind of one. `ctc` has those on vertices."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """The objects of a sequence and their tracks, in the convention of the challenge: no track has a gap."""

    objects: Table
    """frame, track and number of each object, ascending, each pair once. The number is what the object's pixels have;
    the track is another one after a gap."""
    tracks: Table
    """track, begin, end (first and last frame) and parent (0: none), ascending by track."""

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """Keys of the objects, frame · 2³² + track, ascending."""
        return _keys(self.objects["frame"], self.objects["track"])

    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Edges of the graph: rows of their two objects, and 1 for an edge from a parent, 0 inside a track."""
        frame, track = self.objects["frame"], self.objects["track"]
        later = self.find(frame + 1, track)
        inside = np.flatnonzero(later >= 0)
        children = np.flatnonzero(self.tracks["parent"] > 0)
        parents = np.searchsorted(self.tracks["track"], self.tracks["parent"][children])
        start = self.find(self.tracks["end"][parents], self.tracks["track"][parents])
        stop = self.find(self.tracks["begin"][children], self.tracks["track"][children])
        kinds = np.concatenate([np.zeros(len(inside), np.int64), np.ones(len(children), np.int64)])
        return np.concatenate([inside, start]), np.concatenate([later[inside], stop]), kinds

    def find(self, frame: NDArray[np.int64], track: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of objects by frame and track, −1 where there is none."""
        return _found(self.keys, _keys(frame, track))

    def find_number(self, frame: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of objects by frame and number, −1 where there is none."""
        keys = _keys(self.objects["frame"], self.objects["number"])
        order = np.argsort(keys)
        at = _found(keys[order], _keys(frame, number))
        return np.where(at >= 0, order[at], -1)


def _keys(frame: NDArray[np.int64], track: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.left_shift(frame, 32) | track


def _found(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in ascending keys, −1 where there is none."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def _segments(
    frame: NDArray[np.int64], track: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """First and last row of each segment, a part of a track without gaps, and whether it follows a gap."""
    # Rows are objects, sorted by track and then by frame; the three results have an entry for each segment.
    first = np.ones(min(1, len(track)), bool)
    new = np.concatenate([first, track[1:] != track[:-1]])
    begins = np.flatnonzero(new | np.concatenate([first, frame[1:] != frame[:-1] + 1]))
    ends = np.concatenate([begins[1:], [len(track)]])[: len(begins)] - 1
    return begins, ends, ~new[begins]


def _segment_ids(track: NDArray[np.int64], again: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers of segments: the first of a track keeps its number, later ones get numbers above all there are."""
    # All arrays have an entry for each segment; `track` is the track that it is a part of.
    ids = track.copy()
    ids[again] = int(track.max(initial=0)) + 1 + np.arange(int(again.sum()))
    return ids


def _segment_parents(
    track: NDArray[np.int64], ids: NDArray[np.int64], again: NDArray[np.bool_], parents: Table
) -> NDArray[np.int64]:
    """Parents of segments: the segment before a gap, or the last segment of the parent of a track; 0: none."""
    # Arrays have an entry for each segment. `owners` maps tracks to tracks, `final` a track to its last segment's id.
    last = np.concatenate([track[1:] != track[:-1], np.ones(min(1, len(track)), bool)])
    owners = dict(zip(parents["track"].tolist(), parents["parent"].tolist(), strict=True))
    final = dict(zip(track[last].tolist(), ids[last].tolist(), strict=True))
    parent = np.zeros(len(ids), np.int64)
    parent[again] = ids[np.flatnonzero(again) - 1]
    for row in np.flatnonzero(~again).tolist():
        mother = owners.get(int(ids[row]), 0)
        if mother and mother not in final:
            raise InputError(f"Track {ids[row]} has the parent {mother}, which has no object.")
        parent[row] = final.get(mother, 0)
    return parent


def tracked(frame: NDArray[np.int64], track: NDArray[np.int64], parents: Table) -> Tracked:
    """Bring objects and the parents of their tracks into the convention of the challenge.

    A track with gaps becomes several: the first keeps its number, the others get numbers above all there are, and each
    has the one before as its parent.

    Parameters
    ----------
    frame, track : int64 array, (n,)
        Frame and track, from 1, of each object.
    parents : Table
        track and parent (0: none); tracks that it does not name have none.

    Raises
    ------
    InputError
        If a parent has no object, or does not end before its child begins.
    """
    keys = np.unique(_keys(frame, track))
    frame, track = keys >> 32, keys & 0xFFFFFFFF
    order = np.lexsort((frame, track))
    f, k = frame[order], track[order]
    begins, ends, again = _segments(f, k)
    ids = _segment_ids(k[begins], again)
    parent = _segment_parents(k[begins], ids, again, parents)
    by = np.argsort(ids, kind="stable")
    tracks = {"track": ids, "begin": f[begins], "end": f[ends], "parent": parent}
    tracks = {name: column[by] for name, column in tracks.items()}
    check_parents(tracks)
    named = np.empty(len(k), np.int64)
    named[order] = np.repeat(ids, ends - begins + 1)
    by = np.lexsort((named, frame))
    return Tracked(objects={"frame": frame[by], "track": named[by], "number": track[by]}, tracks=tracks)


def check_parents(tracks: Table) -> None:
    """Raise InputError for a track that begins before its parent has ended; parents are tracks, or 0."""
    children = np.flatnonzero(tracks["parent"] > 0)
    parents = np.searchsorted(tracks["track"], tracks["parent"][children])
    late = children[tracks["end"][parents] >= tracks["begin"][children]]
    if len(late):
        row = int(late[0])
        raise InputError(
            f"Track {tracks['track'][row]} begins in frame {tracks['begin'][row]}, before its parent "
            f"{tracks['parent'][row]} has ended. Expected parents that end before their children begin."
        )


def tracking_scores(truth: Tracked, found: Tracked, matches: Table) -> dict[str, float]:
    """Score tracks against the ground truth.

    Parameters
    ----------
    truth, found : Tracked
        Ground truth and result.
    matches : Table
        frame, truth (number of a marker) and found (number of the object that covers more than half of it).

    Raises
    ------
    InputError
        If a matched object has no track.

    Returns
    -------
    dict
        tra, det, lnk, ct, tf, and bc_0 … bc_3 (divisions at most that many frames apart); the counts of AOGM: ns, fn,
        fp, ed, ea, ec; and divisions of the ground truth. A score without anything to find is nan.
    """
    matched_tracks = np.zeros(len(truth.keys), np.int64)
    matched_rows = _rows(found, matches, "found")
    matched_tracks[_rows(truth, matches, "truth")] = found.objects["track"][matched_rows]
    counts = _operations(truth, found, matched_tracks)
    vertices, edges = len(truth.keys), counts.pop("edges")
    nodes = NS_WEIGHT * counts["ns"] + FN_WEIGHT * counts["fn"] + FP_WEIGHT * counts["fp"]
    links = ED_WEIGHT * counts["ed"] + EA_WEIGHT * counts["ea"] + EC_WEIGHT * counts["ec"]
    alone = _alone(truth, matched_tracks)
    scores = {
        "tra": _accuracy(nodes + links, FN_WEIGHT * vertices + EA_WEIGHT * edges),
        "det": _accuracy(nodes, FN_WEIGHT * vertices),
        "lnk": _accuracy(links, EA_WEIGHT * edges),
        "ct": _complete_tracks(truth, found, alone),
        "tf": _track_fractions(truth, alone),
    }
    divisions = _Divisions(truth=truth, found=found, matched_tracks=matched_tracks)
    scores |= {f"bc_{apart}": divisions.correctness(apart) for apart in range(4)}
    return scores | {**counts, "divisions": len(divisions.true)}


def _rows(objects: Tracked, matches: Table, side: str) -> NDArray[np.int64]:
    """Rows of the matched objects of one side."""
    rows = objects.find_number(matches["frame"], matches[side])
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        frame, number = (int(matches[name][missing[0]]) for name in ("frame", side))
        raise InputError(
            f"Object {number} of frame {frame} ({side}) is not in the table of tracks; expected a row for each object."
        )
    return rows


def _accuracy(cost: float, worst: float) -> float:
    return 1.0 - ratio(min(cost, worst), worst, empty=float("nan"))


def _operations(truth: Tracked, found: Tracked, matched_tracks: NDArray[np.int64]) -> dict[str, int]:
    """Count what it takes to make the graph of the ground truth of that of the result, and the edges of the former."""
    marked = np.flatnonzero(matched_tracks > 0)
    matched_rows = found.find(truth.objects["frame"][marked], matched_tracks[marked])
    markers = np.bincount(matched_rows, minlength=len(found.keys))
    single = np.full(len(found.keys), -1, np.int64)
    single[matched_rows] = marked
    single[markers != 1] = -1
    count = max(1, len(truth.keys))
    a, b, kinds = truth.edges()
    true = np.argsort(a * count + b)
    true_keys, true_kinds = (a * count + b)[true], kinds[true]
    c, d, kinds = found.edges()
    sure = (single[c] >= 0) & (single[d] >= 0)
    keys, kinds = (single[c] * count + single[d])[sure], kinds[sure]
    correct = np.isin(keys, true_keys)
    at = np.searchsorted(true_keys, keys[correct])
    return {
        "ns": len(marked) - int((markers > 0).sum()),
        "fn": len(matched_tracks) - len(marked),
        "fp": int((markers == 0).sum()),
        "ed": int((~correct).sum()),
        "ea": len(true_keys) - int(np.isin(true_keys, keys).sum()),
        "ec": int((true_kinds[at] != kinds[correct]).sum()),
        "edges": len(true_keys),
    }


def _alone(truth: Tracked, matched_tracks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The track of each marker's object, 0 where there is none or it has several markers."""
    _, which, counts = np.unique(_keys(truth.objects["frame"], matched_tracks), return_inverse=True, return_counts=True)
    return np.where(counts[which] > 1, 0, matched_tracks)


def _complete_tracks(truth: Tracked, found: Tracked, alone: NDArray[np.int64]) -> float:
    """CT: the F1 of tracks that one track of the result follows from their first to their last frame."""
    order = np.argsort(truth.objects["track"], kind="stable")
    tracks, first = np.unique(truth.objects["track"][order], return_index=True)
    least, most = (extreme.reduceat(alone[order], first) for extreme in (np.minimum, np.maximum))
    whole = (least == most) & (least > 0)
    mine, theirs = np.searchsorted(truth.tracks["track"], tracks[whole]), least[whole]
    other = np.searchsorted(found.tracks["track"], theirs)
    equal = [truth.tracks[side][mine] == found.tracks[side][other] for side in ("begin", "end")]
    total = len(truth.tracks["track"]) + len(found.tracks["track"])
    return ratio(2 * int((equal[0] & equal[1]).sum()), total, empty=float("nan"))


def _track_fractions(truth: Tracked, alone: NDArray[np.int64]) -> float:
    """TF: the mean, over tracks that were found at all, of the longest part that one track of the result follows.

    Of a track of the result that follows one whole track, later ones are not counted, as in the challenge's program.
    """
    order = np.argsort(truth.objects["track"], kind="stable")
    track, matched_tracks = truth.objects["track"][order], alone[order]
    runs = np.flatnonzero((np.diff(track, prepend=-1) != 0) | (np.diff(matched_tracks, prepend=-1) != 0))
    lengths = np.diff(np.append(runs, len(track)))
    at = np.searchsorted(truth.tracks["track"], track[runs])
    parts = lengths / (truth.tracks["end"][at] - truth.tracks["begin"][at] + 1)
    by = np.lexsort((-parts, track[runs], matched_tracks[runs]))
    best: dict[int, float] = {}
    last, whole = (0, 0), 0
    for follower, followed, part in zip(
        matched_tracks[runs][by].tolist(), track[runs][by].tolist(), parts[by].tolist(), strict=True
    ):
        if follower == 0 or (follower, followed) == last or follower == whole or best.get(followed) == 1.0:
            continue
        last = (follower, followed)
        best[followed] = max(best.get(followed, 0.0), part)
        whole = follower if part == 1.0 else whole
    return float(np.mean(list(best.values()))) if best else 0.0


@dataclass(frozen=True, kw_only=True)
class _Divisions:
    """Divisions of ground truth and result, compared."""

    truth: Tracked
    found: Tracked
    matched_tracks: NDArray[np.int64]

    @cached_property
    def true(self) -> dict[int, list[int]]:
        """Rows of the daughters' tracks by the row of the mother's."""
        return _divisions(self.truth.tracks)

    @cached_property
    def made(self) -> dict[int, list[int]]:
        """The same of the result."""
        return _divisions(self.found.tracks)

    @cached_property
    def _markers(self) -> dict[tuple[int, int], int]:
        """Number of markers of an object, by frame and track."""
        pairs, counts = np.unique(_keys(self.truth.objects["frame"], self.matched_tracks), return_counts=True)
        return {
            (key >> 32, key & 0xFFFFFFFF): count for key, count in zip(pairs.tolist(), counts.tolist(), strict=True)
        }

    def _follows(self, frame: int, true: int, made: int) -> bool:
        """Whether a track's object has the marker of a true track in a frame, and no other."""
        (row,) = self.truth.find(np.array([frame]), np.array([true]))
        return bool(row >= 0 and self.matched_tracks[row] == made and self._markers[frame, made] == 1)

    def _equal(self, mother: int, other: int, apart: int) -> bool:
        truth, found = self.truth.tracks, self.found.tracks
        end, ended = int(truth["end"][mother]), int(found["end"][other])
        if len(self.true[mother]) != len(self.made[other]) or abs(end - ended) > apart:
            return False
        if not self._follows(min(end, ended), int(truth["track"][mother]), int(found["track"][other])):
            return False
        followers = set()
        for daughter in self.true[mother]:
            for made in self.made[other]:
                begin, begun = int(truth["begin"][daughter]), int(found["begin"][made])
                if abs(begin - begun) <= apart and self._follows(
                    max(begin, begun), int(truth["track"][daughter]), int(found["track"][made])
                ):
                    followers.add(made)
                    break
        return len(followers) == len(self.true[mother])

    def correctness(self, apart: int) -> float:
        """BC: the F1 of divisions that are found at most `apart` frames too early or too late; nan without any."""
        if not self.true:
            return float("nan")
        by_end: dict[int, list[int]] = {}
        for mother in self.true:
            by_end.setdefault(int(self.truth.tracks["end"][mother]), []).append(mother)
        correct = 0
        for other in self.made:
            ended = int(self.found.tracks["end"][other])
            near = [mother for end in range(ended - apart, ended + apart + 1) for mother in by_end.get(end, [])]
            correct += sum(self._equal(mother, other, apart) for mother in near)
        return 2 * correct / (len(self.true) + len(self.made))


def _divisions(tracks: Table) -> dict[int, list[int]]:
    daughters: dict[int, list[int]] = {}
    for row in np.flatnonzero(tracks["parent"] > 0).tolist():
        mother = int(np.searchsorted(tracks["track"], tracks["parent"][row]))
        daughters.setdefault(mother, []).append(row)
    return {mother: rows for mother, rows in sorted(daughters.items()) if len(rows) > 1}
