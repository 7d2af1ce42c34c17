"""Every moment of a small run: it dies, or its disk is full, at each change that it makes to the file system.

No Ray: a change is a file that gets its name, a file or a folder that goes. What dies is a fork of this process that
ends at once, with no change more.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cellscale.errors import CellscaleError, ExistsError
from cellscale.models.model import Model
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import list_labels
from tests.blobs import blobs_model, blurred_noise
from tests.faults.plans import Ending, Plan
from tests.support.runs import arrays, equal, segmented, written

SHAPE = (1, 44, 52)
SETTINGS: dict[str, Any] = {"window_size": 32, "tile_size": 30, "task_px": 2000}
OLD, NEW = blobs_model(minimum_area=40), blobs_model()
WRITES = ("replace", "rename", "link")
CHANGES = (*WRITES, "unlink", "rmdir")
STOPPED = {"death": CHANGES, "full disk": WRITES}
"""Changes that are counted, and are not made after the stop: a full disk still lets files go."""


@dataclass(kw_only=True)
class Changes:
    """Changes to the file system, counted; from one on, none is made."""

    stop_at: int | None = None
    stop: Callable[[], None] = lambda: None
    """Raises or ends the process."""
    names: tuple[str, ...] = CHANGES
    """Changes that count, and that are not made after the stop."""
    made: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Count a change, or stop instead of it."""
        # Several threads may write at once.
        with self.lock:
            if self.stop_at is not None and self.made >= self.stop_at:
                self.stop()
            self.made += 1


@contextmanager
def changing(changes: Changes) -> Iterator[Changes]:
    """Count all changes inside of the context."""
    kept = {name: getattr(os, name) for name in changes.names}

    def counted(name: str) -> Callable[..., Any]:
        def change(*words: Any, **options: Any) -> Any:
            changes.check()
            return kept[name](*words, **options)

        return change

    for name in kept:
        setattr(os, name, counted(name))
    try:
        yield changes
    finally:
        for name, function in kept.items():
            setattr(os, name, function)


@dataclass(frozen=True, kw_only=True)
class Small:
    """An image in a folder, with or without a layer that the run replaces, and both layers undisturbed."""

    folder: Path
    over: bool

    @property
    def image(self) -> NgffImage:
        """The image that the runs segment."""
        return open_image(str(self.folder / "movie.zarr"))

    def prepare(self) -> None:
        """Write the image and its undisturbed layers."""
        image = written(str(self.folder / "movie.zarr"), blurred_noise(SHAPE))
        for name, model in (("old", OLD), ("new", NEW)):
            segmented(image, name, model=model, **SETTINGS)

    def begin(self) -> None:
        """Let the image have nothing but what was there before the run."""
        for name in ("labels/cells", ".cellscale-cells"):
            shutil.rmtree(self.folder / "movie.zarr" / name, ignore_errors=True)
        (self.folder / "movie.zarr" / "labels" / "zarr.json").write_text(self.listed(["old", "new"]))
        if self.over:
            segmented(self.image, "cells", model=OLD, **SETTINGS)

    def listed(self, names: list[str]) -> str:
        """The list of layers as a document."""
        path = self.folder / "movie.zarr" / "labels" / "zarr.json"
        document = json.loads(path.read_text())
        document["attributes"]["ome"]["labels"] = names
        return json.dumps(document)

    def run(self, model: Model = NEW) -> None:
        """Give the command."""
        segmented(self.image, "cells", model=model, overwrite=self.over, **SETTINGS)

    def same(self, name: str) -> bool:
        """Whether the layer is an undisturbed one, arrays and rows."""
        found, wanted = (arrays(self.image, layer) for layer in ("cells", name))
        return equal(found, wanted) and rows(self.image, "cells").equals(rows(self.image, name))

    def whole(self) -> bool:
        """Whether what is listed now is the old layer or the new one, whole; nothing is allowed without an old one."""
        if "cells" not in list_labels(self.image.url):
            return not self.over
        return self.same("new") or (self.over and self.same("old"))


def rows(image: NgffImage, name: str) -> pd.DataFrame:
    """The object table of a layer."""
    from cellscale.ngff.labels import open_labels

    return pd.read_parquet(open_labels(image.url, name).place("objects.parquet"))


def every_moment(marks: Path, kind: str, *, over: bool, step: int = 1) -> Ending:
    """Stop a run at its changes; what is listed stays whole, and the same command then ends with the layer.

    `step`: every so many changes; 1: at each.
    """
    small = Small(folder=marks / f"{kind}-{over}-{step}".replace(" ", "-"), over=over)
    small.folder.mkdir()
    small.prepare()
    small.begin()
    with changing(Changes(names=STOPPED[kind])) as calm:
        small.run()
    moments = range(0, calm.made, step)
    wrong = [problem for moment in moments for problem in _stopped(small, kind, moment)]
    return Ending(faults=f"{len(moments)} × {kind}", finished=not wrong, equal=not wrong, named="; ".join(wrong))


def _full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def dies(run: Callable[[], object], moment: int) -> bool:
    """Run something in a fork that dies instead of one of its changes; False if it ended before, without an error."""
    process = os.fork()
    if process == 0:
        try:
            with changing(Changes(stop_at=moment, stop=lambda: os._exit(9))):
                run()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"moment {moment}: status {code}"
    return code == 9


def _meets_a_full_disk(small: Small, moment: int) -> str:
    """Give the command while nothing can be written from one of its writes on; "" if it ends with an error."""
    try:
        with changing(Changes(stop_at=moment, stop=_full, names=STOPPED["full disk"])):
            small.run()
    except CellscaleError:
        return ""
    return "status 0 although the disk was full"


def _stopped(small: Small, kind: str, moment: int) -> Iterator[str]:
    """Stop a run at one of its changes and give the command again; yield what is wrong."""
    small.begin()
    if kind == "death":
        problem = "" if dies(small.run, moment) else "it did not die"
    else:
        problem = _meets_a_full_disk(small, moment)
    if problem:
        yield f"moment {moment}: {problem}"
    if not small.whole():
        yield f"moment {moment}: what is listed is neither the old layer nor the new one"
    image = small.image
    scratch, layer = Path(image.url) / ".cellscale-cells", Path(image.url) / "labels" / "cells"
    try:
        small.run()
    except ExistsError:
        # It died when nothing was left to do but to delete an empty folder.
        if not scratch.is_dir() or any(scratch.iterdir()):
            yield f"moment {moment}: refused although it was not at its end"
        return
    except CellscaleError as error:
        yield f"moment {moment}: the same command again: {error}"
        return
    if not small.same("new"):
        yield f"moment {moment}: other labels"
    if scratch.exists():
        yield f"moment {moment}: scratch is left"
    if left := [path.name for path in layer.rglob("*") if path.name.endswith((".part", ".partial"))]:
        yield f"moment {moment}: {left}"


MOMENTS: dict[str, Plan] = {
    "a run dies at each of its changes": Plan(
        carry_out=lambda of: every_moment(of.marks, "death", over=False), finishes=True
    ),
    "a run that replaces a layer dies at each of its changes": Plan(
        carry_out=lambda of: every_moment(of.marks, "death", over=True), finishes=True
    ),
    "the disk is full at each write": Plan(
        carry_out=lambda of: every_moment(of.marks, "full disk", over=False), finishes=True
    ),
    "the disk is full at each write of a run that replaces a layer": Plan(
        carry_out=lambda of: every_moment(of.marks, "full disk", over=True), finishes=True
    ),
}
