"""Ray nodes on loopback, each the processes of one `ray start`, and what kills them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.endpoints import free_port

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
START_ATTEMPTS = 5


def descendants(pid: int) -> list[int]:
    """A process and all that it and its children started, the oldest first."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, thread.read_text().split())
    return found


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its descendants, all by signal 9: a node that loses its power."""
    for pid in descendants(process.pid) if process.poll() is None else []:
        os.kill(pid, signal.SIGKILL)
    process.communicate()


@dataclass(kw_only=True)
class Nodes:
    """A cluster: a head without processors for tasks, and nodes of one processor each."""

    folder: Path
    port: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """The head first."""

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the cluster finds in its environment."""
        return {
            **{key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a node."""
        log = (self.folder / f"node-{len(self.processes)}.log").open("ab")
        common = [
            "--block",
            "--disable-usage-stats",
            "--node-ip-address",
            "127.0.0.1",
            "--object-store-memory",
            "100000000",
        ]
        memory = ["--object-store-memory", "100000000"]
        ports = ["--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", str(free_port())]
        command = [str(BIN / "ray"), "start", *words, *common, *memory, *ports]
        node = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        self.processes.append(node)
        return node

    def submit(self, *words: str) -> subprocess.Popen[bytes]:
        """Submit a job and follow it; the process ends with the job, and with its status."""
        command = [str(BIN / "ray"), "job", "submit", "--address", f"http://127.0.0.1:{self.dashboard}", "--", *words]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def alive(self) -> int:
        """How many nodes have joined."""
        words = ["list", "nodes", "--address", f"http://127.0.0.1:{self.dashboard}", "--filter", "state=ALIVE"]
        asked = [str(BIN / "ray"), *words, "--format", "json"]
        told = subprocess.run(asked, env=self.environment, capture_output=True, text=True, check=False)
        return told.stdout.count('"node_id"')

    def join(self, *words: str) -> None:
        """Start a node and wait until it has joined; on a busy machine Ray gives up after 30 s, so try again."""
        before = self.alive()
        for _ in range(START_ATTEMPTS):
            node = self.start(*words)
            while node.poll() is None:
                if self.alive() > before:
                    return
                time.sleep(0.5)
            self.processes.remove(node)
        raise TimeoutError(f"node {words} did not start: {self.logs()}")

    def logs(self) -> str:
        """What the nodes have printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("node-*.log")))


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """A head and so many more nodes, each with ports of its own; all die at the end."""
    with tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True) as folder:
        made = Nodes(folder=Path(folder))
        try:
            _start(made, count)
            yield made
        finally:
            for process in made.processes:
                kill(process)


def _start(made: Nodes, count: int) -> None:
    ports = ["--port", str(made.port), "--dashboard-port", str(made.dashboard)]
    client = ["--ray-client-server-port", str(free_port())]
    made.join("--head", *ports, *client, "--num-cpus", "0", "--temp-dir", str(made.folder))
    for _ in range(count):
        made.join("--address", f"127.0.0.1:{made.port}", "--num-cpus", "1")


def told(job: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for a job; its status and what it printed."""
    output, _ = job.communicate()
    return job.returncode, output.decode()
