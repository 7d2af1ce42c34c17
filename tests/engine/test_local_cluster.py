"""A Ray that cellscale starts for itself: other machines cannot reach it, other users cannot use it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

STARTED = """
import json, os, ray, signal
import psutil  # Ray's own copy
from cellscale.engine.ray_map import RayExecutor, cluster

handler = lambda number, frame: None
signal.signal(signal.SIGTERM, handler)
with cluster(None):
    kept = signal.getsignal(signal.SIGTERM) is handler
    results = sorted(result for _, result in RayExecutor()(lambda shared, task: shared * task, 3, [1, 2]))
    session = ray._private.worker._global_node.get_session_dir_path()
    hosts = set()
    for process in psutil.process_iter(["cmdline", "pid"]):
        if process.pid == os.getpid() or session in " ".join(process.info["cmdline"] or []):
            hosts |= {c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"}
    mode = os.environ.get("RAY_AUTH_MODE")
    print(json.dumps({"results": results, "hosts": sorted(hosts), "mode": mode, "kept": kept}))
"""


def test_it_listens_on_the_loopback_and_asks_for_a_token(tmp_path: Path) -> None:
    (tmp_path / "started.py").write_text(STARTED)
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    command = [sys.executable, str(tmp_path / "started.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**known, "HOME": str(tmp_path)}, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["results"] == [3, 6]
    assert {host.removeprefix("::ffff:") for host in found["hosts"]} == {"127.0.0.1"}
    assert found["mode"] == "token"
    assert found["kept"], "the handler of SIGTERM is Ray's"
    assert stat.S_IMODE((tmp_path / ".ray" / "auth_token").stat().st_mode) == 0o600
