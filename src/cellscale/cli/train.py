"""Commands around training: methods, models, train, calibrate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

import cellscale
from cellscale.cli.terminal import (
    FRAMES,
    as_json,
    backend,
    byte_count,
    out,
    progress,
    ray_options,
    settings_option,
    storage_options,
    trust_model,
    with_options,
)
from cellscale.settings.fields import flat
from cellscale.storage.json_text import json_text


@click.command("methods")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, settings included.")
def methods_command(as_json: bool) -> None:
    """List the methods."""
    found = cellscale.list_methods()
    if as_json:
        click.echo(json_text(found, indent=1))
        return
    table = Table("method", "paper", "description")
    for method in found:
        table.add_row(method["name"], method["paper"], method["summary"])
    out.print(table)


@click.command("models")
@as_json
def models_command(as_json: bool) -> None:
    """List the models included with cellscale, for `segment --model` and `train --init-from`."""
    found = cellscale.list_models()
    if as_json:
        click.echo(json_text(found, indent=1))
        return
    table = Table("model", "description", "method", "pixel size, µm", "size")
    for model in found:
        size = " × ".join(f"{length:g}" for length in model["pixel_size_um"] or ()) or "unknown"
        table.add_row(model["name"], model["summary"], model["method"], size, byte_count(model["bytes"]))
    out.print(table)


@click.command("train")
@click.argument("method")
@click.argument("data", nargs=-1, required=True)
@click.option("--output", required=True, help="Folder of the trained model, any fsspec URL.")
@click.option("--init-from", metavar="MODEL", help="Start from this model: a folder, or a name of `cellscale models`.")
@click.option("--layer", default="truth", show_default=True, help="Label layer with the ground truth.")
@click.option("--frames", type=FRAMES, help="Half-open range of frames to train on. [default: all that have labels]")
@click.option("--validation-frames", type=FRAMES, help="Held-out frames: scored, and used to calibrate thresholds.")
@click.option("--validation", multiple=True, metavar="IMAGE", help="Held-out image; may be repeated.")
@click.option("--max-train-frames", type=int, metavar="N", help="Train on N of these frames, evenly spaced.")
@click.option("--config", type=click.Path(dir_okay=False), help="TOML file with [method], [training] and [engine].")
@settings_option
@click.option(
    "--preset",
    help="Named set of settings: default, paper (as printed), or, for most methods, fast. [default: default, or the "
    "model's]",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Number of training workers.")
@with_options(*ray_options)
@click.option("--resume", is_flag=True, help="Continue an interrupted training.")
@click.option("--steps", type=int, help="Number of training steps.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@as_json
@trust_model
@storage_options
@click.pass_obj
def train_command(
    quiet: bool, /, method: str, data: tuple[str, ...], as_json: bool, serial: bool, **options: Any
) -> None:
    """Train METHOD on OME-Zarr images DATA that have label layers."""
    with progress(quiet) as show:
        model = cellscale.train(method, list(data), backend=backend(serial), on_progress=show, **options)
    if as_json:
        click.echo(json_text({"model": options["output"], **model.training}, indent=1))
        return
    _show(model.training.get("validation", {}))
    out.print(f"Model: {options['output']}")


@click.command("calibrate")
@click.argument("model")
@click.argument("data", nargs=-1)
@click.option("--output", required=True, help="Folder of the new model, any fsspec URL.")
@click.option("--layer", default="truth", show_default=True, help="Label layer with the ground truth.")
@click.option("--frames", type=FRAMES, help="Half-open range of frames. [default: all that have labels]")
@settings_option
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@as_json
@trust_model
@storage_options
def calibrate_command(model: str, data: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Write MODEL with other thresholds: fitted on OME-Zarr images DATA that have label layers, or given by --set."""
    given = cellscale.load_model(model, options["storage_options"], trust=options["trust"])
    made = cellscale.calibrate(given, list(data), **options)
    before, after = flat(given.method), flat(made.method)
    flips = given.test_time_flips, made.test_time_flips
    scores = made.training["validation"]
    if as_json:
        click.echo(
            json_text(
                {"model": options["output"], "settings": after, "test_time_flips": flips[1], "validation": scores},
                indent=1,
            )
        )
        return
    for name, value in after.items():
        if value != before[name]:
            out.print(f"{name}: {before[name]} → {value}")
    if flips[0] != flips[1]:
        out.print(f"test_time_flips: {flips[0]} → {flips[1]}")
    _show(scores)
    out.print(f"Model: {options['output']}")


def _show(scores: Mapping[str, float]) -> None:
    for name, value in scores.items():
        out.print(f"validation {name}: {value:.4f}" if isinstance(value, float) else f"validation {name}: {value}")


COMMANDS = (methods_command, models_command, train_command, calibrate_command)
