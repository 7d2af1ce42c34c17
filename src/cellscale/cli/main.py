"""The command line: the functions of `cellscale.api` with the flags that every run needs.

Errors that cellscale raises on purpose are printed as one line; the exit status is 2, for an interrupted run 130. A
layer that was published with holes ends with status 3.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click
from rich.table import Table

import cellscale
from cellscale.cli import inspect, system
from cellscale.cli.terminal import (
    FRAMES,
    as_json,
    counted,
    log,
    one_line,
    out,
    print_scores,
    progress,
    redacted_output,
    storage_options,
    trust_model,
)

HOLES = 3
"""Exit status of a segmentation that was published with holes."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(cellscale.__version__, prog_name="cellscale")
@click.option("--quiet", is_flag=True, help="Print results only.")
@click.pass_context
def cli(context: click.Context, quiet: bool) -> None:
    """Train published cell-segmentation methods and apply them to OME-Zarr time-lapses of any size."""
    context.obj = quiet
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    log.setLevel(logging.WARNING if quiet else logging.INFO)


@cli.command("import")
@click.argument("source")
@click.argument("destination")
@click.option("--labels", help="Masks of the same frames: a TIFF stack or folder, a CTC folder, npz or npy.")
@click.option("--labels-name", default="truth", show_default=True, help="Name of the label layer.")
@click.option("--pixel-size", type=float, help="Width of a pixel, µm.")
@click.option("--frame-interval", type=float, help="Time between two frames, s.")
@click.option("--ngff", type=click.Choice(["0.4", "0.5"]), default="0.5", show_default=True, help="Version to write.")
@click.option("--frames", type=FRAMES, help="Half-open range of frames.")
@click.option("--axes", help="Meaning of the source's axes, e.g. tyx, czyx.")
@click.option("--overwrite", is_flag=True, help="Replace an existing destination.")
@as_json
@storage_options
@click.pass_obj
def import_command(quiet: bool, /, source: str, destination: str, as_json: bool, **options: Any) -> None:
    """Import TIFF, CTC folders, npz or npy from SOURCE into a new OME-Zarr image DESTINATION."""
    with progress(quiet) as show:
        image = cellscale.import_images(
            source,
            destination,
            labels=options["labels"],
            labels_name=options["labels_name"],
            pixel_size_um=options["pixel_size"],
            frame_interval_s=options["frame_interval"],
            ngff=options["ngff"],
            frames=options["frames"],
            axes=options["axes"],
            overwrite=options["overwrite"],
            storage_options=options["storage_options"],
            on_progress=show,
        )
    if as_json:
        told = {"image": image.url, "shape": image.levels[0].shape, "axes": image.axes, "dtype": str(image.dtype)}
        click.echo(json.dumps(told, indent=1))
        return
    out.print(f"{destination}: {' × '.join(map(str, image.levels[0].shape))} ({', '.join(image.axes)}), {image.dtype}")


@cli.command("methods")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, settings included.")
def methods_command(as_json: bool) -> None:
    """List the methods."""
    found = cellscale.methods()
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table("method", "paper", "what it is")
    for method in found:
        table.add_row(method["name"], method["paper"], method["summary"])
    out.print(table)


@cli.command("models")
@as_json
def models_command(as_json: bool) -> None:
    """List the models that come with cellscale, for `segment --model` and `train --from`."""
    found = cellscale.models()
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table("model", "what it is", "method", "pixel size, µm", "size")
    for model in found:
        size = " × ".join(f"{length:g}" for length in model["pixel_size_um"] or ()) or "not known"
        table.add_row(model["name"], model["summary"], model["method"], size, _bytes(model["bytes"]))
    out.print(table)


@cli.command("train")
@click.argument("method")
@click.argument("data", nargs=-1, required=True)
@click.option("--output", required=True, help="Folder of the trained model, any fsspec URL.")
@click.option("--from", "start", metavar="MODEL", help="Start from this model: a folder, or a name of `models`.")
@click.option("--labels-name", default="truth", show_default=True, help="Label layer to learn from.")
@click.option("--frames", type=FRAMES, help="Frames to learn from, half-open.")
@click.option("--validate-frames", type=FRAMES, help="Frames held out, on which thresholds are tuned.")
@click.option("--train-frames", type=int, metavar="N", help="Learn from N of these frames, evenly spread.")
@click.option("--config", type=click.Path(dir_okay=False), help="TOML file with [method], [training] and [engine].")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One setting, e.g. width=32.")
@click.option("--workers", type=int, default=1, show_default=True, help="Training workers; 0: in this process.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training.")
@click.option("--steps", type=int, help="Number of training steps.")
@click.option("--address", help="Ray cluster; this machine where it is left out.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@as_json
@trust_model
@storage_options
@click.pass_obj
def train_command(quiet: bool, /, method: str, data: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train METHOD on OME-Zarr images DATA that have label layers."""
    with progress(quiet) as show:
        model = cellscale.train(method, list(data), on_progress=show, **options)
    if as_json:
        click.echo(json.dumps({"model": options["output"], **model.training}, indent=1))
        return
    for name, value in model.training.get("validation", {}).items():
        out.print(f"validation {name}: {value:.4f}" if isinstance(value, float) else f"validation {name}: {value}")
    out.print(f"Model: {options['output']}")


SEGMENTATION = (
    click.option("--model", required=True, help="Folder of a trained model, or a name of `cellscale models`."),
    click.option("--name", default="cells", show_default=True, help="Name of the label layer to write."),
    click.option("--output", help="Store to write to; the image's own where it is left out."),
    click.option("--tile", type=click.IntRange(min=16), default=1024, show_default=True, help="Side of a tile, px."),
    click.option("--address", help="Ray cluster; this machine where it is left out. `local`: in this process, no Ray."),
    click.option("--frames", type=FRAMES, help="Half-open range of frames."),
    click.option("--channels", help="Channels by number or name, separated by commas."),
    click.option(
        "--z", type=click.Choice(["each", "max"]), default="each", show_default=True, help="Slices, or projection."
    ),
    click.option("--level", default="0", show_default=True, help="Level of the pyramid; auto: nearest to the model's."),
    click.option("--overwrite", is_flag=True, help="Replace an existing layer of this name."),
    click.option("--publish-holes", is_flag=True, help="Publish although tiles failed, with holes; exit status 3."),
    click.option("--report", help="Folder for a copy of the run's report, of a failed run, too."),
    click.option("--ngff", type=click.Choice(["0.4", "0.5"]), help="Version of the output store."),
    click.option("--config", type=click.Path(dir_okay=False), help="TOML file with [segmentation] and [engine]."),
    click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One setting, e.g. window=4096."),
    trust_model,
    storage_options,
)
"""Options of `segment`, and of `plan`, which tells what the same words would do."""


def _segmentation(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(SEGMENTATION):
        command = option(command)
    return command


@cli.command("segment")
@click.argument("image")
@_segmentation
@click.option("--json", "as_json", is_flag=True, help="Print the run's report as JSON.")
@click.pass_obj
def segment_command(quiet: bool, /, image: str, as_json: bool, **options: Any) -> None:
    """Segment IMAGE by overlapping tiles and write an NGFF label layer. The same command again resumes a run."""
    with progress(quiet) as show:
        report = cellscale.segment(image, on_progress=show, on_note=show.note, **options)
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        out.print(f"{counted(report['cells'], 'cell')} in {counted(report['planes'], 'frame')} → {report['layer']}")
        if options["channels"] is None and len(report["channels"]) < report["image_channels"]:
            numbers = ", ".join(map(str, report["channels"]))
            note = f"cellscale: segmented by channel {numbers} of {report['image_channels']}; --channels chooses"
            click.echo(note, err=True)
    if report["holes"]:
        click.echo(
            f"cellscale: {counted(len(report['holes']), 'hole')}, listed in {report['layer']}/report/report.html",
            err=True,
        )
        sys.exit(HOLES)


@cli.command("plan")
@click.argument("image")
@_segmentation
@as_json
def plan_command(image: str, as_json: bool, **options: Any) -> None:
    """Tell what `segment` with the same words would do: tasks, bytes, memory, and time from a trial on this machine."""
    found = cellscale.plan(image, **options)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        out.print(_forecast_table(found))


def _forecast_table(found: dict[str, Any]) -> Table:
    sizes, seconds, window = found["bytes"], found["worker_seconds"], found["window_px"]
    table = Table("plan", "")
    rows = {
        "frames": f"{found['planes']} of {found['frame_px'][0]} × {found['frame_px'][1]} px",
        "windows": f"{found['windows']} of {window[0]} × {window[1]} px",
        "halo cost (W/K)²": f"{found['halo_cost']:.2f}; {found['predicted_px_per_px']:.2f} px predicted for each px",
        "tiles": str(found["tiles"]),
        "tasks": ", ".join(f"{name} {count}" for name, count in found["tasks"].items()),
        "read from the source": f"{_bytes(sizes['read'])} before compression",
        "scratch": _bytes(sizes["scratch"]),
        "labels": f"{found['label_dtype']}, {_bytes(sizes['output'])} ({_bytes(sizes['output_uncompressed'])} raw)",
        "peak memory of a worker": _bytes(found["peak_worker_bytes"]),
        "time of one worker": ", ".join(f"{name} {_time(value)}" for name, value in seconds.items()),
        f"time here, {found['workers_here']} workers": f"{_time(found['seconds_here'])}; no join, no publishing",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _time(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


@cli.command("evaluate")
@click.argument("image")
@click.option("--labels", default="cells", show_default=True, help="Layer to score.")
@click.option("--truth", default="truth", show_default=True, help="Layer to score against.")
@click.option("--truth-store", help="Store of the truth; the image's own where it is left out.")
@click.option("--frames", type=FRAMES, help="Half-open range of frames.")
@click.option("--json", "json_file", help="Write the scores to this file; - prints them.")
@storage_options
def evaluate_command(image: str, json_file: str | None, **options: Any) -> None:
    """Score a label layer of IMAGE against the truth."""
    scores = cellscale.evaluate(image, **options)
    if json_file == "-":
        click.echo(json.dumps(scores, indent=1))
        return
    if json_file:
        with click.open_file(json_file, "w", atomic=True) as stream:
            json.dump(scores, stream, indent=1)
    print_scores(scores)


@cli.command("synthesize")
@click.argument("destination")
@click.option("--shape", required=True, help="Frames, height and width: T,Y,X.")
@click.option("--cells", type=click.IntRange(min=0), required=True, help="Number of cells at the first frame.")
@click.option("--look", type=click.Choice(["fluorescence", "brightfield"]), default="fluorescence", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--ngff", type=click.Choice(["0.4", "0.5"]), default="0.5", show_default=True, help="Version to write.")
@click.option("--landmarks", is_flag=True, help="Add combs, corner diagonals and cells larger than a tile.")
@click.option("--overwrite", is_flag=True, help="Replace an existing destination.")
@as_json
@storage_options
@click.pass_obj
def synthesize_command(quiet: bool, /, destination: str, shape: str, as_json: bool, **options: Any) -> None:
    """Write a synthetic time-lapse with exact labels to DESTINATION."""
    try:
        sizes = tuple(int(part) for part in shape.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 3:
        raise click.BadParameter(f"{shape!r} is no T,Y,X such as 10,512,512.", param_hint="--shape")
    with progress(quiet) as show:
        cellscale.synthesize(destination, shape=sizes, on_progress=show, **options)
    if as_json:
        click.echo(json.dumps({"image": destination, "shape": sizes, "axes": ["t", "y", "x"]}))
    else:
        out.print(f"{destination}: {' × '.join(map(str, sizes))} (t, y, x)")


@cli.command("demo")
@click.option("--output", default="demo", show_default=True, help="Folder to write to.")
@as_json
@click.pass_obj
def demo_command(quiet: bool, output: str, as_json: bool) -> None:
    """Make a time-lapse, train a little, segment it on a local Ray, score it and draw a picture."""
    with progress(quiet) as show:
        result = cellscale.demo(output, on_progress=show)
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    print_scores({name: result["scores"][name] for name in ("seg", "det", "precision", "recall", "f1", "dice")})
    out.print(f"Image, truth and labels: {result['image']}\nModel: {result['model']}\nPicture: {result['picture']}")
    out.print("Next:", *(f"  {line}" for line in result["next"]), sep="\n")


for command in (*inspect.COMMANDS, *system.COMMANDS):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line."""
    # Read by the threads of torch's arithmetic at their start: spinning threads starve each other on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # For the workers of a Ray on this machine: each thread that reads chunks would have a heap of its own, which grows.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    with redacted_output():
        sys.exit(_status())


def _status() -> int:
    """Run the command and return its exit status; an error becomes one line."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (cellscale.CellscaleError, OSError) as error:
        click.echo(f"cellscale: error: {one_line(str(error))}", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("cellscale: stopped. Repeat the command to go on where it stopped (train: with --resume).", err=True)
        return 130
    return 0
