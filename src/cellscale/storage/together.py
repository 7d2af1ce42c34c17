"""Several requests at once, from code that waits for each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Semaphore
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
REQUESTS = 32
"""Most requests of one process to a store at the same time."""


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions that wait for requests, each in a thread, and return their results in their order.

    Their requests are counted with those of the caller. The first error is raised when all have ended.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(REQUESTS, len(calls))) as threads:
        waiting = [threads.submit(copy_context().run, call) for call in calls]
    return [one.result() for one in waiting]


def both(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Call two functions as `together` does, and return both results."""
    calls: list[Callable[[], Any]] = [first, second]
    one, other = together(calls)
    return one, other


@contextmanager
def ahead(calls: Iterable[tuple[int, Callable[[], T]]], room: int) -> Iterator[Iterator[T]]:
    """Call functions that wait for requests before their results are wanted, several at the same time.

    Parameters
    ----------
    calls : iterable of tuple
        The size of a result, in any unit, and the function; each is called in a thread.
    room : int
        Greatest size, together, of the results that are awaited or there and of the one that was taken last. A result
        that is larger is awaited alone.

    Yields
    ------
    iterator
        The results in the order of the calls; an error is raised where its result would come. The first calls have
        gone out already. Their requests are counted with those of the caller.
    """
    coming, waiting, held = iter(calls), deque[tuple[int, Future[T]]](), 0
    following = next(coming, None)

    def start() -> None:
        nonlocal following, held
        while following is not None and len(waiting) < REQUESTS and (not held or held + following[0] <= room):
            held += following[0]
            waiting.append((following[0], threads.submit(copy_context().run, following[1])))
            following = next(coming, None)

    def results() -> Iterator[T]:
        nonlocal held
        while waiting:
            size, future = waiting.popleft()
            yield future.result()
            del future
            held -= size
            start()

    with ThreadPoolExecutor(REQUESTS) as threads:
        start()
        try:
            yield results()
        finally:
            for _, future in waiting:
                future.cancel()


@contextmanager
def behind(most: int = REQUESTS) -> Iterator[Callable[[Callable[[], Any]], Future[Any]]]:
    """Let writes go on while the caller works: all are done, and the first error is raised, at the end of the context.

    Parameters
    ----------
    most : int
        Writes that wait at the same time, each with its data; the caller waits before it starts another.

    Yields
    ------
    callable
        Starts a call in a thread and returns its future. Its requests are counted with those of the caller.
    """
    room, started = Semaphore(most), list[Future[Any]]()
    with ThreadPoolExecutor(most) as threads:

        def later(call: Callable[[], Any]) -> Future[Any]:
            room.acquire()
            future = threads.submit(copy_context().run, call)
            future.add_done_callback(lambda _: room.release())
            started.append(future)
            return future

        yield later
    for future in started:
        future.result()
