"""Commands about this machine and this program: doctor, demo, completion."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click
from click.shell_completion import get_completion_class
from rich.table import Table
from rich.text import Text

import cellscale
from cellscale.cli.terminal import as_json, out, print_scores, progress, storage_options
from cellscale.storage.json_text import json_text

FAILED = 2
"""Exit status where a check failed."""
COLOURS = {"ok": "green", "note": "yellow", "failed": "red"}


@click.command("doctor")
@click.argument("store", required=False)
@click.option("--address", "ray_address", help="Address of a Ray cluster. [default: start Ray locally]")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@storage_options
def doctor_command(as_json: bool, **options: Any) -> None:
    """Check versions, GPU, Ray, viewers and, with STORE, that an image can be read and its store written."""
    found = cellscale.doctor(options.pop("store"), **options)
    if as_json:
        click.echo(json_text([dataclasses.asdict(finding) for finding in found], indent=1))
    else:
        table = Table("check", "status", "finding")
        for finding in found:
            table.add_row(finding.check, Text(finding.status, COLOURS[finding.status]), finding.text)
        out.print(table)
    if any(finding.status == "failed" for finding in found):
        sys.exit(FAILED)


@click.command("demo")
@click.option("--output", default="demo", show_default=True, help="Folder to write to.")
@as_json
@click.pass_obj
def demo_command(quiet: bool, output: str, as_json: bool) -> None:
    """Make a time-lapse, train briefly, segment it on a local Ray, score it and draw a picture."""
    with progress(quiet) as show:
        result = cellscale.demo(output, on_progress=show)
    if as_json:
        click.echo(json_text(result, indent=1))
        return
    print_scores({name: result["scores"][name] for name in ("seg", "det", "precision", "recall", "f1", "dice")})
    out.print(f"Image, truth and labels: {result['image']}\nModel: {result['model']}\nPicture: {result['picture']}")
    out.print("Next:", *(f"  {line}" for line in result["next"]), sep="\n")


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print a completion script for SHELL, e.g. `eval "$(cellscale completion bash)"`."""
    made = get_completion_class(shell)
    if made is not None:
        click.echo(made(context.find_root().command, {}, "cellscale", "_CELLSCALE_COMPLETE").source())


COMMANDS = (doctor_command, demo_command, completion_command)
