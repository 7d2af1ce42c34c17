"""Place of the networks on a cluster: one GPU for each task, if nodes have GPUs that torch can use.

A task without a GPU must not look for one: Ray no longer hides the GPUs of a node from it. So the device of a run is
fixed before its tasks start, and only tasks that ask for a GPU touch one.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import ray
import torch

from cellscale.engine.ray_map import RayExecutor
from cellscale.engine.resources import check_fits, room_for
from cellscale.errors import InputError
from cellscale.methods.inference import Precision, has_bf16

log = logging.getLogger("cellscale")


class Found(NamedTuple):
    """Devices that torch finds in a task that has a GPU."""

    cuda: bool
    bf16: bool
    node: str


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Device of the networks of a run, and the GPUs that each task with networks asks for."""

    device: str
    """A setting `device` that is not "auto"."""
    gpus: float
    """GPUs for each task."""
    precision: Precision
    """Arithmetic of the networks; "auto" where the driver decides."""

    def on(self, engine: RayExecutor) -> RayExecutor:
        """The engine whose predicting tasks ask for these GPUs."""
        return replace(engine, gpus=self.gpus)


def _look() -> Found:
    cuda = torch.cuda.is_available()
    return Found(cuda, cuda and has_bf16("cuda"), platform.node())


def _ask(cpus: float, gpus: float) -> Found:
    """Look for CUDA in a task like those of the run."""
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=0)(_look)
    found: Found = ray.get(task.remote())
    return found


def placement(
    engine: RayExecutor,
    device: str,
    precision: Precision,
    *,
    workers: int = 1,
    ask: Callable[[float, float], Found] = _ask,
) -> Placement:
    """Choose where networks run on the cluster that this process is connected to.

    Parameters
    ----------
    engine : RayExecutor
        Its `gpus` may be "auto": one for each task, where nodes have them and torch finds them there.
    device : str
        Setting: a device, or "auto".
    precision : {"auto", "bf16", "fp32"}
        Setting: arithmetic of the networks.
    workers : int
        Tasks that must run at the same time.
    ask : callable
        Looks for CUDA in a task with this number of processors and GPUs.

    Raises
    ------
    InputError
        If GPUs were asked for, by `device` or `gpus`, and no node has them.
    """
    if engine.gpus != "auto":
        gpus = engine.gpus
    elif device == "auto":
        gpus = 1.0 if room_for(engine.cpus, 1.0, workers) >= workers else 0.0
    else:
        gpus = 0.0 if device in ("cpu", "mps") else 1.0
    if not gpus:
        return Placement(device="cpu" if device == "auto" else device, gpus=0.0, precision=precision)
    check_fits(engine.cpus, gpus, workers)
    if device != "auto":
        return Placement(device=device, gpus=gpus, precision=precision)
    found = ask(engine.cpus, gpus)
    if found.cuda:
        chosen: Precision = ("bf16" if found.bf16 else "fp32") if precision == "auto" else precision
        return Placement(device="cuda", gpus=gpus, precision=chosen)
    lacking = f"Ray counts GPUs on node {found.node}, and the torch that is installed there finds none"
    if engine.gpus != "auto":
        raise InputError(f"{lacking}. Install torch with CUDA on the nodes, or use --set device=cpu.")
    log.warning("%s; networks run on processors", lacking)
    return Placement(device="cpu", gpus=0.0, precision=precision)
