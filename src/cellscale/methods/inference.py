"""Networks applied to windows: the only place where probabilities become stored maps."""

from __future__ import annotations

import copy
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cellscale.errors import InputError
from cellscale.methods.protocol import Method, Networks
from cellscale.networks.finite import check_finite
from cellscale.types import Prediction, StoredMaps

Precision: TypeAlias = Literal["auto", "bf16", "fp32"]
"""Arithmetic of convolutions; auto: bf16 where the processor has it."""


_DEVICES = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?")
"""Names of devices that networks run on; auto: a GPU if there is one."""


def check_device(name: str) -> None:
    """Raise InputError for a name that is not a device; whether there is one, the machine that uses it says."""
    if not _DEVICES.fullmatch(name):
        raise InputError(
            f"Setting 'device' is not a valid device: {name!r}; expected auto, cpu, cuda, cuda:0, mps or xpu."
        )


def device_here(wanted: str) -> str:
    """The device that a setting means in this process; auto: a GPU of NVIDIA, else of Apple, else the processor."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_of(name: str) -> torch.device:
    """The device of a setting; auto: a GPU if there is one.

    Raises
    ------
    InputError
        For cuda on a machine where torch finds none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"Setting 'device' is {name!r}, and torch finds no GPU here. Set device=cpu, or auto.")
    return torch.device(device_here(name))


def has_bf16(device: str) -> bool:
    """Whether the processor multiplies bf16 natively."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def resolved(device: str, precision: Precision) -> Literal["bf16", "fp32"]:
    """Return the arithmetic for a precision on this machine.

    A machine without the GPUs of a run assumes that they have bf16; nodes whose GPUs do not have it refuse their tasks.
    """
    if precision != "auto":
        return precision
    if device.startswith("cuda") and not torch.cuda.is_available():
        return "bf16"
    return "bf16" if has_bf16(device) else "fp32"


def check_precision(device: str, precision: Precision) -> None:
    """Raise InputError on a node that cannot compute in the precision of the run."""
    if precision == "bf16" and not has_bf16(device):
        raise InputError(
            f"Node {platform.node()} has no bf16 arithmetic on {device!r}; the run computes in bf16, and labels must "
            "not depend on the node. Start over with --set precision=fp32, or exclude nodes of this kind."
        )


def autocast(device: str, precision: Precision) -> AbstractContextManager[object]:
    """Compute in bf16 inside this context, if the precision says so."""
    on = resolved(device, precision) == "bf16"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=on)


def fuse_batchnorm(networks: Networks) -> dict[str, nn.Module]:
    """Copy networks in evaluation mode, with each BatchNorm fused into the preceding convolution: a sixth faster."""
    copies = {name: copy.deepcopy(network).eval() for name, network in networks.items()}
    rows = [part for network in copies.values() for part in network.modules() if isinstance(part, nn.Sequential)]
    for row in rows:
        for i, (layer, norm) in enumerate(pairwise(row)):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                row[i], row[i + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return copies


def stored(probabilities: Mapping[str, Tensor]) -> list[StoredMaps]:
    """Round maps (n, y, x) in [0, 1] to uint8, round(255 p), and split them into samples.

    Raises
    ------
    NotFiniteError
        For a map with NaN or infinities, which would be stored as background or foreground.
    """
    for name, values in probabilities.items():
        check_finite(name, values)
    rounded = {
        name: (values.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        for name, values in probabilities.items()
    }
    count = len(next(iter(rounded.values())))
    return [{name: values[i] for name, values in rounded.items()} for i in range(count)]


def over_flips(method: Method, networks: Networks, images: Tensor) -> dict[str, Tensor]:
    """Mean of the predictions of windows (n, c, y, x) and of their flips, turned back: (n, y, x) by name.

    A window's sides are multiples of the networks' pooling, so that a flip moves their grid onto itself.

    Raises
    ------
    InputError
        If the method predicts candidates.
    """
    found: dict[str, list[Tensor]] = {}
    for axes in ((), (-2,), (-1,), (-2, -1)):
        seen = images.flip(axes).contiguous(memory_format=torch.channels_last)
        predicted = method.predict(networks, seen)
        if isinstance(predicted, list):
            raise InputError(
                f"Method {method.name!r} predicts candidates, which have no mean. Set test_time_flips=false."
            )
        for name, values in predicted.items():
            found.setdefault(name, []).append(values.float().flip(axes))
    return {name: torch.stack(values).mean(0) for name, values in found.items()}


def place(networks: Networks, device: str) -> None:
    """Put networks on a device, in evaluation mode and in the layout of the windows."""
    for network in networks.values():
        network.to(device=torch.device(device), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def windows_to_maps(
    method: Method,
    networks: Networks,
    windows: NDArray[np.float32],
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    flips: bool = False,
    placed: bool = False,
) -> Sequence[Prediction]:
    """Predict the maps or candidates of a batch of windows; the networks are left on `device` in evaluation mode.

    Parameters
    ----------
    method : Method
        Knows how to combine its networks.
    networks : mapping of str to nn.Module
        With weights.
    windows : float32 array, (n, c, y, x)
        After the intensity rule; y and x are multiples of `method.reaches.multiple`.
    device : str
        Device of the networks: cpu, cuda …
    precision : {"auto", "bf16", "fp32"}
        Arithmetic of the convolutions; auto: bf16 where the processor has it.
    flips : bool
        Whether maps are the mean over the window's four flips.
    placed : bool
        Whether `place` was called before: it takes as long as the smallest windows.

    Returns
    -------
    list of dict of uint8 arrays, (y, x), or of Candidates
        One for each window: round(255 p) by name, or what the method proposes.
    """
    if not placed:
        place(networks, device)
    images = torch.from_numpy(windows).to(device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(device, precision):
        found = over_flips(method, networks, images) if flips else method.predict(networks, images)
        return found if isinstance(found, list) else stored(found)
