"""The training loop on the workers of a Ray cluster.

Each worker runs the training of a single process; gradients are averaged by gloo on processors and nccl on GPUs.
The state of an unfinished training is kept in the output folder: workers that fail are restarted and continue from it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cellscale.engine.placement import placement
from cellscale.engine.ray_map import RayExecutor
from cellscale.errors import CellscaleError, DamagedError, InputError, RunError, StoreError
from cellscale.methods import module_of
from cellscale.models.model import Model, load_model
from cellscale.progress import Progress, silent
from cellscale.storage.urls import file_system
from cellscale.training.resume_state import Claim, claim
from cellscale.training.run import train
from cellscale.training.task import TrainingTask
from cellscale.training.workers import Workers

PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that spin while they wait slow each other, and the sample loaders, down many times on a busy machine."""
RESIZE_S = 60.0
"""Pause between two checks for room for more workers, for a training whose number of workers may change, s."""
POLL_S = 0.5
"""Pause between two checks of the workers' progress, s."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Arguments shared by all training workers."""

    task: TrainingTask
    claim: Claim
    """Claim on the model's folder."""
    progress_actor: Any
    """Handle of the ProgressActor."""
    elastic: bool
    """Whether the number of workers may change."""


class ProgressActor:
    """An actor that passes worker 0's progress and errors to the driver."""

    def __init__(self) -> None:
        self._latest: tuple[str, int, int] | None = None
        self._error: CellscaleError | None = None

    def write(self, step: str, done: int, total: int) -> None:
        """Store the progress."""
        self._latest = (step, done, total)

    def set_error(self, error: CellscaleError) -> None:
        """Store an error of cellscale."""
        self._error = error

    def read(self) -> tuple[tuple[str, int, int] | None, CellscaleError | None]:
        """Latest progress and error."""
        return self._latest, self._error


def train_method(
    task: TrainingTask, *, workers: int = 1, engine: RayExecutor | None = None, on_progress: Progress = silent
) -> Model:
    """Train a method on a Ray cluster, or in this process for 0 workers.

    Parameters
    ----------
    task : TrainingTask
        Method, data, settings and the folder of the model.
    workers : int
        Workers of the training; each takes `batch_size` samples in every step.
    engine : RayExecutor
        GPUs of each worker, number of restarts after a crash, and least number of workers.
    on_progress : callable
        Called with stage, steps done and all steps.

    Returns
    -------
    Model
        With fitted thresholds, as it was saved.

    Raises
    ------
    CellscaleError
        As `cellscale.training.run.train`.
    RunError
        If the workers failed more often than the engine allows.
    """
    # `cpus` is of the tasks of a segmentation; a worker of a training takes one.
    engine = replace(engine or RayExecutor(), cpus=1.0)
    if workers == 0:
        return train(task, on_progress=on_progress)
    fewest, settings = engine.least_workers or workers, task.settings
    place = placement(engine, settings.device, settings.precision, workers=fewest)
    engine, settings = place.on(engine), replace(settings, device=place.device, precision=place.precision)
    # Workers that are restarted go on with what is in the folder.
    shared = replace(task, settings=settings, resume=True)
    shared.check()
    check_workers(fewest, place.gpus)
    claimed = claim(task.folder, resume=task.resume, overwrite=task.overwrite)
    progress_actor = ray.remote(num_cpus=0)(ProgressActor).remote()
    job = Job(task=shared, claim=claimed, progress_actor=progress_actor, elastic=0 < engine.least_workers < workers)
    with forward_progress(progress_actor, on_progress), claimed.given_up_on_error():
        _fit(job, engine, workers)
    return load_model(task.output, task.storage_options, trust=[module_of(task.method.name)])


def check_workers(workers: int, gpus: float) -> None:
    """Refuse more workers than the cluster has room for: they would wait forever.

    Raises
    ------
    InputError
        If the cluster has fewer processors or GPUs than the workers need.
    """
    resources: dict[str, float] = ray.cluster_resources()
    for kind, needed in (("CPU", workers), ("GPU", workers * gpus)):
        if workers < 0 or needed > resources.get(kind, 0):
            raise InputError(
                f"{workers} workers need {needed:g} {kind}s; the cluster has {resources.get(kind, 0):g}. "
                "Choose fewer --workers, or a larger cluster."
            )


def _fit(job: Job, engine: RayExecutor, workers: int) -> None:
    """Run the job on the workers; delete their scratch folder at the end."""
    folder = job.claim.folder
    fs, root = file_system(folder.url, folder.storage_options)
    # The token tells this folder from one that somebody else has put there.
    scratch, gpus = f"ray-{job.claim.owner}", engine.gpus_of_tasks()
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(  # type: ignore[call-arg]
            num_workers=(engine.least_workers, workers) if job.elastic else workers,  # type: ignore[arg-type]
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1, **({"GPU": gpus} if gpus else {})},
            elastic_resize_monitor_interval_s=RESIZE_S,
        ),
        # mypy sees the RunConfig of Train V1.
        run_config=RunConfig(  # type: ignore[call-arg]
            name="training",
            storage_path=f"{root.rstrip('/')}/{scratch}",
            storage_filesystem=PyFileSystem(FSSpecHandler(fs)),
            failure_config=FailureConfig(max_failures=engine.failures),
            worker_runtime_env={"env_vars": PATIENT_THREADS},
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        _, refused = ray.get(job.progress_actor.read.remote())
        if refused is not None:
            raise refused from error
        raise RunError(f"The training workers failed: {error}. Continue with --resume.") from error
    finally:
        folder.remove(scratch)
    final = _final(job)
    if final:
        raise final


def _final(job: Job) -> CellscaleError | None:
    """The error that stopped the workers and would stop them again; an error of a store may be temporary."""
    _, refused = ray.get(job.progress_actor.read.remote())
    passing = isinstance(refused, StoreError) and not isinstance(refused, DamagedError)
    return None if passing else refused


def _work(config: dict[str, Any]) -> None:
    """Run the training on one worker; after an error that would occur again, a restarted worker has nothing to
    do.
    """
    job: Job = config["job"]
    if _final(job):
        return
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    try:
        train(
            job.task,
            claimed=job.claim,
            workers=Workers(rank=rank, world=world, local=context.get_local_world_size(), elastic=job.elastic),
            on_progress=_posting(job) if rank == 0 else silent,
        )
    except CellscaleError as error:
        ray.get(job.progress_actor.set_error.remote(error))
        raise


def _posting(job: Job) -> Progress:
    """Write every `log_every`-th step, and the last, on the progress_actor."""

    def post(step: str, done: int, total: int) -> None:
        if done % job.task.settings.log_every == 0 or done == total:
            job.progress_actor.write.remote(step, done, total)

    return post


@contextmanager
def forward_progress(progress_actor: Any, on_progress: Progress) -> Iterator[None]:
    """Call `on_progress` with the progress of the actor, from a thread, inside the context."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(progress_actor, on_progress, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ray.kill(progress_actor)


def _watch(progress_actor: Any, on_progress: Progress, over: threading.Event) -> None:
    seen = None
    while not over.wait(POLL_S):
        latest, _ = ray.get(progress_actor.read.remote())
        if latest is not None and latest != seen:
            on_progress(*latest)
            seen = latest
