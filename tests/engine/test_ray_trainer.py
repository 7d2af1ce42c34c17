from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from cellscale.engine.ray_map import RayExecutor, cluster
from cellscale.engine.ray_trainer import train_method
from cellscale.errors import ExistsError, InputError, RunError
from cellscale.methods import load_method
from cellscale.models.model import digest, load_model
from cellscale.testing.cases import FRAMES
from cellscale.training.settings import TrainingSettings
from cellscale.training.task import TrainingTask

SETTINGS = TrainingSettings(
    steps=6,
    batch_size=2,
    crop=32,
    margin=4,
    loader_workers=1,
    precision="fp32",
    validate_every=3,
    log_every=1,
    threads=1,
)
METHOD: Any = load_method("saw", width=4, depth=1)
# Ray warns of its own modules.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::DeprecationWarning:ray.*")


@pytest.fixture(scope="module", autouse=True)
def started() -> Iterator[Any]:
    """One small Ray for all tests of this file."""
    with cluster(None):
        yield


def test_a_worker_trains_as_this_process_does_and_leaves_the_files_of_others(tmp_path: Path) -> None:
    seen = []
    (tmp_path / "there" / "ray").mkdir(parents=True)
    (tmp_path / "there" / "ray" / "mine").touch()
    here = train_method(
        TrainingTask(
            method=METHOD, data=[FRAMES], validation=[FRAMES[:1]], output=f"{tmp_path}/here", settings=SETTINGS
        ),
        workers=0,
    )
    there = train_method(
        TrainingTask(
            method=METHOD, data=[FRAMES], validation=[FRAMES[:1]], output=f"{tmp_path}/there", settings=SETTINGS
        ),
        on_progress=lambda *progress: seen.append(progress),
    )
    assert digest(here) == digest(there)
    # Frames, steps, and samples whose classes are counted; the driver looks now and then, and may miss a step.
    assert {total for _, _, total in seen} <= {3, 6, 12}
    assert seen
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == [
        "history.csv",
        "loss.png",
        "model.json",
        "ray",
        "weights.safetensors",
    ]
    assert [p.name for p in (tmp_path / "there" / "ray").iterdir()] == ["mine"]
    with pytest.raises(ExistsError):
        train_method(TrainingTask(method=METHOD, data=[FRAMES], output=f"{tmp_path}/there", settings=SETTINGS))


def test_more_workers_than_the_cluster_has_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="64 workers need 64 CPUs"):
        train_method(
            TrainingTask(method=METHOD, data=[FRAMES], output=str(tmp_path / "m"), settings=SETTINGS), workers=64
        )
    assert not (tmp_path / "m").exists()


def test_two_workers_train_one_model(tmp_path: Path) -> None:
    model = train_method(
        TrainingTask(method=METHOD, data=[FRAMES], validation=[FRAMES[:1]], output=str(tmp_path), settings=SETTINGS),
        workers=2,
    )
    assert model.training["workers"] == 2
    assert all(
        torch.isfinite(value).all() for value in load_model(str(tmp_path)).networks["unet"].state_dict().values()
    )


def test_data_that_do_not_fit_are_refused_before_a_worker_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the method reads 2"):
        train_method(
            TrainingTask(
                method=load_method("saw", channels=2), data=[FRAMES], output=str(tmp_path / "m"), settings=SETTINGS
            )
        )
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_an_error_of_a_worker_is_told_as_it_is(tmp_path: Path) -> None:
    steep: Any = load_method("saw", width=4, depth=1, norm=False, learning_rate=1e30)
    with pytest.raises(RunError, match="Lower the learning rate"):
        train_method(
            TrainingTask(method=steep, data=[FRAMES], output=str(tmp_path), settings=SETTINGS),
            engine=RayExecutor(failures=0),
        )


class Watched(Sequence[Any]):
    """Frames that note which processes read them."""

    def __init__(self, notes: Any) -> None:
        self.notes = notes

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: Any) -> Any:
        (self.notes / str(os.getpid())).touch()
        return FRAMES[i]


@pytest.mark.slow
def test_an_error_that_would_come_again_is_not_tried_again(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    steep: Any = load_method("saw", width=4, depth=1, norm=False, learning_rate=1e30)
    settings = dataclasses.replace(SETTINGS, loader_workers=0)
    with pytest.raises(RunError, match="Lower the learning rate"):
        train_method(
            TrainingTask(method=steep, data=[Watched(notes)], output=str(tmp_path / "m"), settings=settings),
            engine=RayExecutor(failures=2),
        )
    assert len({path.name for path in notes.iterdir()} - {str(os.getpid())}) == 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deadly(Sequence[Any]):
    """Frames whose reading kills the reader by signal 9, once, after so many looks."""

    after: int
    mark: str

    def __len__(self) -> int:
        return len(FRAMES)

    def __getitem__(self, i: Any) -> Any:
        looks = LOOKS.setdefault(self.mark, [])
        looks.append(i)
        if len(looks) > self.after and os.path.exists(self.mark):
            os.unlink(self.mark)
            os.kill(os.getpid(), signal.SIGKILL)
        return FRAMES[i]


LOOKS: dict[str, list[int]] = {}
"""What this process has looked at, by the name of the mark."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_worker_is_replaced_and_the_weights_are_those_of_a_calm_run(tmp_path: Path, seed: int) -> None:
    settings = dataclasses.replace(SETTINGS, steps=12, loader_workers=0, cache_mb=0)
    mark = tmp_path / "mark"
    after = int(torch.randint(8, 15, (1,), generator=torch.Generator().manual_seed(seed)))
    digests = []
    for name in ("calm", "deadly"):
        frames = Deadly(after=after, mark=str(mark))
        model = train_method(
            TrainingTask(method=METHOD, data=[frames], validation=[], output=f"{tmp_path}/{name}", settings=settings),
            workers=2,
        )
        digests.append(digest(model))
        assert not mark.exists()
        mark.touch()
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_an_elastic_training_takes_the_workers_that_there_are(tmp_path: Path) -> None:
    engine = RayExecutor(least_workers=1)
    model = train_method(
        TrainingTask(method=METHOD, data=[FRAMES], output=str(tmp_path), settings=SETTINGS), workers=64, engine=engine
    )
    assert model.training["workers"] == min(64, int(ray.cluster_resources()["CPU"]))
    with pytest.raises(InputError, match="64 workers need 64 CPUs"):
        train_method(
            TrainingTask(method=METHOD, data=[FRAMES], output=str(tmp_path / "m"), settings=SETTINGS), workers=64
        )
