"""Commands that apply a model: segment, plan, predict-maps, upsample-labels."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import click
from rich.table import Table

import cellscale
from cellscale.cli.terminal import (
    FRAMES,
    as_json,
    backend,
    byte_count,
    counted,
    duration,
    early_ray,
    one_line,
    out,
    progress,
    ray_options,
    settings_option,
    several_images,
    storage_options,
    trust_model,
    wells,
    with_options,
)
from cellscale.errors import check_known
from cellscale.storage.json_text import json_text
from cellscale.storage.traffic import Kind

PUBLISHED_WITH_FAILED_TILES = 3
"""Exit status of a segmentation that was published although tiles, or images of a plate, failed."""

PREDICTION = (
    click.option("--model", required=True, help="Folder of a trained model, or a name of `cellscale models`."),
    click.option("--frames", type=FRAMES, help="Half-open range of frames. [default: all]"),
    click.option("--channels", help="Channels by name, else by number, separated by commas. [default: the first ones]"),
    click.option(
        "--z-mode",
        type=click.Choice(["slices", "max_projection", "linked"]),
        help="Segment each slice, or the maximum over all; linked: join slices to 3-D objects. [default: slices]",
    ),
    click.option(
        "--level",
        default="0",
        show_default=True,
        help="Pyramid level; auto: the level with the pixel size nearest to the model's.",
    ),
    click.option("--config", type=click.Path(dir_okay=False), help="TOML file with [segmentation] and [engine]."),
    settings_option,
    trust_model,
    storage_options,
)
"""Options of `segment`, `plan` and `predict-maps`."""
LAYER = (
    click.option("--layer", default="cells", show_default=True, help="Name of the label layer to write."),
    click.option(
        "--output", help="Store to write to; for a TIFF or the like, the image to make. [default: the image's own]"
    ),
    click.option(
        "--tile-size",
        type=click.IntRange(min=16),
        help="Side of a tile, px; labels do not depend on it. [default: 1024]",
    ),
    click.option("--ome-zarr-version", type=click.Choice(["0.4", "0.5"]), help="Version of another output store."),
)
"""Options of `segment` and `plan`."""


@click.command("segment")
@click.argument("image")
@with_options(*LAYER, *PREDICTION, *ray_options, wells)
@click.option("--unique-ids", is_flag=True, help="Number cells through all frames: no number occurs in two of them.")
@click.option("--overwrite", is_flag=True, help="Replace an existing layer of this name.")
@click.option("--allow-failed-tiles", is_flag=True, help="Publish the layer even if tiles failed; exit status 3.")
@click.option("--report", help="Folder for a copy of the run's report, also written for a failed run.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's report as JSON.")
@click.pass_obj
def segment_command(quiet: bool, /, image: str, as_json: bool, serial: bool, wells: str | None, **options: Any) -> None:
    """Segment IMAGE by overlapping tiles and write an NGFF label layer. Repeat the command to resume a run.

    A plate, or another collection of images, is one job: each image gets its layer. A file or folder that `import`
    reads is imported into the store OUTPUT first; several images become a collection.
    """
    with early_ray(options["address"], serial=serial):
        from cellscale import sources
        from cellscale.api.files import several_images_in

        foreign = sources.is_source(image) and not wells
        several = several_images_in(image) if foreign else several_images(image, wells, options)
        with progress(quiet) as show:
            common: dict[str, Any] = {"backend": backend(serial), "on_progress": show, "on_status": show.note}
            work: Callable[..., Any] = cellscale.segment
            if several:
                work = partial(cellscale.segment_plate, wells=wells)
            result = work(image, **common, **options)
    if as_json:
        click.echo(json_text(result.to_dict(), indent=1))
    if isinstance(result, cellscale.PlateResult):
        _finish_plate(result, silent=as_json)
    else:
        _finish_image(result, chosen=options["channels"] is not None, silent=as_json)


def _finish_image(result: cellscale.SegmentationResult, *, chosen: bool, silent: bool) -> None:
    """Print the result of an image; end with status 3 for failed regions."""
    if not silent:
        out.print(f"{counted(result.cells, 'cell')} in {counted(result.planes, 'frame')} → {result.layer}")
        if not chosen and len(result.channels) < result.image_channels:
            numbers = ", ".join(map(str, result.channels))
            note = f"cellscale: segmented by channel {numbers} of {result.image_channels}; choose with --channels"
            click.echo(note, err=True)
    if result.report.failed_regions:
        failed = counted(len(result.report.failed_regions), "failed region")
        click.echo(f"cellscale: {failed}, listed in report.html in {result.layer}", err=True)
        sys.exit(PUBLISHED_WITH_FAILED_TILES)


def _finish_plate(result: cellscale.PlateResult, *, silent: bool) -> None:
    """Print the results of a plate; end with status 3 for failed images or regions."""
    if not silent:
        reused = f", {len(result.reused)} of them finished before" if result.reused else ""
        out.print(f"{counted(result.cells, 'cell')} in {counted(len(result.images), 'image')}{reused}")
    for name, image in result.images.items():
        if image.report.failed_regions:
            failed = counted(len(image.report.failed_regions), "failed region")
            click.echo(f"cellscale: {name}: {failed}, listed in report.html in {image.layer}", err=True)
    for name, reason in result.failed.items():
        click.echo(f"cellscale: {name} failed: {one_line(reason)}", err=True)
    if result.failed or result.failed_regions:
        sys.exit(PUBLISHED_WITH_FAILED_TILES)


def _prices(context: click.Context, parameter: click.Parameter, given: str | None) -> dict[str, float]:
    """Prices by kind of request from the text of the option."""
    prices = {}
    for entry in (given or "").split(",") if given else ():
        kind, _, text = entry.partition("=")
        try:
            price = float(text)
        except ValueError:
            price = math.nan
        if not 0 <= price < math.inf:
            raise click.BadParameter(f"{entry!r} is not a valid price; expected KIND=NUMBER, e.g. put=5.")
        prices[kind.strip().upper()] = price
    check_known("kind of requests", prices, get_args(Kind))
    return prices


@click.command("plan")
@click.argument("image")
@with_options(*LAYER, *PREDICTION)
@click.option(
    "--price",
    callback=_prices,
    metavar="KIND=PRICE,…",
    help="Prices of a million requests, e.g. put=5,get=0.4,list=5: print what the run's requests cost.",
)
@as_json
def plan_command(image: str, as_json: bool, price: dict[str, float], **options: Any) -> None:
    """Estimate tasks, requests, bytes, memory and run time of `segment` with the same image, model and settings."""
    found = cellscale.plan(image, **options)
    cost = found.price(price) if price else None
    if as_json:
        click.echo(json_text(found.to_dict() | ({} if cost is None else {"price": cost}), indent=1))
    else:
        out.print(_forecast_table(found, cost))


def _forecast_table(found: cellscale.Forecast, cost: float | None) -> Table:
    sizes, seconds, window = found.bytes, found.worker_seconds, found.window_px
    labels = f"{byte_count(sizes['output'])} ({byte_count(sizes['output_uncompressed'])} uncompressed)"
    total = found.io["total"]
    table = Table("plan", "")
    rows = {
        "frames": f"{found.planes} of {found.frame_px[0]} × {found.frame_px[1]} px",
        "windows": f"{found.windows} of {window[0]} × {window[1]} px",
        "halo cost (W/K)²": f"{found.halo_cost:.2f}; {found.predicted_px_per_px:.2f} px predicted for each px",
        "tiles": str(found.tiles),
        "tasks": ", ".join(f"{name} {count}" for name, count in found.tasks.items()),
        "read from the source": f"{byte_count(sizes['read'])} before compression",
        "requests": ", ".join(f"{kind} {total[kind]:,}" for kind in total if kind.isupper()),
        "read and written": ", ".join(byte_count(int(total[name])) for name in ("read_bytes", "written_bytes")),
        "price of the requests": "" if cost is None else f"{cost:.2f}",
        "scratch": byte_count(sizes["scratch"]),
        "labels": f"{found.label_dtype}, {labels}",
        "peak memory of a worker": byte_count(found.peak_worker_bytes),
        "time of one worker": ", ".join(f"{name} {duration(value)}" for name, value in seconds.items()),
        f"time here, {found.workers_here} workers": f"{duration(found.seconds_here)}; no join, no publishing",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


@click.command("predict-maps")
@click.argument("image")
@click.option("--output", required=True, help="OME-Zarr image to write.")
@with_options(*PREDICTION)
@click.option("--overwrite", is_flag=True, help="Replace an existing store.")
@click.option("--json", "as_json", is_flag=True, help="Print the URL of the maps as JSON.")
@click.pass_obj
def predict_maps_command(quiet: bool, /, image: str, as_json: bool, **options: Any) -> None:
    """Write the probability maps of IMAGE as an OME-Zarr image with one channel for each map."""
    with progress(quiet) as show:
        url = cellscale.predict_maps(image, on_progress=show, **options)
    click.echo(json_text({"maps": url}) if as_json else url)


@click.command("upsample-labels")
@click.argument("image")
@click.option("--layer", default="cells", show_default=True, help="Layer that was segmented at a coarser level.")
@click.option("--new-layer", help="Name of the layer to write. [default: LAYER-full]")
@click.option("--overwrite", is_flag=True, help="Replace an existing layer of this name.")
@click.option("--json", "as_json", is_flag=True, help="Print the new layer's URL as JSON.")
@storage_options
@click.pass_obj
def upsample_labels_command(quiet: bool, /, image: str, as_json: bool, **options: Any) -> None:
    """Write a label layer at the full resolution of IMAGE from one of a coarser level."""
    with progress(quiet) as show:
        url = cellscale.upsample_labels(image, on_progress=show, **options)
    click.echo(json_text({"layer": url}) if as_json else url)


COMMANDS = (segment_command, plan_command, predict_maps_command, upsample_labels_command)
