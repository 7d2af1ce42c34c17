"""Numbers of tracks: kept over gaps, new after divisions, in the order of frames."""

from __future__ import annotations

import numpy as np
import pytest

from cellscale.errors import RunError
from cellscale.linking import numbering
from cellscale.linking.numbering import Earlier, earlier_of, number_tracks

NONE = np.zeros((0, 2), np.int64)


def numbers(frames: list[Earlier], max_gap: int = 2) -> list[list[int]]:
    return [made.track.tolist() for _, made in number_tracks(frames, max_gap)]


def test_a_cell_keeps_its_number_over_gaps() -> None:
    first = earlier_of(2, NONE, [], NONE)
    second = earlier_of(1, np.array([[1, 0]]), [], NONE)
    third = earlier_of(2, np.array([[0, 1]]), [(1, np.array([[0, 0]]))], NONE)
    assert numbers([first, second, third]) == [[1, 2], [2], [1, 2]]


def test_both_daughters_are_new_and_know_their_mother() -> None:
    first = earlier_of(2, NONE, [], NONE)
    second = earlier_of(3, np.array([[0, 1], [1, 2]]), [], np.array([[1, 0]]))
    third = earlier_of(3, np.array([[0, 2], [2, 0]]), [], np.array([[0, 1]]))
    made = [frame for _, frame in number_tracks([first, second, third], 0)]
    assert [frame.track.tolist() for frame in made] == [[1, 2], [3, 1, 4], [4, 5, 6]]
    assert [frame.parent.tolist() for frame in made] == [[0, 0], [2, 0, 2], [2, 3, 3]]
    assert [frame.generation.tolist() for frame in made] == [[0, 0], [1, 0, 1], [1, 2, 2]]


def test_spans_are_the_first_and_last_frames_of_tracks() -> None:
    spans = numbering.Spans()
    first = earlier_of(2, NONE, [], NONE)
    second = earlier_of(3, np.array([[0, 1], [1, 2]]), [], np.array([[1, 0]]))
    many = earlier_of(3000, NONE, [(1, np.array([[1, 2999]]))], NONE)
    frames = [first, second, earlier_of(0, NONE, [], NONE), many, earlier_of(1, np.array([[2999, 0]]), [], NONE)]
    for t, (_, made) in enumerate(number_tracks(frames, 1)):
        spans.add(t, made)
    table = spans.table()
    assert table["track"].tolist() == list(range(1, 3004))
    assert table["begin"][:5].tolist() == [0, 0, 1, 1, 3]
    assert table["end"][:5].tolist() == [4, 0, 1, 1, 3]
    assert table["parent"][:5].tolist() == [0, 0, 2, 2, 0]
    assert np.flatnonzero(table["end"] == 4).tolist() == [0]
    assert numbering.Spans().table()["track"].tolist() == []


def test_frames_without_objects_and_none_at_all() -> None:
    empty = earlier_of(0, NONE, [], NONE)
    assert numbers([]) == []
    assert numbers([empty, earlier_of(1, NONE, [], NONE), empty, empty]) == [[], [1], [], []]


def test_more_tracks_than_labels_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbering, "MOST_TRACKS", 3)
    with pytest.raises(RunError, match="more than 3 tracks"):
        numbers([earlier_of(2, NONE, [], NONE)] * 2)
