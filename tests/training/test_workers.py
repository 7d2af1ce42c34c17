from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import distributed
from torch.multiprocessing.spawn import spawn

from cellscale.methods import load_method
from cellscale.models.model import tensors
from cellscale.storage.folder import Folder
from cellscale.testing.cases import FRAMES
from cellscale.training.resume_state import claim
from cellscale.training.run import train
from cellscale.training.settings import TrainingSettings
from cellscale.training.task import TrainingTask
from cellscale.training.workers import Workers

SETTINGS = TrainingSettings(
    steps=6, batch_size=2, crop=37, margin=4, loader_workers=0, precision="fp32", validate_every=3, threads=1
)


GAME = {"width": 4, "features": 4, "side": 16, "estimator_steps": 2, "discriminator_steps": 2}
METHODS: dict[str, dict[str, Any]] = {
    "saw": {"width": 4, "depth": 1},
    "ribcage": GAME,
    "classdisc": {**GAME, "hidden": 16},
    "pixel-forest": {"scales": [0.7, 1.6], "trees": 4, "leaves": 30, "batches": 3, "pixels": 300},
}


def work(rank: int, folder: Path, claims: Any) -> None:
    """One of two processes, which train one method after the other."""
    address = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    workers = Workers(rank=rank, world=2)
    for name, small in METHODS.items():
        method: Any = load_method(name, **small)
        output = f"{folder}/{name}"
        model = train(
            TrainingTask(method=method, data=[FRAMES], validation=[FRAMES[:1]], output=output, settings=SETTINGS),
            workers=workers,
            claimed=claims[name],
        )
        torch.save(tensors(model.networks), f"{output}-{rank}.pt")
    torch.save(workers.mean(torch.tensor([float(rank)])), f"{folder}/mean-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    made = tmp_path_factory.mktemp("workers")
    claims = {name: claim(Folder(url=f"{made}/{name}"), resume=False, overwrite=False) for name in METHODS}
    spawn(work, (str(made), claims), nprocs=2)  # type: ignore[no-untyped-call]
    return made


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_end_with_equal_weights(name: str, folder: Path) -> None:
    first, second = (torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    method: Any = load_method(name, **METHODS[name])
    torch.manual_seed(SETTINGS.seed)
    fresh = tensors(method.networks())
    assert {key.partition(".")[0] for key in fresh if not torch.equal(fresh[key], first[key])} == {*method.networks()}


def test_workers_share_a_mean(folder: Path) -> None:
    assert float(torch.load(folder / "mean-1.pt", weights_only=True)) == 0.5


def test_one_worker_shares_with_itself() -> None:
    value = torch.ones(3, requires_grad=True)
    assert not Workers().mean(value).requires_grad
    assert Workers().share(0.25) == 0.25
