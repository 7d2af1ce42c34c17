"""A watchdog that ends Ray's agents on this machine with the process that has started them.

When that process is killed, the kernel ends Ray's node process with it. Its agents notice, and then try for a minute to
report to a head that is gone. A small process waits for the end of a pipe, which the kernel closes whatever happens to
its other end, and ends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GRACE_S = 5
"""Time in which agents may end by themselves, s."""
_WATCH = """
import os, signal, sys, time

def alive(word):
    pid, _, start = word.partition(":")
    try:
        with open(f"/proc/{pid}/stat") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == start and fields[0] != "Z"

sys.stdin.read()
end = time.monotonic() + float(sys.argv[1])
while any(map(alive, sys.argv[2:])) and time.monotonic() < end:
    time.sleep(0.05)
for word in filter(alive, sys.argv[2:]):
    os.kill(int(word.partition(":")[0]), signal.SIGKILL)
"""


def _processes() -> dict[int, tuple[str, int, str]]:
    """Name, parent and time of start of each process by its number; a later process of a number starts later."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = path.read_text().rpartition(")")
        except OSError:
            # It has ended meanwhile.
            continue
        fields = tail.split()
        found[int(path.parent.name)] = head.partition("(")[2], int(fields[1]), fields[19]
    return found


def _of_ray() -> list[str]:
    """Number and start of all that the node process of a Ray started here has started: agents, and idle workers."""
    running = _processes()
    nodes = {pid for pid, (name, parent, _) in running.items() if name == "raylet" and parent == os.getpid()}
    return [f"{pid}:{start}" for pid, (_, parent, start) in running.items() if parent in nodes]


@contextmanager
def agent_watchdog() -> Iterator[None]:
    """Let the agents of a Ray started by this process end with it, inside the context; on Linux."""
    ours = _of_ray() if sys.platform == "linux" else []
    if not ours:
        yield
        return
    command = [sys.executable, "-I", "-S", "-c", _WATCH, str(GRACE_S), *ours]
    # A session of its own: Ctrl-C is for the driver alone.
    watchdog = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        watchdog.communicate()
