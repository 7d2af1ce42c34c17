"""Two workers learn what one learns from the joined batch: networks without BatchNorm and dropout, plain descent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn

from cellscale.methods import load_method
from cellscale.models.model import tensors
from cellscale.testing.cases import FRAMES
from cellscale.training import loop
from cellscale.training.samples import Samples, batch_of, batches
from cellscale.training.settings import TrainingSettings
from cellscale.training.workers import Workers

SETTINGS = TrainingSettings(
    steps=50,
    batch_size=2,
    crop=32,
    margin=8,
    loader_workers=0,
    threads=1,
    precision="fp32",
    validate_every=100,
    max_grad_norm=1e9,
)
BARE: dict[str, Any] = {"width": 4, "depth": 1, "norm": False, "dropout": 0.0}
QUICK = ("multicellnet",)
"""Two networks, and a closed form over both whose coefficients are of all workers."""
OTHERS = (
    *("saw", "unet-ronneberger", "unet2", "unet3", "focal", "dwm"),
    *("deepsplit", "branchnet", "double-unet", "unet-binary", "mu-lux", "calt-us"),
)


def descent(parameters: Any, seen: Any, rate: float) -> torch.optim.SGD:
    """Plain descent that notes the gradients of its first step."""
    optimizer = torch.optim.SGD(parameters, lr=rate)
    held = optimizer.param_groups[0]["params"]
    first: list[torch.Tensor] = []
    seen.append(first)

    def note(*_: Any) -> None:
        if not first:
            first.extend(p.grad.clone() for p in held)

    optimizer.register_step_pre_hook(note)
    return optimizer


def learned(name: str, workers: Workers, size: int, rate: float = 0.05) -> tuple[list[Any], dict[str, Tensor]]:
    """First gradients of each update, and the weights at the end."""
    torch.set_num_threads(1)
    method: Any = load_method(name, **BARE).fit_statistics(labels for _, labels in FRAMES)
    settings = dataclasses.replace(SETTINGS, batch_size=size)
    seen: list[list[Tensor]] = []
    swapped = tuple(
        dataclasses.replace(
            stage,
            updates=tuple(
                dataclasses.replace(update, optimizer=partial(descent, seen=seen, rate=rate))
                for update in stage.updates
            ),
        )
        for stage in method.stages()
    )
    torch.manual_seed(0)
    networks = method.networks()
    samples = Samples(method, FRAMES, settings)

    def given(first: Any) -> Iterator[Any]:
        for values in batches(samples, settings, first=first, rank=workers.rank, world=workers.world):
            yield batch_of(values, torch.device("cpu"), workers.mean)

    loop.run(swapped, networks, given, settings=settings, state=loop.State(), workers=workers, hooks=loop.Hooks())
    return [gradient for first in seen for gradient in first], tensors(networks)


def work(rank: int, folder: Path, methods: Any) -> None:
    """One of two processes."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in methods:
        found = learned(name, Workers(rank=rank, world=2), 2)
        torch.save(found, f"{folder}/{name}-{rank}.pt")
    distributed.destroy_process_group()


def compare(methods: Any, folder: Path) -> None:
    spawn(work, (str(folder), methods), nprocs=2)  # type: ignore[no-untyped-call]
    for name in methods:
        gradients, weights = learned(name, Workers(), 4)
        for rank in (0, 1):
            others, moved = torch.load(folder / f"{name}-{rank}.pt")
            for one, other in zip(gradients, others, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, msg=name)
            for key, value in weights.items():
                torch.testing.assert_close(value, moved[key], rtol=0, atol=1e-5, msg=f"{name}.{key}")
        torch.manual_seed(0)
        fresh = tensors(load_method(name, **BARE).networks())
        assert max(float((value - fresh[key]).abs().max()) for key, value in weights.items()) > 1e-3


def test_two_workers_learn_what_one_learns_from_both_batches(tmp_path: Path) -> None:
    compare(QUICK, tmp_path)


@pytest.mark.slow
def test_so_do_all_other_methods(tmp_path: Path) -> None:
    compare(OTHERS, tmp_path)
