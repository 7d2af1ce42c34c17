"""Real parts for the tests: a Ray on this machine, an S3 endpoint on loopback, the real annotated images."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real annotated images."""
    folder = os.environ.get("CELLSCALE_DATA")
    if not folder:
        pytest.skip("CELLSCALE_DATA does not name the folder of the real annotated images")
    return Path(folder)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray of two processors on this machine."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """Storage options of an S3 endpoint on loopback that has a bucket `cells`."""
    import s3fs

    port = _free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    options = {
        "key": "key",
        "secret": "secret",
        "endpoint_url": f"http://127.0.0.1:{port}",
    }
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    s3fs.S3FileSystem(**options).mkdir("cells")
    yield options
    server.terminate()
    server.wait()
