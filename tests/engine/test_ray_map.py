"""The bounded map: every task once, errors as values, storage errors tried again, a lost worker replaced."""

import os
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from ray.exceptions import RayError

from cellscale.engine import ray_map
from cellscale.engine.ray_map import RayExecutor
from cellscale.errors import InputError

QUICK = RayExecutor(attempts=3, backoff_s=0.01, cpus=0.1)


def halves(folder: str, task: int) -> int:
    """Half of an even number; a task counts its attempts in files."""
    number = len(list(Path(folder).glob(f"{task}-*")))
    Path(folder, f"{task}-{number}").touch()
    if task == 3:
        raise ValueError("odd")
    if task == 4 and number < 2:
        raise OSError("try again")
    if task == 6 and number == 0:
        os._exit(1)
    return task // 2


def test_every_task_ends_with_its_result_or_its_error(cluster: None, tmp_path: Path) -> None:
    tasks = [0, 2, 3, 4, 6, *range(8, 40, 2)]
    ended = list(QUICK(halves, str(tmp_path), tasks))
    assert sorted(task for task, _ in ended) == tasks
    results = dict(ended)
    assert isinstance(results.pop(3), ValueError)
    assert results == {task: task // 2 for task in tasks if task != 3}
    attempts = Counter(int(file.name.partition("-")[0]) for file in tmp_path.iterdir())
    assert (attempts[3], attempts[4], attempts[6], attempts[8]) == (1, 3, 2, 1)


def test_as_many_workers_are_warmed_as_there_are_tasks_and_processors(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        (tmp_path / uuid.uuid4().hex).touch()

    ray_map._load()
    assert "cellscale.segmentation.run" in sys.modules
    monkeypatch.setattr(ray_map, "_load", load)
    for tasks, warmed in ((0, 0), (1, 1), (50, 3)):
        ray_map.warm_up(tasks)
        # Tasks begin in their order: these two, on both processors, after the others.
        list(RayExecutor()(lambda shared, task: time.sleep(0.1), None, [0, 1]))
        assert len(list(tmp_path.iterdir())) == warmed


def test_a_task_that_kills_its_worker_every_time_ends_with_an_error(cluster: None) -> None:
    ((task, result),) = QUICK(lambda shared, task: os._exit(1), None, [7])
    assert task == 7
    assert isinstance(result, RayError)


def test_tasks_that_no_node_can_run_are_refused_at_once(cluster: None) -> None:
    for settings, wanted in (
        ({"cpus": 3}, "cpus=3"),
        ({"gpus": 1}, "cpus=1, gpus=1"),
    ):
        with pytest.raises(InputError, match=rf"{wanted} for each task .* it has 1 node\(s\) with 2 CPUs and 0 GPUs"):
            next(RayExecutor(**settings)(halves, "", [1], gpu=True))
    assert list(RayExecutor(cpus=2, gpus=1)(lambda shared, task: task, None, [1])) == [(1, 1)]


def test_tasks_that_wait_are_given_up_when_the_caller_stops(cluster: None, tmp_path: Path) -> None:
    def first_rests(folder: str, task: int) -> None:
        Path(folder, str(task)).touch()
        while task and not Path(folder, "go").exists():
            time.sleep(0.01)

    results = RayExecutor(cpus=2, pending_per_cpu=4)(first_rests, str(tmp_path), range(8))
    assert next(results) == (0, None)
    results.close()  # type: ignore[attr-defined]
    (tmp_path / "go").touch()
    ((task, _),) = RayExecutor(cpus=2)(first_rests, str(tmp_path), [9])
    assert task == 9
    assert len([path for path in tmp_path.iterdir() if path.name.isdigit()]) < 8


class Networks:
    """Something that is shared, and leaves a file where it is unpacked."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__dict__ |= state
        Path(self.folder, f"{os.getpid()}-{time.monotonic_ns()}").touch()


def test_a_worker_unpacks_what_tasks_share_once(cluster: None, tmp_path: Path) -> None:
    def process(shared: Networks, task: int) -> tuple[int, int]:
        return os.getpid(), id(shared)

    seen = {found for _, found in RayExecutor()(process, Networks(str(tmp_path)), range(30))}
    unpacked = Counter(file.name.partition("-")[0] for file in tmp_path.iterdir())
    assert set(unpacked) == {str(pid) for pid, _ in seen}
    assert set(unpacked.values()) == {1}
    assert len(seen) == len(unpacked)
    other = tmp_path / "other"
    other.mkdir()
    assert len(list(RayExecutor()(process, Networks(str(other)), range(6)))) == 6
    assert list(other.iterdir())


def test_a_library_out_of_memory_is_tried_again(cluster: None, tmp_path: Path) -> None:
    def torch_like(folder: str, task: int) -> int:
        number = len(list(Path(folder).glob(f"{task}-*")))
        Path(folder, f"{task}-{number}").touch()
        if number < 2:
            raise RuntimeError("out of memory: you tried to allocate 8 GB")
        return task

    assert list(QUICK(torch_like, str(tmp_path), [5])) == [(5, 5)]
