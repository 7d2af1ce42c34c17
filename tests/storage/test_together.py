"""Several requests at once: order, bounds, errors, and the counts of the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from cellscale.storage.together import ahead, both, together
from cellscale.storage.traffic import counting, request


def answered(value: int) -> int:
    with request("GET"):
        return value


def test_calls_wait_at_the_same_time_and_results_keep_their_order() -> None:
    meeting = threading.Barrier(3)

    def met(value: int) -> int:
        meeting.wait(10)
        return value

    assert together([partial(met, value) for value in range(3)]) == [0, 1, 2]
    with counting() as traffic:
        assert both(partial(answered, 7), lambda: "b") == (7, "b")
    assert traffic.requests == {"GET": 1}


@pytest.mark.parametrize(("sizes", "begun"), [((1, 1, 1, 1), [3, 4, 4, 4]), ((9, 1, 1, 9), [1, 3, 3, 4])])
def test_results_are_awaited_before_they_are_wanted_as_far_as_there_is_room(
    sizes: tuple[int, ...], begun: list[int]
) -> None:
    """A result that is in use takes room as well; one that is larger than the room is awaited alone."""
    started: list[int] = []

    def calls() -> Iterator[tuple[int, Callable[[], int]]]:
        for number, size in enumerate(sizes):
            yield size, partial(answered, number)
            started.append(number)

    with counting() as traffic, ahead(calls(), 3) as results:
        # A call has gone out when the next one was asked for.
        taken = [(result, len(started)) for result in results]
    assert taken == list(enumerate(begun))
    assert traffic.requests == {"GET": 4}


def test_an_error_is_raised_where_its_result_would_come() -> None:
    def fails() -> int:
        raise ValueError("lost")

    calls: list[tuple[int, Callable[[], int]]] = [(1, partial(answered, 1)), (1, fails), (1, partial(answered, 3))]
    with ahead(calls, 10) as results:
        assert next(results) == 1
        with pytest.raises(ValueError, match="lost"):
            next(results)
    with ahead(calls[:0], 1) as results:
        assert list(results) == []
