"""Traffic: the requests that a piece of work makes to its stores, counted by kind, with their bytes and time.

Requests are counted where they are made, on every kind of store, a file system's as well. What they are added to is
part of the context, which follows the work into threads and event loops: `counting` sets it for a piece of work.
Attempts that a storage library repeats by itself count once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["GET", "HEAD", "PUT", "LIST", "DELETE"]
"""Kinds of requests that object stores charge for, by their names in S3; a DELETE may name many objects."""
PAGE = 1000
"""Most names in an answer to a LIST, or objects of a DELETE."""


@dataclass(kw_only=True)
class Traffic:
    """Requests of a piece of work."""

    requests: Counter[str] = field(default_factory=Counter)
    """Number of requests of each kind."""
    read_bytes: int = 0
    """Bytes of the objects, or parts of them, that were read."""
    written_bytes: int = 0
    waiting_s: float = 0.0
    """Time until the answers, s; requests at the same time count one by one."""

    def __add__(self, other: Traffic) -> Traffic:
        """Return the sum of both."""
        return Traffic(
            requests=self.requests + other.requests,
            read_bytes=self.read_bytes + other.read_bytes,
            written_bytes=self.written_bytes + other.written_bytes,
            waiting_s=self.waiting_s + other.waiting_s,
        )

    def taken(self) -> Traffic:
        """Return the requests so far, and begin anew."""
        with _LOCK:
            found = Traffic(**{field.name: getattr(self, field.name) for field in fields(self)})
            self.requests, self.read_bytes, self.written_bytes, self.waiting_s = Counter(), 0, 0, 0.0
        return found

    def to_dict(self) -> dict[str, int | float]:
        """Return kinds, bytes and time as one flat dictionary of JSON's types."""
        others = {"read_bytes": self.read_bytes, "written_bytes": self.written_bytes}
        return {**dict(sorted(self.requests.items())), **others, "waiting_s": round(self.waiting_s, 3)}


@dataclass(kw_only=True)
class Request:
    """A request that is made."""

    read_bytes: int = 0
    written_bytes: int = 0
    items: int = 1
    """Names in the answer to a LIST, or objects of a DELETE."""


_COUNTED: ContextVar[Traffic | None] = ContextVar("counted", default=None)
_LOCK = threading.Lock()


@contextmanager
def counting() -> Iterator[Traffic]:
    """Count the requests that are made inside the context; those of a context within it count there alone."""
    traffic = Traffic()
    token = _COUNTED.set(traffic)
    try:
        yield traffic
    finally:
        _COUNTED.reset(token)


@contextmanager
def request(kind: Kind, written: bytes = b"") -> Iterator[Request]:
    """Count the request that is made inside the context, also one that fails; the context notes what it has read."""
    made, began, traffic = Request(written_bytes=len(written)), time.perf_counter(), _COUNTED.get()
    try:
        yield made
    finally:
        if traffic is not None:
            with _LOCK:
                traffic.requests[kind] += max(1, -(-made.items // PAGE))
                traffic.read_bytes += made.read_bytes
                traffic.written_bytes += made.written_bytes
                traffic.waiting_s += time.perf_counter() - began
