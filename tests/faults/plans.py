"""Faults by a seeded plan, and what becomes of a run that meets them.

Everything is real: an S3 server behind a proxy that fails, workers of a real Ray that die by signal 9, drivers that
are processes of their own. What a plan hits follows from its seed alone, not from the order in which tasks end.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import s3fs

from cellscale.engine.ray_map import RayExecutor
from cellscale.errors import RunError
from cellscale.models.model import save_model
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.segmentation.executor import Executor
from cellscale.segmentation.work_items import Task
from tests.blobs import blobs_model, blurred_noise
from tests.faults.proxy import Storm, stormy
from tests.support.runs import arrays, equal, scratch_of, segmented, written

ROOT = Path(__file__).parents[2]
SHAPE = (2, 110, 130)
SETTINGS: dict[str, Any] = {"window_size": 64, "tile_size": 50, "task_px": 12_000}
IMPATIENT = {"config_kwargs": {"read_timeout": 3, "connect_timeout": 3}}


@dataclass(frozen=True, kw_only=True)
class Ground:
    """An image in a bucket, its undisturbed layer, and a folder for marks."""

    image: NgffImage
    marks: Path

    @property
    def options(self) -> dict[str, Any]:
        """Storage options of the server itself."""
        return dict(self.image.storage_options)

    @property
    def port(self) -> int:
        """Port of the server."""
        return int(self.options["endpoint_url"].rsplit(":", 1)[1])

    def same(self, name: str) -> bool:
        """Whether a layer's arrays and table rows are the undisturbed ones."""
        return equal(arrays(self.image, name), arrays(self.image, "calm")) and self.rows(name).equals(self.rows("calm"))

    def rows(self, name: str) -> pd.DataFrame:
        """The object table of a layer."""
        layer = open_labels(self.image.url, name, storage_options=self.options)
        return pd.read_parquet(layer.place("objects.parquet"), storage_options=self.options)


def ground(url: str, options: dict[str, Any], marks: Path) -> Ground:
    """Put an image into a bucket and segment it in peace."""
    image = written(url, blurred_noise(SHAPE), options=options)
    segmented(image, "calm", **SETTINGS)
    save_model(blobs_model(), f"{url}.model", options)
    return Ground(image=image, marks=marks)


@dataclass(kw_only=True)
class Ending:
    """How a run ended."""

    faults: str
    """What was injected, counted."""
    finished: bool
    """Whether the layer was published."""
    equal: bool = False
    """Whether arrays and rows are the undisturbed run's."""
    named: str = ""
    """The error of a run that ended without its layer."""
    runs: int = 1
    """How often the command was given."""


def ended(of: Ground, name: str, run: Callable[[], Any], faults: Callable[[], str]) -> Ending:
    """Carry out a run and see what it left."""
    try:
        run()
    except RunError as error:
        published = name in list_labels(of.image.url, storage_options=of.options)
        return Ending(faults=faults(), finished=published, named=str(error))
    return Ending(faults=faults(), finished=True, equal=of.same(name))


def storm(of: Ground, seed: int, *kinds: str, share: float = 0.04, most: int = 2, lasting: str = "") -> Ending:
    """Storage errors: a share of the objects fails `most` times at most, `lasting` paths fail always."""
    name = f"storm-{'-'.join(kinds)}-{seed}{'-lasting' * bool(lasting)}"
    with stormy(of.port, Storm(seed=seed, kinds=kinds, share=share, most=most, lasting=lasting)) as proxy:
        options = {**of.options, **IMPATIENT, "endpoint_url": proxy.url}

        def run() -> None:
            image = open_image(of.image.url, storage_options=options)
            segmented(image, name, executor=RayExecutor(backoff_s=0.1), **SETTINGS)

        return ended(of, name, run, lambda: _counted(proxy.failed, f"{proxy.requests} requests"))


def _counted(found: dict[str, int], total: str) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(found.items())) + f" of {total}"


@dataclass(frozen=True, kw_only=True)
class Harm:
    """What befalls workers in the midst of their tasks."""

    kind: str
    """kill: signal 9, at a moment of the seed's choice unless it is lasting; memory: no more memory is to be had."""
    seed: int
    marks: str
    share: float = 0.3
    """Part of the tasks that are hit, once each."""
    lasting: str = ""
    """Work item that is hit at each attempt, as its task's name begins and its coordinates read: `decode (1, 3)`."""

    def hits(self, task: Task) -> bool:
        """Whether a task is hit now; a mark is left, so that it is hit once."""
        name = task.record.path
        mark = Path(self.marks) / f"{self.kind}-{name.replace('/', '-')}"
        if self.lasting and any(self.lasting == f"{task.record.step} {item}" for item in task.items):
            return self._marked(mark)
        if random.Random(f"{self.seed} {name}").random() >= self.share or mark.exists():
            return False
        return self._marked(mark)

    def _marked(self, mark: Path) -> bool:
        with mark.open("a") as stream:
            stream.write("x")
        return True

    def strike(self, name: str) -> None:
        """Do harm to this process."""
        if self.kind == "memory":
            _exhaust()
        if self.lasting:
            # At once: a task of one work item may end before a later moment.
            os.kill(os.getpid(), signal.SIGKILL)
        delay_s = random.Random(f"{self.seed} {name} delay").uniform(0, 0.05)
        threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def count(self) -> int:
        """How often harm was done."""
        return sum(len(path.read_text()) for path in Path(self.marks).glob(f"{self.kind}-*"))


def _exhaust() -> None:
    """Ask for more memory than the process may have."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, limits[1]))
    try:
        np.ones(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@dataclass(frozen=True, kw_only=True)
class Harmed:
    """Work whose workers come to harm."""

    work: Callable[[Any, Any], Any]
    harm: Harm

    def __call__(self, shared: Any, task: Any) -> Any:
        if self.harm.hits(task):
            self.harm.strike(task.record.path)
        return self.work(shared, task)


@dataclass(frozen=True, kw_only=True)
class Harming:
    """An executor over workers that come to harm."""

    harm: Harm
    inner: Executor = field(default_factory=lambda: RayExecutor(backoff_s=0.1))

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[Any]:
        yield from self.inner(Harmed(work=work, harm=self.harm), shared, tasks, gpu=gpu)


def harm(of: Ground, seed: int, kind: str, lasting: str = "") -> Ending:
    """Workers die, or run out of memory, in the midst of tasks."""
    name = f"{kind}-{seed}{'-lasting' * bool(lasting)}"
    marks = of.marks / name
    marks.mkdir()
    done = Harm(kind=kind, seed=seed, marks=str(marks), lasting=lasting)
    return ended(
        of,
        name,
        lambda: segmented(of.image, name, executor=Harming(harm=done), **SETTINGS),
        lambda: f"{done.count()} × {kind}",
    )


def command(of: Ground, name: str) -> list[str]:
    """Words of a command that segments the image without Ray."""
    words = ["segment", of.image.url, "--model", f"{of.image.url}.model", "--layer", name, "--serial"]
    words += ["--trust-model", "tests.blobs"]
    words += [word for key in ("window_size", "task_px") for word in ("--set", f"{key}={SETTINGS[key]}")]
    words += ["--set", "precision=fp32", "--tile-size", str(SETTINGS["tile_size"])]
    return [*words, "--storage-options", json.dumps(of.options)]


def driver_kills(of: Ground, seed: int, kills: int = 4) -> Ending:
    """The driver dies by signal 9 again and again, at records of the seed's choice; then it is left in peace."""
    name, draw = f"driver-{seed}", random.Random(seed)
    words = command(of, name)
    killed = 0
    for _ in range(kills):
        driver = started(words)
        killed += _killed(of, name, driver, draw.randint(2, 12))
    driver = started(words)
    _, told = driver.communicate()
    finished = name in list_labels(of.image.url, storage_options=of.options)
    same = finished and of.same(name)
    named = "" if finished else told.decode()
    return Ending(
        faults=f"{killed} × kill -9 of the driver", finished=finished, equal=same, named=named, runs=kills + 1
    )


def started(words: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cellscale", *words]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _killed(of: Ground, name: str, driver: subprocess.Popen[bytes], more: int) -> bool:
    """Kill a driver when it has written so many more records; False if it ended before."""
    before = scratch_objects(of, name)
    while driver.poll() is None:
        if scratch_objects(of, name) >= before + more:
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
            return True
        time.sleep(0.02)
    driver.communicate()
    return False


def scratch_objects(of: Ground, name: str) -> int:
    """Objects that a run has written so far."""
    store = s3fs.S3FileSystem(**of.options)
    store.invalidate_cache()
    scratch = f"{of.image.url}/.cellscale-{name}"
    return len(store.find(scratch)) if store.exists(scratch) else 0


def damaged(of: Ground, seed: int, how: str) -> Ending:
    """A chunk of the image is cut short or has a wrong byte, for the length of the run."""
    name, draw = f"damaged-{how}-{seed}", random.Random(seed)
    store = s3fs.S3FileSystem(**of.options)
    chunk = draw.choice(sorted(path for path in store.find(f"{of.image.url}/0") if not path.endswith("json")))
    good = store.cat_file(chunk)
    at = draw.randrange(len(good) // 4, len(good))
    store.pipe_file(chunk, good[:at] if how == "cut" else good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
    try:
        return ended(
            of,
            name,
            lambda: segmented(of.image, name, executor=RayExecutor(backoff_s=0.1), **SETTINGS),
            lambda: f"chunk {chunk.split('.zarr/')[1]}, {how}",
        )
    finally:
        store.pipe_file(chunk, good)


@dataclass(frozen=True, kw_only=True)
class Meanwhile:
    """An executor that does something once, before the tasks of a step are given out."""

    step: str
    act: Callable[[], None]

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[Any]:
        if tasks and tasks[0].record.step == self.step:
            self.act()
        yield from RayExecutor(backoff_s=0.1)(work, shared, tasks, gpu=gpu)


def changing(of: Ground, seed: int, how: str) -> Ending:
    """After the run's first read, a chunk of the image gets the pixels of another frame, or is no more."""
    name, draw = f"changing-{how}-{seed}", random.Random(seed)
    store = s3fs.S3FileSystem(**of.options)
    frames = sorted(path for path in store.find(f"{of.image.url}/0") if not path.endswith("json"))
    chunk, other = draw.sample(frames, 2)
    good = store.cat_file(chunk)

    def act() -> None:
        if how == "vanishes":
            store.rm_file(chunk)
        else:
            store.pipe_file(chunk, store.cat_file(other))

    try:
        return ended(
            of,
            name,
            lambda: segmented(of.image, name, executor=Meanwhile(step="predict", act=act), **SETTINGS),
            lambda: f"chunk {chunk.split('.zarr/')[1]} {how}",
        )
    finally:
        store.pipe_file(chunk, good)


@dataclass(frozen=True, kw_only=True)
class Spoiling:
    """An executor that spoils an object of the run's folder, once, as soon as there is one."""

    of: Ground
    name: str
    inner: str
    seed: int

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[Any]:
        yield from RayExecutor(backoff_s=0.1)(work, shared, tasks, gpu=gpu)
        scratch = scratch_of(self.of.image, self.name)
        names, mark = sorted(scratch.names(self.inner)), self.of.marks / self.name
        if names and not mark.exists():
            mark.touch()
            name = f"{self.inner}/{random.Random(self.seed).choice(names)}"
            data = scratch.read(name) or b""
            scratch.write(name, data[:-1] + bytes([data[-1] ^ 0xFF]))


def spoiled(of: Ground, seed: int, inner: str) -> Ending:
    """A byte of a scratch object or record changes after it was written."""
    name = f"spoiled-{inner.partition('/')[0]}-{seed}"
    executor = Spoiling(of=of, name=name, inner=inner, seed=seed)
    return ended(
        of,
        name,
        lambda: segmented(of.image, name, executor=executor, **SETTINGS),
        lambda: f"an object of {inner}, one byte",
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A named plan and how it must end."""

    carry_out: Callable[[Ground], Ending]
    finishes: bool
    """Whether the run ends with the undisturbed layer; else it names this: """
    names: str = ""


PLANS: dict[str, Plan] = {
    "storage answers 500 and 503": Plan(carry_out=lambda of: storm(of, 11, "500", "503"), finishes=True),
    "storage does not answer, or loses its answer": Plan(
        carry_out=lambda of: storm(of, 12, "timeout", "reset", "lost", share=0.08), finishes=True
    ),
    "slow reads and truncated answers": Plan(
        carry_out=lambda of: storm(of, 13, "slow", "truncated", share=0.2), finishes=True
    ),
    "bytes flip on the way": Plan(carry_out=lambda of: storm(of, 15, "flipped", share=0.2), finishes=True),
    "ETags are wrong": Plan(carry_out=lambda of: storm(of, 16, "etag", share=1.0, most=10**6), finishes=True),
    "listings lag": Plan(carry_out=lambda of: storm(of, 17, "lagging", share=1.0, most=10**6), finishes=True),
    "one tile's object always answers 503": Plan(
        carry_out=lambda of: storm(of, 14, "503", share=0.0, lasting="/fragments/000000/000000"),
        finishes=False,
        names="frame 0, slice 0, tile 0",
    ),
    "workers are killed": Plan(carry_out=lambda of: harm(of, 21, "kill"), finishes=True),
    "one tile kills every worker": Plan(
        carry_out=lambda of: harm(of, 22, "kill", lasting="decode (1, 5)"),
        finishes=False,
        names="frame 1, slice 0, tile 5",
    ),
    "tasks run out of memory": Plan(carry_out=lambda of: harm(of, 31, "memory"), finishes=True),
    "one window always runs out of memory": Plan(
        carry_out=lambda of: harm(of, 32, "memory", lasting="predict (0, 4)"),
        finishes=False,
        names="frame 0, slice 0, window 4",
    ),
    "the driver is killed, four times": Plan(carry_out=lambda of: driver_kills(of, 41), finishes=True),
    "a chunk of the image has a wrong byte": Plan(
        carry_out=lambda of: damaged(of, 51, "changed"), finishes=False, names="frame "
    ),
    "a chunk of the image is cut short": Plan(
        carry_out=lambda of: damaged(of, 52, "cut"), finishes=False, names="frame "
    ),
    "pixels of the image change during the run": Plan(
        carry_out=lambda of: changing(of, 71, "changed"), finishes=False, names="Chunk 0/c/"
    ),
    "a chunk of the image vanishes during the run": Plan(
        carry_out=lambda of: changing(of, 72, "vanishes"), finishes=False, names="is missing now"
    ),
    "a stored map has a wrong byte": Plan(
        carry_out=lambda of: spoiled(of, 61, "maps/000001"), finishes=False, names="frame 1, slice 0, tile "
    ),
}
