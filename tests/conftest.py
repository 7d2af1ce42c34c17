"""Real parts for the tests: a Ray on this machine, an S3 endpoint on loopback, the real annotated images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cellscale  # noqa: F401  # sets how torch's threads wait, which must be known before a test imports torch
from tests.endpoints import azure_server, azurite, gcs_server, s3_server


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


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """Storage options of an S3 endpoint on loopback that has a bucket `cells`."""
    with s3_server() as options:
        yield options


@pytest.fixture(scope="session")
def azure() -> Iterator[dict[str, Any]]:
    """Storage options of an Azure endpoint on loopback that has a container `cells`."""
    program = azurite()
    if program is None:
        pytest.skip("no azurite-blob on the path: npm install --global azurite, or name it in AZURITE")
    with azure_server(program) as options:
        yield options


@pytest.fixture(scope="session")
def gcs() -> Iterator[dict[str, Any]]:
    """Storage options of a Google Cloud Storage endpoint on loopback that has a bucket `cells`."""
    # gcsfs asks real buckets for their kind over gRPC, which the endpoint does not speak.
    with pytest.MonkeyPatch.context() as patch, gcs_server() as options:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        yield options
