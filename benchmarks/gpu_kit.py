"""All measurements of a machine with GPUs, within a number of minutes, as JSON and as a Markdown table.

`benchmarks/gpu.py all` runs them: the bare forward pass and windows to stored maps; the forward pass in each
arithmetic, layout in memory and batch size, compiled or not, and which of them is fastest; the whole pipeline with the
included model `nuclei` on a synthetic time-lapse; trainings in samples a second, alone and on two processes; labels
from this device and from the CPU, pixel by pixel. Each part repeats until its share of the time is used, and at least
once; a part that the machine cannot do says why.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from cellscale.methods.inference import Precision, autocast, windows_to_maps
from cellscale.models.model import load_model
from cellscale.sources.synthetic import Scene
from cellscale.tiling.in_memory import whole_frame
from cellscale.training import loop
from cellscale.training.crops import mapped
from cellscale.training.samples import Samples, batch_of, batches
from cellscale.training.workers import Workers
from cellscale.types import Box, Candidates
from gpu import WARM_UP, asked, now, on, prediction_rates, scenes, seconds, training_rates

MODEL = "nuclei"
SHARES = {"prediction": 0.15, "ways": 0.15, "pipeline": 0.2, "training": 0.2, "two processes": 0.2, "labels": 0.1}
"""Part of the time for each measurement."""


LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
"""Orders of a network's weights and windows in memory."""
DOUBLINGS = 2
"""How often the batch is doubled, as far as it fits into the device's memory."""


class SkippedError(Exception):
    """A measurement that this machine cannot do, with the reason."""


def repeated(measure: Callable[[], dict[str, Any]], limit_s: float) -> dict[str, Any]:
    """Measure until the time is used, at least once: the median of each number."""
    end = time.monotonic() + limit_s
    found = [measure()]
    while time.monotonic() < end:
        found.append(measure())
    numbers = {key for key, value in found[0].items() if isinstance(value, int | float)}
    medians = {key: statistics.median(one[key] for one in found) for key in numbers}
    return {**found[0], **medians, "repetitions": len(found)}


def forward_rate(name: str, given: argparse.Namespace, way: tuple[Precision, str, bool], batch: int) -> float:
    """Mpx a second of the forward pass over a batch that lies on the device, in an arithmetic and a layout."""
    precision, layout, compiled = way
    method, _ = asked(name, given)
    device = torch.device(given.device)
    networks: dict[str, Any] = {}
    for key, network in on(device, method).items():
        placed = network.to(memory_format=LAYOUTS[layout]).eval()
        # The compiler of the default backend is made for GPUs, and takes minutes on a CPU.
        backend = "inductor" if device.type == "cuda" else "eager"
        networks[key] = torch.compile(placed, backend=backend) if compiled else placed
    pixels = torch.rand(batch, method.channels, given.window, given.window, device=device)
    windows = pixels.contiguous(memory_format=LAYOUTS[layout])

    def forward() -> None:
        with torch.inference_mode(), autocast(device.type, precision):
            method.predict(networks, windows)

    rate: float = batch * given.window**2 / 1e6 / seconds(device, forward, 5)
    return rate


def ways(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Mpx a second of the forward pass in each way, compiled in the fastest one, and then with larger batches."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    rates = {
        way: forward_rate(name, given, way, given.batch) for way in itertools.product(precisions, LAYOUTS, (False,))
    }
    precision, layout, _ = max(rates, key=lambda way: rates[way])
    compiled = (precision, layout, True)
    rates[compiled] = forward_rate(name, given, compiled, given.batch)
    best = max(rates, key=lambda way: rates[way])
    sizes = {given.batch: rates[best]}
    for doubling in range(1, DOUBLINGS + 1):
        try:
            sizes[given.batch * 2**doubling] = forward_rate(name, given, best, given.batch * 2**doubling)
        except torch.OutOfMemoryError:
            break
    found = {f"{way[0]}, {way[1]}{', compiled' * way[2]}": rate for way, rate in rates.items()}
    fastest = max(found, key=lambda text: found[text])
    more = {f"batch of {batch}": rate for batch, rate in sizes.items()}
    return {**found, **more, "fastest": fastest, "fastest_batch": max(sizes, key=lambda batch: sizes[batch])}


def pipeline(given: argparse.Namespace) -> dict[str, Any]:
    """Segment a synthetic time-lapse from disk to a published layer."""
    try:
        import_module("zarr")
    except ImportError as error:
        raise SkippedError(f"{error.name} is not installed") from error
    import cellscale

    side, frames = 2 * given.window, given.frames
    with tempfile.TemporaryDirectory() as folder:
        movie = cellscale.synthesize(f"{folder}/movie.zarr", shape=(frames, side, side), cells=side * side // 2200)
        settings = {"device": given.device, "window_size": given.window, "batch": given.batch}
        began = time.perf_counter()
        found = cellscale.segment(movie.url, model=MODEL, backend="serial", settings=settings)
        seconds = time.perf_counter() - began
    parts = {f"{name}_s": round(value, 3) for name, value in found.report.seconds.items()}
    return {"px": frames * side**2, "Mpx_per_s": frames * side**2 / seconds / 1e6, "cells": found.cells, **parts}


def labels_on(given: argparse.Namespace) -> dict[str, Any]:
    """Share of pixels whose labels, and stored maps, differ between this device and the CPU."""
    model, side = load_model(MODEL), given.window
    scene, box = Scene(shape=(1, side, side), cells=side * side // 2200), Box(0, 0, side, side)
    windows = mapped(scene.image(0, box)[None], model.method.intensity)[None].astype(np.float32)
    found = {}
    ways: list[tuple[str, Precision]] = [("cpu", "fp32"), (given.device, given.precision)]
    for device, precision in ways:
        (maps,) = windows_to_maps(model.method, model.networks, windows, device=device, precision=precision)
        if isinstance(maps, Candidates):
            raise SkippedError(f"{MODEL} predicts candidates")
        found[device, precision] = maps, whole_frame(model.method, maps)
    (maps, labels), (others, other) = next(iter(found.values())), list(found.values())[-1]
    return {
        "cells": int(labels.max()),
        "cells_here": int(other.max()),
        "share_of_labelled_px": float(((labels > 0) != (other > 0)).mean()),
        "share_of_map_px": float(np.mean([(values != others[name]).mean() for name, values in maps.items()])),
        "most_map_steps": max(int(np.abs(values.astype(int) - others[name]).max()) for name, values in maps.items()),
    }


def trained(rank: int, world: int, folder: str, given: argparse.Namespace) -> None:
    """One of several processes that train together; the first one writes down the seconds of its steps."""
    device = torch.device(given.device if given.device == "cpu" else f"cuda:{rank}")
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    workers, ends = Workers(rank=rank, world=world), []
    method, settings = asked(given.methods[0], given)
    frames: Any = scenes(2, 4 * given.crop)
    method = method.fit_statistics(labels for _, labels in frames)
    samples = Samples(method, frames, settings)

    def batched(first: int) -> Any:
        for values in batches(samples, settings, first=first, rank=rank, world=world):
            yield batch_of(values, device, workers.mean)

    hooks = loop.Hooks(on_step=lambda stage, step, terms: ends.append(now(device)))
    networks = on(device, method)
    loop.run(method.stages(), networks, batched, settings=settings, state=loop.State(), workers=workers, hooks=hooks)
    distributed.destroy_process_group()
    if rank == 0:
        steps = [after - before for before, after in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)]
        Path(folder, "steps.json").write_text(json.dumps(steps))


def two_processes(given: argparse.Namespace) -> dict[str, Any]:
    """Samples a second of one process and of two that exchange gradients, each on a device of its own."""
    count = torch.cuda.device_count()
    if given.device != "cpu" and count < 2:
        raise SkippedError(f"{count} GPU; two are needed")
    rates = {}
    for world in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            if world == 1:
                trained(0, 1, folder, given)
            else:
                spawn(trained, (world, folder, given), nprocs=world)  # type: ignore[no-untyped-call]
            steps = json.loads(Path(folder, "steps.json").read_text())
        rates[world] = world * given.batch / statistics.median(steps)
    return {"samples_per_s": rates[1], "samples_per_s_of_two": rates[2], "speedup": rates[2] / rates[1]}


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All measurements; of a skipped one its reason."""
    frames = scenes(4, 4 * given.crop)
    works: dict[str, list[tuple[str, Callable[[], dict[str, Any]]]]] = {
        "prediction": [(name, partial(prediction_rates, name, given, frames)) for name in given.methods],
        "ways": [(name, partial(ways, name, given)) for name in given.methods],
        "pipeline": [(MODEL, partial(pipeline, given))],
        "training": [(name, partial(training_rates, name, given, frames)) for name in given.methods],
        "two processes": [(given.methods[0], partial(two_processes, given))],
        "labels": [(MODEL, partial(labels_on, given))],
    }
    found: dict[str, Any] = {"machine": machine(given)}
    for part, several in works.items():
        limit_s = 60 * given.minutes * SHARES[part] / len(several)
        for name, work in several:
            began = time.monotonic()
            try:
                one = repeated(work, limit_s)
            except SkippedError as reason:
                one = {"skipped": str(reason)}
            found[f"{part}: {name}"] = {**one, "took_s": round(time.monotonic() - began, 1)}
            print(json.dumps({f"{part}: {name}": found[f"{part}: {name}"]}), flush=True)
    return found


def machine(given: argparse.Namespace) -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if given.device.startswith("cuda") else platform.processor() or "cpu",
        "devices": torch.cuda.device_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "width": given.width,
        "window": given.window,
        "batch": given.batch,
        "crop": given.crop,
        "precision": given.precision,
    }


def table(found: dict[str, Any]) -> str:
    """Measurements as a Markdown table."""
    lines = ["| | |", "|---|---|"]
    for name, values in found.items():
        words = [f"{key} {_text(value)}" for key, value in values.items() if not isinstance(value, dict)]
        lines.append(f"| {name} | {' · '.join(words)} |")
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run_all(given: argparse.Namespace) -> None:
    """Measure everything and write gpu.json and gpu.md."""
    found = measured(given)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "gpu.json").write_text(json.dumps(found, indent=1))
    (given.output / "gpu.md").write_text(table(found))
    print(table(found))
