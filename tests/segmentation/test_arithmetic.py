"""Arithmetic of a run: one precision for all nodes, and numbers that are not finite end it by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from cellscale.errors import InputError, RunError
from cellscale.methods import inference, load_method
from cellscale.methods.inference import has_bf16
from cellscale.models.model import Model
from cellscale.networks.finite import NotFiniteError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import list_labels
from cellscale.segmentation.plan import Settings, plan
from cellscale.storage.folder import Folder
from tests.blobs import Blobs, blobs_model, blurred_noise
from tests.segmentation.test_run import segmented, written


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    return written(str(tmp_path / "movie.zarr"), blurred_noise((2, 90, 100)))


def planned(image: NgffImage, **settings: Any) -> Any:
    return plan(image, blobs_model(), Settings(**settings), Folder(url=f"{image.url}/.cellscale-cells"))


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_the_plan_decides_what_auto_means(
    image: NgffImage, monkeypatch: pytest.MonkeyPatch, bf16: bool, precision: str
) -> None:
    monkeypatch.setattr(inference, "has_bf16", lambda device: bf16)
    run = planned(image)
    assert run.settings.precision == precision
    assert run.digest == planned(image, precision=precision).digest


def test_machines_with_other_arithmetic_have_other_digests(image: NgffImage, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for answer in (True, False):
        monkeypatch.setattr(inference, "has_bf16", lambda device, answer=answer: answer)
        digests.add(planned(image).digest)
    assert len(digests) == 2


def test_a_node_that_cannot_keep_the_precision_refuses_its_tasks(
    image: NgffImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "has_bf16", lambda device: False)
    with pytest.raises(RunError, match=r"has no bf16 arithmetic on 'cpu'.*--set precision=fp32"):
        segmented(image, "cells", precision="bf16")
    assert list_labels(image.url) == ()


@pytest.mark.skipif(has_bf16("cpu"), reason="this processor has bf16")
def test_auto_means_fp32_where_the_processor_has_no_bf16(image: NgffImage) -> None:
    assert planned(image).settings.precision == "fp32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Breaking(Blobs):
    """Is not finite in the window that holds the frame's brightest pixel."""

    number: float = float("nan")

    def predict(self, networks: Any, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().predict(networks, windows)
        bright = (windows[:, 0] >= 1).flatten(1).any(dim=1)
        found["touching"][bright, 3, 3] = self.number
        return found


def broken(image: NgffImage, name: str, number: float, **settings: Any) -> None:
    model = dataclasses.replace(blobs_model(), method=Breaking(number=number))
    segmented(image, name, model=model, **settings)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_predictions_that_are_not_finite_end_the_run_with_their_window(tmp_path: Path, number: float) -> None:
    pixels = blurred_noise((2, 90, 100)) // 2
    pixels[1, 75, 40] = 65535
    image = written(str(tmp_path / "movie.zarr"), pixels)
    with pytest.raises(RunError, match=r"Frame 1, slice 0, window 2 \(rows 64:90, columns 0:64\): .*'touching'"):
        broken(image, "tiled", number, window_size=64, batch=3)
    with pytest.raises(RunError, match=r"Frame 1, slice 0, window 0 \(rows 0:90, columns 0:100\): .*not finite"):
        broken(image, "fused", number)
    assert list_labels(image.url) == ()


def test_candidates_of_numbers_that_are_not_finite_end_the_run(image: NgffImage) -> None:
    """A network whose weights are finite and whose numbers overflow finds no cells, and says so."""
    method = load_method("maskrcnn", **{"detection.width": 4})
    networks = {name: network.eval() for name, network in method.networks().items()}
    (first, *_) = (part for part in networks["mask_rcnn"].modules() if isinstance(part, torch.nn.Conv2d))
    first.weight.data.fill_(3e38)
    with pytest.raises(RunError, match=r"Frame 0, slice 0, window 0 .*'features 0' has numbers that are not finite"):
        segmented(image, "cells", model=Model(method=method, networks=networks))
    assert list_labels(image.url) == ()


def test_the_named_window_is_the_one_of_the_batch(image: NgffImage) -> None:
    with pytest.raises(NotFiniteError, match="'cell'") as caught:
        inference.stored({"cell": torch.tensor([[[0.5]], [[1.0]], [[float("nan")]]])})
    assert caught.value.sample == 2
    assert isinstance(caught.value, InputError)
