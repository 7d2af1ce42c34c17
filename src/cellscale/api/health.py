"""Environment checks for `cellscale doctor`: versions, processors, Ray, viewers, and access to a store."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from cellscale.engine.placement import placement
from cellscale.engine.ray_map import RayExecutor, cluster
from cellscale.engine.resources import cluster_resources
from cellscale.errors import CellscaleError
from cellscale.methods.inference import device_here
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels
from cellscale.storage.folder import Folder
from cellscale.storage.urls import Location, address, url_of

PACKAGES = ("cellscale", "torch", "torchvision", "numpy", "numba", "zarr", "ome-zarr", "fsspec", "ray", "pyarrow")
"""Packages whose versions may affect the labels or the written files."""
OPTIONAL = {
    "neuroglancer": "view",
    "bioio": "bioio",
    "napari": "napari",
    "s3fs": "s3",
    "gcsfs": "gcs",
    "adlfs": "azure",
    "aiohttp": "http",
}
"""Packages needed only for some commands or stores, and their extras."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    status: Literal["ok", "note", "failed"]
    """A note is not a failure: something optional is missing."""
    text: str


def _versions() -> str:
    found = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return f"Python {platform.python_version()} on {platform.machine()}; {', '.join(found)}"


def _processors() -> str:
    return f"{os.cpu_count()} processors, {torch.get_num_threads()} threads of torch"


def _gpu() -> Finding | str:
    device = device_here("auto")
    if device == "mps":
        return "of Apple; networks run on it (mps) with --serial"
    if device == "cpu":
        return Finding(check="GPU", status="note", text="none that torch sees; networks run on the processor")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"{', '.join(names)}; networks run on cuda"


def _optional() -> Finding | str:
    missing = {name: extra for name, extra in OPTIONAL.items() if importlib.util.find_spec(name) is None}
    text = ", ".join(f"{name} (pip install 'cellscale[{extra}]')" for name, extra in missing.items())
    if missing:
        return Finding(check="optional packages", status="note", text=f"not installed: {text}")
    return ", ".join(OPTIONAL)


def _ray(address_of: str | None) -> str:
    with cluster(address_of):
        found, place = cluster_resources(), placement(RayExecutor(), "auto", "auto")
    where = f"{place.device}, {place.gpus:g} GPU for each predicting task" if place.gpus else "processors"
    return f"{found['nodes']} node(s), {found['cpus']:g} processors, {found['gpus']:g} GPUs; networks run on {where}"


def _image(url: str, options: Mapping[str, Any] | None) -> str:
    image = open_image(url, storage_options=options)
    names = ", ".join(list_labels(image.url, storage_options=options)) or "none"
    shape = " × ".join(map(str, image.levels[0].shape))
    return f"OME-Zarr {image.version}, {shape} ({', '.join(image.axes)}), {len(image.levels)} level(s), labels: {names}"


def _writing(url: str, options: Mapping[str, Any] | None) -> str:
    """Write, read and delete an object, as a run does."""
    folder = Folder(url=address(url), storage_options=dict(options or {}))
    name, content = f".cellscale-doctor-{uuid.uuid4().hex}", b"x" * 2**20
    began = time.perf_counter()
    folder.write(name, content)
    back = folder.read(name)
    seconds = time.perf_counter() - began
    folder.delete(name)
    if back != content:
        raise OSError(f"{url} returned other bytes than were written.")
    return f"1 MiB written, read and deleted in {seconds:.2f} s"


def _disk() -> str:
    return f"{shutil.disk_usage('.').free / 1e9:.0f} GB free in {os.getcwd()}"


def _tried(check: str, work: Callable[[], Finding | str]) -> Finding:
    """Make one check; whatever it raises is its finding, and the other checks go on."""
    try:
        found = work()
    except (CellscaleError, OSError) as error:
        return Finding(check=check, status="failed", text=str(error))
    except Exception as error:  # noqa: BLE001 -- broken installations raise anything
        return Finding(check=check, status="failed", text=f"{type(error).__name__}: {error}".strip(": "))
    return found if isinstance(found, Finding) else Finding(check=check, status="ok", text=found)


def doctor(
    store: Location | None = None,
    *,
    ray_address: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Check this machine, Ray and, if one is named, a store.

    Parameters
    ----------
    store : str, optional
        URL of an image: it is opened, and a small object is written next to its arrays, read and deleted.
    ray_address : str, optional
        Address of a Ray cluster; None: one is started on this machine.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    list of Finding
        In the order of the checks; problems are findings, not exceptions.

    Examples
    --------
    >>> import cellscale
    >>> findings = cellscale.doctor("movie.zarr")  # doctest: +SKIP
    >>> [finding.check for finding in findings if finding.status == "failed"]  # doctest: +SKIP
    []
    """
    url = None if store is None else url_of(store, "store")
    found = [_tried("versions", _versions), _tried("processors", _processors), _tried("GPU", _gpu)]
    found += [_tried("disk", _disk), _tried("optional packages", _optional), _tried("Ray", lambda: _ray(ray_address))]
    if url is not None:
        found.append(_tried("image", lambda: _image(url, storage_options)))
        found.append(_tried("write test", lambda: _writing(url, storage_options)))
    return found
