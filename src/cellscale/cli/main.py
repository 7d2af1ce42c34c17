"""The command line: the functions of `cellscale.api` with common flags.

Errors that cellscale raises on purpose are printed as one line; the exit status is 2, for a run that is stopped by
Ctrl-C 130, by a scheduler's signal to end 143, and 3 for a layer that was published with failed tiles.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any, NoReturn

import click

import cellscale
from cellscale.cli import data, inspect, segment, system, tracking, train
from cellscale.cli.terminal import log, one_line, redacted_output

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a command that is stopped by Ctrl-C."""
STOPPED = (
    "cellscale: stopped. Repeat the command: segment, track, prepare and export-ctc resume, train with --resume; "
    "others start over."
)


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


for command in (
    *data.COMMANDS,
    *train.COMMANDS,
    *segment.COMMANDS,
    *tracking.COMMANDS,
    *inspect.COMMANDS,
    *system.COMMANDS,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line."""
    received: list[int] = []

    def stop(number: int, frame: Any) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    # Schedulers of clusters send SIGTERM some time before they kill a process: it stops as at Ctrl-C.
    signal.signal(signal.SIGTERM, stop)
    # For the workers of a Ray on this machine: each thread that reads chunks would have a heap of its own, which grows.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    with redacted_output():
        status = _status()
    # The handler notes the signal, since Ray raises an exception of its own in place of a handler's.
    sys.exit(128 + received[0] if received and status == INTERRUPTED else status)


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
        click.echo(STOPPED, err=True)
        return INTERRUPTED
    return 0
