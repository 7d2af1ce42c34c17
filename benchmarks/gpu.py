"""Training and prediction compared with the bare network, and trainings, on a machine with little more than torch.

    python benchmarks/gpu.py all --minutes 10 --output gpu
    python benchmarks/gpu.py rates --methods saw unet2 --width 64 --crop 256 --batch 8
    CELLSCALE_DATA=… python benchmarks/gpu.py train saw dsb --steps 2500 --set unet.width=64 --output saw-dsb

Needs torch, numba, SciPy, scikit-image and this package's folder on the path; no Zarr, no Ray (`train` also tifffile
for TIFF stacks, the pipeline of `all` Zarr). `all` measures everything that the machine can do, see `gpu_kit`. One JSON
line for each result. `rates` alternates the bare network (forward and backward over one batch on the device) with the
loop (samples, targets, weights, loss, exchange, optimizer); medians over steps. On a CPU time is this process's own, so
that other programs do not count, and neither do the processes that make samples: `sample_s` is what one sample costs
them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cellscale.methods import load_method
from cellscale.methods.inference import autocast, windows_to_maps
from cellscale.methods.protocol import Method
from cellscale.settings.fields import flat, replaced
from cellscale.sources.synthetic import Scene
from cellscale.training import loop
from cellscale.training.frames import Frames
from cellscale.training.profiling import Stopwatch
from cellscale.training.samples import Samples, batch_of, batches
from cellscale.training.settings import TrainingSettings
from cellscale.training.validation import predicted, scored
from cellscale.training.workers import Workers
from cellscale.types import Box

WARM_UP = 5
"""Steps that are not timed."""


def now(device: torch.device) -> float:
    """Seconds: of the clock on a GPU, of this process on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def scenes(count: int, side: int) -> Frames:
    """Synthetic frames with labels."""
    scene, box = Scene(shape=(count, side, side), cells=side * side // 700), Box(0, 0, side, side)
    return [(scene.image(t, box)[None], scene.labels(t, box)) for t in range(count)]


def on(device: torch.device, method: Method) -> dict[str, nn.Module]:
    """Fresh networks on a device."""
    torch.manual_seed(0)
    networks = method.networks()
    for network in networks.values():
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return networks


def learn(
    method: Method, networks: Mapping[str, nn.Module], frames: Frames, settings: TrainingSettings, hooks: loop.Hooks
) -> None:
    """Run a method's schedule."""
    samples, device = Samples(method, frames, settings), torch.device(settings.device)

    def given(first: int) -> Any:
        for values in batches(samples, settings, first=first):
            yield batch_of(values, device, lambda value: value.detach())

    loop.run(method.stages(), networks, given, settings=settings, state=loop.State(), workers=Workers(), hooks=hooks)


def seconds(device: torch.device, work: Callable[[], Any], times: int) -> float:
    """Median time of a piece of work."""
    found = []
    for _ in range(WARM_UP + times):
        began = now(device)
        work()
        found.append(now(device) - began)
    return statistics.median(found[WARM_UP:])


def bare_step(method: Method, settings: TrainingSettings, frames: Frames) -> Callable[[], None]:
    """Forward and backward of a method's networks over one batch; of several networks with the method's loss."""
    device = torch.device(settings.device)
    networks = on(device, method)
    values = next(batches(Samples(method, frames, settings), settings, first=0))
    batch = batch_of(values, device, lambda value: value.detach())
    loss = method.stages()[0].updates[0].loss

    def step() -> None:
        for network in networks.values():
            network.zero_grad(set_to_none=True)
        with autocast(device.type, settings.precision):
            if len(networks) == 1:
                terms = [network(batch.image).float().mean() for network in networks.values()]
            else:
                terms = list(loss(networks, batch).values())
        torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]

    return step


def loop_times(method: Method, settings: TrainingSettings, frames: Frames, clock: Stopwatch | None) -> list[float]:
    """Seconds of each step of a training, the first ones left out."""
    ends, device = [], torch.device(settings.device)

    def note(stage: str, step: int, terms: Mapping[str, float]) -> None:
        ends.append(now(device))
        if clock and step == WARM_UP:
            clock.seconds.clear()

    hooks = loop.Hooks(on_step=note, clock=clock) if clock else loop.Hooks(on_step=note)
    learn(method, on(device, method), frames, settings, hooks)
    return [after - before for before, after in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)]


def training_rates(name: str, given: argparse.Namespace, frames: Any) -> dict[str, Any]:
    """Samples a second of loop and bare network, alternating, and where the loop's time goes."""
    method, settings = asked(name, given)
    device = torch.device(settings.device)
    method = method.fit_statistics(labels for _, labels in frames)
    step = bare_step(method, settings, frames)
    bare: list[float] = []
    whole: list[float] = []
    for _ in range(given.rounds):
        bare.append(seconds(device, step, given.steps))
        whole += loop_times(method, settings, frames, None)
    clock = Stopwatch(device=device)
    loop_times(method, settings, frames, clock)
    total = sum(clock.seconds.values())
    one, other = statistics.median(bare), statistics.median(whole)
    samples, numbers = Samples(method, frames, settings), iter(range(10**6))
    return {
        "training": name,
        "sample_s": round(seconds(torch.device("cpu"), lambda: samples[next(numbers)], 10), 4),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "width": given.width,
        "batch": settings.batch_size,
        "crop": settings.crop,
        "precision": settings.precision,
        "bare_samples_per_s": round(settings.batch_size / one, 2),
        "samples_per_s": round(settings.batch_size / other, 2),
        "Mpx_per_s": round(settings.batch_size * settings.crop**2 / other / 1e6, 3),
        "of_bare": round(one / other, 3),
        "parts": {part: round(value / total, 3) for part, value in clock.seconds.items()},
    }


def prediction_rates(name: str, given: argparse.Namespace, frames: Frames) -> dict[str, Any]:
    """Pixels a second of windows to stored maps, and of the bare forward pass over a batch that lies on the device."""
    method, settings = asked(name, given)
    device = torch.device(settings.device)
    networks = on(device, method)
    windows = torch.rand(given.batch, method.channels, given.window, given.window).numpy()
    image = torch.from_numpy(windows).to(device).contiguous(memory_format=torch.channels_last)
    for network in networks.values():
        network.eval()

    def forward() -> None:
        with torch.inference_mode(), autocast(device.type, settings.precision):
            method.predict(networks, image)

    def stored() -> None:
        windows_to_maps(method, networks, windows, device=str(device), precision=settings.precision)

    pairs = [(seconds(device, forward, 5), seconds(device, stored, 5)) for _ in range(given.rounds)]
    one, other = (statistics.median(values) for values in zip(*pairs, strict=True))
    pixels = windows.shape[0] * given.window**2 / 1e6
    return {
        "prediction": name,
        "width": given.width,
        "window": given.window,
        "batch": given.batch,
        "bare_Mpx_per_s": round(pixels / one, 3),
        "Mpx_per_s": round(pixels / other, 3),
        "of_bare": round(one / other, 3),
    }


def asked(name: str, given: argparse.Namespace) -> tuple[Method, TrainingSettings]:
    """Method and training settings from the words."""
    settings = TrainingSettings(
        steps=given.steps + (0 if given.command == "train" else WARM_UP),
        batch_size=given.batch,
        crop=given.crop,
        device=given.device,
        loader_workers=given.loaders,
        precision=given.precision,
        validate_every=10**9,
        ema_decay=given.ema_decay,
    )
    method: Any = load_method(name)
    words = dict(word.split("=", 1) for word in given.assignments)
    changes = {key: json.loads(value) for key, value in words.items()}
    wide = {} if given.width is None or "unet.width" not in flat(method) else {"unet.width": given.width}
    return replaced(method, {**wide, **changes}), settings


def train(given: argparse.Namespace) -> dict[str, Any]:
    """Train on a real data set, tune on its validation frames, score its test frames, and keep the weights."""
    from annotated import DATA, parts

    data = DATA[given.data]
    learned, chosen, test = parts(data.read(Path(os.environ["CELLSCALE_DATA"])), given.split or data.split)
    method, settings = asked(given.method, given)
    method, began = method.fit_statistics(labels for _, labels in learned), time.monotonic()
    networks = on(torch.device(settings.device), method)
    learn(method, networks, learned, settings, loop.Hooks())
    spent = time.monotonic() - began
    how: dict[str, Any] = {"device": settings.device, "precision": settings.precision}
    tuned = method.calibrate(predicted(method, networks, chosen, **how)) if chosen else method
    found = scored(tuned, predicted(tuned, networks, test, **how))
    given.output.mkdir(parents=True, exist_ok=True)
    torch.save({name: network.state_dict() for name, network in networks.items()}, given.output / "weights.pt")
    (given.output / "settings.json").write_text(json.dumps(flat(tuned), default=list))
    words = {"method": given.method, "data": given.data, "steps": settings.steps, "seconds": round(spent, 1)}
    return words | {"scores": {name: round(float(value), 4) for name, value in found.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    rates, training, everything = (commands.add_parser(name) for name in ("rates", "train", "all"))
    for command in (rates, training, everything):
        command.add_argument("--steps", type=int, default=30)
        command.add_argument("--width", type=int)
        command.add_argument("--batch", type=int, default=4)
        command.add_argument("--crop", type=int, default=256)
        command.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        command.add_argument("--threads", type=int, default=0, help="of this process; 0: torch's own number")
        command.add_argument("--loaders", type=int, default=1, help="processes that prepare samples")
        command.add_argument("--ema-decay", type=float, default=0.0)
        command.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=JSON")
    for command in (rates, everything):
        command.add_argument("--methods", nargs="+", default=["saw"])
        command.add_argument("--window", type=int, default=1024)
        command.add_argument("--rounds", type=int, default=2, help="turns of bare network and loop")
    everything.add_argument("--minutes", type=float, default=10, help="time for all measurements, about")
    everything.add_argument("--frames", type=int, default=8, help="of the time-lapse that is segmented")
    everything.add_argument("--output", type=Path, default=Path("gpu"), help="folder for gpu.json and gpu.md")
    training.add_argument("method")
    training.add_argument("data")
    training.add_argument("--split")
    training.add_argument("--output", type=Path, default=Path("model"))
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.command == "all":
        from gpu_kit import run_all

        run_all(given)
        return
    if given.command == "train":
        print(json.dumps(train(given)), flush=True)
        return
    frames = scenes(4, 1024)
    for name in given.methods:
        print(json.dumps(training_rates(name, given, frames)), flush=True)
        print(json.dumps(prediction_rates(name, given, frames)), flush=True)


if __name__ == "__main__":
    main()
