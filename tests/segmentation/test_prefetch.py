from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cellscale.segmentation.prefetch import prefetch


def test_the_next_item_is_made_while_the_last_is_worked_on() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[Any]:
        for i, event in enumerate(begun):
            event.set()
            yield i

    for i in prefetch(items()):
        assert all(event.wait(10) for event in begun[: i + 2])
        assert not any(event.is_set() for event in begun[i + 2 :])


def test_items_keep_their_order_and_there_may_be_none() -> None:
    assert list(prefetch(iter("abcd"))) == list("abcd")
    assert list(prefetch(iter(()))) == []


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def items() -> Iterator[Any]:
        yield 1
        raise OSError("gone")

    found: list[int] = []
    with pytest.raises(OSError, match="gone"):
        found.extend(prefetch(items()))
    assert found == [1]


def test_a_caller_may_stop_early() -> None:
    begun = threading.active_count()
    found = prefetch(iter(range(100)))
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    assert threading.active_count() == begun
