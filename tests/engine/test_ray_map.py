"""The bounded map: every task once, errors as values, storage errors tried again, a lost worker replaced."""

import os
from collections import Counter
from pathlib import Path

from ray.exceptions import RayError

from cellscale.engine.ray_map import FanOut

QUICK = FanOut(attempts=3, backoff_s=0.01, cpus=0.1)


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


def test_a_task_that_kills_its_worker_every_time_ends_with_an_error(cluster: None) -> None:
    ((task, result),) = QUICK(lambda shared, task: os._exit(1), None, [7])
    assert task == 7
    assert isinstance(result, RayError)
