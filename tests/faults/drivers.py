"""Two drivers of one layer at the same time, on Ray and as processes of their own, against a real S3 server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cellscale.engine.ray_map import RayExecutor
from cellscale.errors import OvertakenError
from cellscale.ngff.labels import list_labels
from cellscale.storage.folder import Folder
from tests.blobs import blobs_model
from tests.faults.plans import SETTINGS, Ending, Ground, Plan, command, started
from tests.support.runs import segmented

OTHER = blobs_model(minimum_area=60)


@dataclass(frozen=True, kw_only=True)
class Overtaken:
    """An executor over workers; while the tasks of a step are under way, something else is done."""

    step: str
    by: Callable[[], Any]

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[Any]:
        for number, done in enumerate(RayExecutor(backoff_s=0.1, cpus=0.5)(work, shared, tasks, gpu=gpu)):
            if number == 0 and done[0].record.step.startswith(self.step):
                self.by()
            yield done


def overtaken(of: Ground, step: str) -> Ending:
    """A driver is overtaken by one with another model; its tasks go on in the midst of the other's."""
    name, stops = f"overtaken-{step}", 0

    def overtakes() -> None:
        segmented(of.image, name, model=blobs_model(), overwrite=True, executor=RayExecutor(cpus=0.5), **SETTINGS)

    try:
        segmented(of.image, name, model=OTHER, executor=Overtaken(step=step, by=overtakes), **SETTINGS)
    except OvertakenError:
        stops = 1
    finished = stops == 1 and name in list_labels(of.image.url, storage_options=of.options)
    return Ending(faults=f"{stops} × overtaken in {step}", finished=finished, equal=finished and of.same(name))


def twice(of: Ground, times: int = 3) -> Ending:
    """The same command is given twice at once: one layer, at least one success, nothing is left."""
    wrong = []
    for number in range(times):
        name = f"twice-{number}"
        running = [started(command(of, name)) for _ in range(2)]
        errors = [process.communicate()[1].decode() for process in running]
        statuses = [process.returncode for process in running]
        listed = name in list_labels(of.image.url, storage_options=of.options)
        left = Folder(url=f"{of.image.url}/.cellscale-{name}", storage_options=of.options).names()
        if 0 not in statuses or not listed or left or not of.same(name) or any("Traceback" in text for text in errors):
            wrong.append(f"{statuses} listed {listed}, left {sorted(left)}: {errors}")
    return Ending(faults=f"{times} × two commands", finished=not wrong, equal=not wrong, named=" | ".join(wrong))


DRIVERS: dict[str, Plan] = {
    "a driver is overtaken by other settings while it predicts": Plan(
        carry_out=lambda of: overtaken(of, "predict"), finishes=True
    ),
    "a driver is overtaken by other settings while it publishes": Plan(
        carry_out=lambda of: overtaken(of, "publish-0"), finishes=True
    ),
    "the same command is given twice at once, three times": Plan(carry_out=twice, finishes=True),
}
