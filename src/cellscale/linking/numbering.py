"""Numbers of tracks: one sweep over the frames, which holds the few frames that a gap may reach back to.

A cell that continues keeps its number; daughters get new numbers. Numbers follow the frames, and in a frame the raster
order of first pixels, so that they depend only on the pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.types import Table

MOST_TRACKS = int(np.iinfo(np.uint32).max)


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Predecessors of the n objects of a frame."""

    back: NDArray[np.int64]
    """(n,), how many frames before the same cell was last seen; 0: never."""
    row: NDArray[np.int64]
    """(n,), its row there."""
    mother: NDArray[np.int64]
    """(n,), row of the mother in the frame before, −1: none. Daughters have been nothing before."""


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """Tracks of the objects of a frame, n objects."""

    track: NDArray[np.int64]
    """(n,), from 1."""
    parent: NDArray[np.int64]
    """(n,), track of the mother of the object's track; 0: none."""
    generation: NDArray[np.int64]
    """(n,), number of divisions since the track's first known ancestor."""


class Spans:
    """First and last frames and parents of tracks, gathered frame by frame."""

    def __init__(self) -> None:
        """Begin before the first frame."""
        self._columns = np.zeros((3, 1024), np.int64)
        self._count = 0

    def add(self, frame: int, made: Numbered) -> None:
        """Add the objects of the next frame."""
        last = max(self._count, int(made.track.max(initial=0)))
        if last > self._columns.shape[1]:
            # At least doubled, so that all additions together are linear in the number of tracks.
            self._columns = np.pad(self._columns, ((0, 0), (0, last)))
        at = made.track - 1
        new = at >= self._count
        self._columns[0, at[new]], self._columns[2, at[new]] = frame, made.parent[new]
        self._columns[1, at] = frame
        self._count = last

    def table(self) -> Table:
        """track, begin, end and parent (0: none), in the order of tracks."""
        begin, end, parent = self._columns[:, : self._count]
        return {"track": np.arange(1, self._count + 1), "begin": begin, "end": end, "parent": parent}


def earlier_of(
    count: int,
    links: NDArray[np.int64],
    gaps: Iterable[tuple[int, NDArray[np.int64]]],
    daughters: NDArray[np.int64],
) -> Earlier:
    """Combine links, gaps and divisions to the predecessors of the objects of a frame.

    Parameters
    ----------
    count : int
        Number of objects of the frame.
    links : int64 array, (n, 2)
        Links from the frame before, see `link_frames`.
    gaps : iterable
        Number of frames between, and links over them, see `link_gap`.
    daughters : int64 array, (m, 2)
        Mothers in the frame before and second daughters, see `daughters`.
    """
    back, row = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for frames, pairs in ((1, links), *((gap + 1, pairs) for gap, pairs in gaps)):
        back[pairs[:, 1]], row[pairs[:, 1]] = frames, pairs[:, 0]
    mother = np.full(count, -1, np.int64)
    mother[daughters[:, 1]] = daughters[:, 0]
    first = (back == 1) & np.isin(row, daughters[:, 0])
    mother[first] = row[first]
    back[first] = 0
    return Earlier(back=back, row=row, mother=mother)


def number_tracks(frames: Iterable[Earlier], max_gap: int) -> Iterator[tuple[Earlier, Numbered]]:
    """Number the objects of frame after frame; yield each with its numbers.

    Parameters
    ----------
    frames : iterable of Earlier
        All frames in their order.
    max_gap : int
        Most frames in a row in which a cell may be missing.

    Raises
    ------
    RunError
        If there are more tracks than uint32 has labels.
    """
    known: deque[Numbered] = deque(maxlen=max_gap + 1)
    last = 0
    for frame in frames:
        made = {name: np.zeros(len(frame.back), np.int64) for name in ("track", "parent", "generation")}
        for back, before in enumerate(reversed(known), 1):
            same = np.flatnonzero(frame.back == back)
            for name, column in made.items():
                column[same] = getattr(before, name)[frame.row[same]]
        new = np.flatnonzero(frame.back == 0)
        made["track"][new] = last + 1 + np.arange(len(new))
        last += len(new)
        if last > MOST_TRACKS:
            raise RunError(f"There are more than {MOST_TRACKS} tracks; uint32 labels end there. Track fewer frames.")
        born = np.flatnonzero(frame.mother >= 0)
        if len(born):
            mothers = frame.mother[born]
            made["parent"][born] = known[-1].track[mothers]
            made["generation"][born] = known[-1].generation[mothers] + 1
        known.append(Numbered(**made))
        yield frame, known[-1]
