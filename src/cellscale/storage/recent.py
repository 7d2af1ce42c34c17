"""The last files that a process has written, to read them again without a request.

Only for files that are written once and that no other process changes. In a copy in another process nothing is kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict


class Recent:
    """Contents of files by their URLs, the last ones written or read."""

    def __init__(self, room: int) -> None:
        """Keep nothing yet, and at most `room` bytes."""
        self._room, self._lock, self._bytes = room, threading.Lock(), 0
        self._kept = OrderedDict[str, bytes]()

    def __reduce__(self) -> tuple[type[Recent], tuple[int]]:
        return Recent, (self._room,)

    def keep(self, url: str, data: bytes) -> None:
        """Keep the content of a file; the ones that were not used for longest go."""
        with self._lock:
            self._forget(url)
            self._kept[url], self._bytes = data, self._bytes + len(data)
            while self._bytes > self._room:
                self._forget(next(iter(self._kept)))

    def find(self, url: str) -> bytes | None:
        """Content of a file, or None where it is not kept."""
        with self._lock:
            if url in self._kept:
                self._kept.move_to_end(url)
            return self._kept.get(url)

    def forget(self, url: str) -> None:
        """Keep neither a file nor those below a folder any longer."""
        with self._lock:
            for one in [one for one in self._kept if one == url or one.startswith(f"{url}/")]:
                self._forget(one)

    def _forget(self, url: str) -> None:
        self._bytes -= len(self._kept.pop(url, b""))
