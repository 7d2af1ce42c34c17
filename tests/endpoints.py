"""Real servers on loopback: what speaks a cloud's protocol, and a web server for a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from RangeHTTPServer import RangeRequestHandler

START_S = 60


def free_port() -> int:
    """A port of loopback on which no one listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def served(command: Sequence[str], port: int) -> Iterator[None]:
    """A server process, from when it answers to the end of the context."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(server, port)
        yield
    finally:
        server.terminate()
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(START_S * 10):
        assert server.poll() is None, f"{server.args!r} ended with status {server.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"{server.args!r} does not answer at port {port}")


@contextmanager
def s3_server() -> Iterator[dict[str, Any]]:
    """Storage options of an S3 endpoint that has a bucket `cells`."""
    import s3fs

    port = free_port()
    with served([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        options: dict[str, Any] = {"key": "key", "secret": "secret", "endpoint_url": f"http://127.0.0.1:{port}"}
        s3fs.S3FileSystem(**options).mkdir("cells")
        yield options


def azurite() -> str | None:
    """Azurite's blob server (npm install azurite), from AZURITE or the path; None where there is none."""
    return os.environ.get("AZURITE") or shutil.which("azurite-blob")


@contextmanager
def azure_server(program: str) -> Iterator[dict[str, Any]]:
    """Storage options of an Azure endpoint that has a container `cells`."""
    import fsspec

    port = free_port()
    words = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
    with served([program, *words, "--blobHost", "127.0.0.1", "--blobPort", str(port)], port):
        # The account that every Azurite has, in its documentation.
        key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
        place = f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
        account = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};{place};"
        options: dict[str, Any] = {"connection_string": account}
        fsspec.filesystem("az", **options).mkdir("cells")
        yield options


@contextmanager
def gcs_server() -> Iterator[dict[str, Any]]:
    """Storage options of a Google Cloud Storage endpoint that has a bucket `cells`."""
    port = free_port()
    program = str(Path(sys.executable).with_name("gcp-storage-emulator"))
    words = ["start", "--host", "127.0.0.1", "--port", str(port), "--in-memory", "--default-bucket", "cells"]
    with served([program, *words], port):
        yield {"endpoint_url": f"http://127.0.0.1:{port}", "token": "anon"}


class _Quiet(RangeRequestHandler):  # type: ignore[misc]
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """URL of a web server that gives out the files of a folder, whole or in ranges."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
