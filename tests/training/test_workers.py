import torch
import torch.multiprocessing
from torch import distributed

from cellscale.methods import load_method
from cellscale.training.run import train
from cellscale.training.settings import TrainingSettings
from cellscale.training.workers import Workers
from tests.methods.test_conformance import FRAMES

SETTINGS = TrainingSettings(
    steps=6, batch_size=1, crop=32, margin=4, loader_workers=0, precision="fp32", validate_every=3, threads=1
)


def work(rank, folder):
    """One of two processes of a training."""
    address = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    method = load_method("saw", width=4, depth=1)
    workers = Workers(rank=rank, world=2)
    model = train(method, [FRAMES], [FRAMES[:1]], output=f"{folder}/m", settings=SETTINGS, workers=workers)
    mean = workers.mean(torch.tensor([float(rank)]))
    torch.save({**model.networks["unet"].state_dict(), "mean": mean}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_end_with_equal_weights(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert float(first["mean"]) == 0.5


def test_one_worker_shares_with_itself():
    value = torch.ones(3, requires_grad=True)
    assert not Workers().mean(value).requires_grad
    assert Workers().share(0.25) == 0.25
