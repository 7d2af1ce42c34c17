"""Commands around a run: doctor, predict, table, upsample, completion."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click
from click.shell_completion import get_completion_class
from rich.table import Table
from rich.text import Text

import cellscale
from cellscale.cli.terminal import FRAMES, counted, out, progress, storage_options, trust_model

FAILED = 2
"""Exit status where a check failed."""
COLOURS = {"ok": "green", "note": "yellow", "failed": "red"}


@click.command("doctor")
@click.argument("store", required=False)
@click.option("--address", "ray_address", help="Ray cluster to look at; one is started here where it is left out.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@storage_options
def doctor_command(as_json: bool, **options: Any) -> None:
    """Check versions, GPU, Ray, viewers and, with STORE, that an image can be read and its store written."""
    found = cellscale.doctor(options.pop("store"), **options)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in found], indent=1))
    else:
        table = Table("check", "status", "what was found")
        for finding in found:
            table.add_row(finding.check, Text(finding.status, COLOURS[finding.status]), finding.text)
        out.print(table)
    if any(finding.status == "failed" for finding in found):
        sys.exit(FAILED)


@click.command("table")
@click.argument("image")
@click.option("--labels", default="cells", show_default=True, help="Layer whose objects are written.")
@click.option("--output", default="objects.csv", show_default=True, help="The CSV file, any fsspec URL.")
@click.option("--json", "as_json", is_flag=True, help="Print the number of rows as JSON.")
@storage_options
def table_command(image: str, output: str, as_json: bool, **options: Any) -> None:
    """Write the object table of a label layer of IMAGE as CSV."""
    rows = cellscale.export_table(image, output, **options)
    click.echo(json.dumps({"rows": rows, "output": output}) if as_json else f"{counted(rows, 'object')} → {output}")


@click.command("upsample")
@click.argument("image")
@click.option("--labels", default="cells", show_default=True, help="Layer that was segmented at a coarser level.")
@click.option("--name", help="Name of the new layer; the old one with -full where it is left out.")
@click.option("--json", "as_json", is_flag=True, help="Print the new layer's URL as JSON.")
@storage_options
@click.pass_obj
def upsample_command(quiet: bool, /, image: str, as_json: bool, **options: Any) -> None:
    """Write a label layer of the size of IMAGE from one of a coarser level."""
    with progress(quiet) as show:
        url = cellscale.upsample(image, on_progress=show, **options)
    click.echo(json.dumps({"layer": url}) if as_json else url)


@click.command("predict")
@click.argument("image")
@click.option("--model", required=True, help="Folder of a trained model, or a name of `cellscale models`.")
@click.option("--output", required=True, help="Store of the maps to write.")
@click.option("--frames", type=FRAMES, help="Half-open range of frames.")
@click.option("--level", default="0", show_default=True, help="Level of the pyramid; auto: nearest to the model's.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One setting, e.g. window=4096.")
@click.option("--overwrite", is_flag=True, help="Replace an existing store.")
@click.option("--json", "as_json", is_flag=True, help="Print the URL of the maps as JSON.")
@trust_model
@storage_options
@click.pass_obj
def predict_command(quiet: bool, /, image: str, as_json: bool, **options: Any) -> None:
    """Write the probability maps of IMAGE as an OME-Zarr image, a channel for each map."""
    with progress(quiet) as show:
        url = cellscale.predict(image, on_progress=show, **options)
    click.echo(json.dumps({"maps": url}) if as_json else url)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options, e.g. `eval "$(cellscale completion bash)"`."""
    made = get_completion_class(shell)
    if made is not None:
        click.echo(made(context.find_root().command, {}, "cellscale", "_CELLSCALE_COMPLETE").source())


COMMANDS = (doctor_command, predict_command, table_command, upsample_command, completion_command)
