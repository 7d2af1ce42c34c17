"""A Ray that dies under a run, and a run that dies above its Ray: one line, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from pathlib import Path
from cellscale.engine.ray_map import RayExecutor, cluster
from cellscale.errors import CellscaleError

def rest(folder, task):
    import time
    Path(folder, str(task)).touch()
    time.sleep(0.5)

try:
    with cluster(None):
        for done in RayExecutor()(rest, sys.argv[1], list(range(1000))):
            pass
except CellscaleError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def children(pid: int) -> dict[int, str]:
    """Names of all processes below one, by number."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = path.read_text().rpartition(")")
        except OSError:
            continue
        number = int(path.parent.name)
        parents[number], names[number] = int(tail.split()[1]), head.partition("(")[2]
        if tail.split()[0] == "Z":
            del parents[number]
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: names[child] for child in found - {pid}}


def killed(tmp_path: Path, name: str) -> tuple[int, str, dict[int, str]]:
    """Kill the driver, or a process of its Ray, in the midst of the tasks; status, errors and what is left after it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not any(tmp_path.iterdir()):
        assert driver.poll() is None
        time.sleep(0.05)
    below = children(driver.pid)
    victim = driver.pid if name == "driver" else next(pid for pid, found in below.items() if found == name)
    os.kill(victim, signal.SIGKILL)
    _, errors = driver.communicate()
    end = time.monotonic() + 30
    while left := {pid: found for pid, found in below.items() if Path(f"/proc/{pid}/exe").exists()}:
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return driver.returncode, errors.decode(), left


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_ray_that_dies_ends_the_run_with_one_line(tmp_path: Path, name: str) -> None:
    status, errors, left = killed(tmp_path, name)
    assert status == 2, errors
    assert f"({name}) on this machine has died" in errors
    assert errors.count("\n") == 1
    assert not left


def test_nothing_of_ray_outlives_a_killed_driver(tmp_path: Path) -> None:
    status, _, left = killed(tmp_path, "driver")
    assert status == -signal.SIGKILL
    assert not left
