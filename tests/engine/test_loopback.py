"""A cluster of one head and two more nodes on loopback: jobs, a lost node, a lost head."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from cellscale.ngff.labels import list_labels
from tests.faults.plans import SETTINGS, Ground, ground, scratch_objects
from tests.nodes import kill, nodes, told

pytest.importorskip("aiohttp_cors", reason="jobs need Ray's job server: pip install 'ray[default]'")


@pytest.fixture(scope="module")
def field(s3: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """An image and a model in a bucket, and the undisturbed layer."""
    return ground("s3://cells/loopback/movie.zarr", s3, tmp_path_factory.mktemp("marks"))


def words(of: Ground, name: str) -> list[str]:
    """The command of a segmentation."""
    settings = [f"{key}={SETTINGS[key]}" for key in ("window_size", "task_px")] + ["precision=fp32"]
    command = ["cellscale", "segment", of.image.url, "--model", f"{of.image.url}.model", "--layer", name]
    command += ["--trust-model", "tests.blobs"]
    command += ["--tile-size", str(SETTINGS["tile_size"]), "--storage-options", json.dumps(of.options)]
    return command + [word for setting in settings for word in ("--set", setting)]


def half_way(of: Ground, name: str, job: subprocess.Popen[bytes]) -> None:
    """Return when the run has written about half of its objects."""
    while scratch_objects(of, name) < 25:
        assert job.poll() is None, told(job)[1]
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_survives_the_loss_of_a_node_and_its_successor_the_loss_of_the_head(field: Ground) -> None:
    with nodes(2) as cluster:
        job = cluster.submit(*words(field, "node-lost"))
        half_way(field, "node-lost", job)
        kill(cluster.processes[-1])
        status, output = told(job)
        assert status == 0, output
        assert field.same("node-lost")

        job = cluster.submit(*words(field, "head-lost"))
        half_way(field, "head-lost", job)
        for process in cluster.processes:
            kill(process)
        kill(job)
        assert "head-lost" not in list_labels(field.image.url, storage_options=field.options)
    with nodes(1) as cluster:
        status, output = told(cluster.submit(*words(field, "head-lost")))
        assert status == 0, output
        assert "tasks reused" in output
        assert field.same("head-lost")
