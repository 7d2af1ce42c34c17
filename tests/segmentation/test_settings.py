"""Settings of a segmentation: what no machine can carry out is refused by the plan, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cellscale.errors import CellscaleError, InputError
from cellscale.methods import load_method
from cellscale.models.model import Model
from cellscale.segmentation.plan import Settings, plan
from cellscale.storage.folder import Folder
from cellscale.training.settings import TrainingSettings
from tests.ngff.pictures import make


@pytest.mark.parametrize("device", ["tpu:x", "meta", "cuda:", "cpu0", "", "cuda:-1"])
@pytest.mark.parametrize("settings", [Settings, TrainingSettings])
def test_a_device_that_is_none_is_refused(settings: Any, device: str) -> None:
    with pytest.raises(InputError, match=f"not a valid device: '{device}'; expected auto, cpu, cuda"):
        settings(device=device)


@pytest.mark.parametrize("name", ["window_size", "batch", "threads", "tile_size"])
@pytest.mark.parametrize("value", [0, -1, 2**31, 99999999999])
def test_a_size_that_no_machine_has_is_refused(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"Setting '{name}' is {value}; expected 1 to 1048576"):
        Settings(**cast(Any, {name: value}))


@pytest.mark.parametrize("channel", ["²", -1, "-1", 2, "", "①", 10**30])
def test_a_channel_that_is_none_is_refused(tmp_path: Path, channel: str | int) -> None:
    image = make(tmp_path / "m.zarr", np.zeros((2, 8, 8), np.uint16), "cyx")
    method: Any = load_method("unet-ronneberger", width=2, depth=1)
    model = Model(method=method, networks=method.networks())
    with pytest.raises(CellscaleError, match=r"[Cc]hannel"):
        plan(image, model, Settings(channels=(channel,)), Folder(url=f"{tmp_path}/scratch"))
