"""Where networks run on a cluster: a Ray whose node counts one GPU, on a machine where torch finds none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cellscale.engine.placement import Found, placement
from cellscale.engine.ray_map import RayExecutor
from cellscale.errors import InputError
from cellscale.methods.inference import device_here

ROOT = Path(__file__).parents[2]


def gpus_of_this_task(shared: None, task: int) -> int:
    """How many GPUs Ray has given to the task."""
    import ray

    return len(ray.get_runtime_context().get_accelerator_ids()["GPU"])


def chosen(device: str, gpus: Any = "auto", *, cuda: bool = True, bf16: bool = True, **options: Any) -> list[Any]:
    """Device, GPUs and precision that follow from settings where torch finds these things; "refused" for an error."""
    try:
        found = placement(
            RayExecutor(gpus=gpus), device, "auto", ask=lambda cpus, gpus: Found(cuda, bf16, "gpu-node"), **options
        )
    except InputError as error:
        return ["refused", str(error)]
    return [found.device, found.gpus, found.precision]


def script(folder: str) -> None:
    """Everything that a Ray with a GPU is asked for; prints what came of it."""
    import ray

    import cellscale
    from tests.blobs import blobs_model, blurred_noise

    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    url, results = f"{folder}/i.zarr", {}
    cellscale.save_image(blurred_noise((2, 90, 100)), url)
    for backend in ("ray", "serial"):
        cellscale.segment(url, model=blobs_model(), layer=backend, backend=backend, settings={"window_size": 64})
        results[backend] = cellscale.open_labels(url, backend).values
    answers = {
        "predicting": [found for _, found in RayExecutor()(gpus_of_this_task, None, range(3), gpu=True)],
        "others": [found for _, found in RayExecutor()(gpus_of_this_task, None, range(3))],
        "auto": chosen("auto"),
        "old": chosen("auto", bf16=False),
        "shared": chosen("auto", 0.5),
        "none wanted": chosen("auto", 0.0),
        "processor": chosen("cpu"),
        "named": chosen("cuda", cuda=False),
        "two workers": chosen("auto", workers=2),
        "no cuda": chosen("auto", cuda=False),
        "asked for in vain": chosen("auto", 1.0, cuda=False),
        "really": placement(RayExecutor(), "auto", "auto").device,
        "equal": bool((results["ray"] == results["serial"]).all() and results["ray"].any()),
    }
    print(json.dumps(answers))


def test_a_cluster_with_a_gpu(tmp_path: Path) -> None:
    code = f"from tests.engine.test_placement import script; script({str(tmp_path)!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers.pop("predicting") == [1, 1, 1]
    assert answers.pop("others") == [0, 0, 0]
    assert "torch that is installed there finds none. Install torch with CUDA" in answers.pop("asked for in vain")[1]
    assert answers == {
        "auto": ["cuda", 1.0, "bf16"],
        "old": ["cuda", 1.0, "fp32"],
        "shared": ["cuda", 0.5, "bf16"],
        "none wanted": ["cpu", 0.0, "auto"],
        "processor": ["cpu", 0.0, "auto"],
        "named": ["cuda", 1.0, "auto"],
        "two workers": ["cpu", 0.0, "auto"],
        "no cuda": ["cpu", 0.0, "auto"],
        "really": device_here("auto"),
        "equal": True,
    }
    assert "Ray counts GPUs on node" in done.stderr


def test_a_cluster_without_gpus(cluster: None) -> None:
    assert chosen("auto") == ["cpu", 0.0, "auto"]
    assert chosen("mps") == ["mps", 0.0, "auto"]
    for device, gpus in (("cuda", "auto"), ("auto", 1.0)):
        refused, reason = chosen(device, gpus)
        assert refused == "refused"
        assert "gpus=1 for each task do not fit into the Ray cluster" in reason


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, False, "cuda"), (False, True, "mps"), (True, True, "cuda"), (False, False, "cpu")],
)
def test_one_process_takes_the_gpu_that_it_has(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert device_here("auto") == device
    assert device_here("cpu") == "cpu"
