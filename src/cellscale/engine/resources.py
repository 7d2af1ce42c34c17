"""Resources of a Ray cluster, and a check that it is alive."""

from __future__ import annotations

import ray

from cellscale.errors import InputError, RunError

_VITAL = {"raylet": "node process (raylet)", "gcs_server": "head process (gcs_server)"}


def cluster_resources() -> dict[str, float]:
    """Number of nodes, processors and GPUs of the cluster that this process is connected to."""
    nodes = _nodes()
    return {"nodes": len(nodes), **{name: sum(node[name] for node in nodes) for name in ("cpus", "gpus")}}


def _nodes() -> list[dict[str, float]]:
    """Processors and GPUs of each node that is alive."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{"cpus": have.get("CPU", 0.0), "gpus": have.get("GPU", 0.0)} for have in alive]


def check_fits(cpus: float, gpus: float, workers: int = 1) -> None:
    """Refuse tasks that no node can run: Ray would wait silently for a larger node.

    Parameters
    ----------
    cpus, gpus : float
        Wanted by each task, or by each training worker.
    workers : int
        Tasks that must run at the same time.

    Raises
    ------
    InputError
        With the resources that the cluster has.
    """
    if room_for(cpus, gpus, workers) >= workers:
        return
    nodes = _nodes()
    wanted = f"cpus={cpus:g}" + (f", gpus={gpus:g}" if gpus else "")
    found = "; ".join(sorted({f"{node['cpus']:g} CPUs and {node['gpus']:g} GPUs" for node in nodes})) or "nothing"
    who = "each task" if workers == 1 else f"each of {workers} workers at the same time"
    raise InputError(
        f"The settings {wanted} for {who} do not fit into the Ray cluster: it has {len(nodes)} node(s) with {found}. "
        "Ask for less with --set, or start larger nodes first."
    )


def room_for(cpus: float, gpus: float, most: int) -> int:
    """Count the tasks with these processors and GPUs that fit into the cluster at once, at most `most` in a node."""
    return sum(_fitting(node, cpus, gpus, most) for node in _nodes())


def _fitting(node: dict[str, float], cpus: float, gpus: float, most: int) -> int:
    """Number of tasks that fit into a node, at most `most`."""
    shares = [node[name] / wanted for name, wanted in (("cpus", cpus), ("gpus", gpus)) if wanted]
    return int(min([*shares, most]))


def check_alive() -> None:
    """Raise RunError if a process of the Ray started by this process is dead; Ray itself would end this process.

    Clusters that existed before are not checked.
    """
    node = ray._private.worker._global_node
    dead: set[str] = {kind for kind, _ in node.dead_processes()} if node is not None else set()
    for kind in _VITAL.keys() & dead:
        raise RunError(
            f"Ray's {_VITAL[kind]} on this machine has died: it was killed, or memory ran out. Nothing is lost: "
            "repeat the command to resume."
        )
