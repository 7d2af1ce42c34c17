"""What a Ray cluster has."""

from __future__ import annotations

import ray


def cluster_resources() -> dict[str, float]:
    """Number of nodes, processors and GPUs of the cluster that this process is connected to."""
    have: dict[str, float] = ray.cluster_resources()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {"nodes": len(nodes), "cpus": have.get("CPU", 0), "gpus": have.get("GPU", 0)}
