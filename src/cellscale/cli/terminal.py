"""Options, progress bars and tables that the commands share."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import cellscale
from cellscale.engine.addresses import is_local
from cellscale.redaction import redacted
from cellscale.settings.files import assignments

out = Console(soft_wrap=True, markup=False, emoji=False)
"""Console for results; brackets in names are not markup."""
log = logging.getLogger("cellscale")
Command = TypeVar("Command", bound=Callable[..., None])


class FrameRange(click.ParamType[tuple[int, int | None]]):
    """A half-open range of frames, START:STOP; both ends are optional."""

    name = "START:STOP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read `START:STOP`, or a single frame."""
        if not isinstance(value, str):
            return value
        start, colon, stop = value.partition(":")
        try:
            first = int(start or 0)
            return first, (int(stop) if stop else (None if colon else first + 1))
        except ValueError:
            self.fail(
                f"{value!r} is not a valid frame range; expected START:STOP, e.g. 0:64 (STOP excluded).", param, ctx
            )


FRAMES = FrameRange()
LINES = 10
"""Progress lines for each step if the output is not a terminal."""


@dataclass
class Shown:
    """Progress of the steps of a run: bars on a terminal, about ten lines for each step elsewhere."""

    bars: Progress | None = None
    quiet: bool = False
    known: dict[str, Any] = field(default_factory=dict)
    """Bar of each step, or the time at which it started, s."""
    notes: dict[str, str] = field(default_factory=dict)

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show the progress of a step."""
        if self.bars is not None:
            if step not in self.known:
                self.known[step] = self.bars.add_task(step, total=total, note="")
            self.bars.update(self.known[step], completed=done, total=total, note=self.notes.get(step, ""))
        elif not self.quiet:
            self._line(step, done, total)

    def note(self, step: str, text: str) -> None:
        """Keep a status message of a step for the next bar or line."""
        self.notes[step] = text

    def _line(self, step: str, done: int, total: int) -> None:
        began = self.known.setdefault(step, time.monotonic())
        if done and done * LINES // total > (done - 1) * LINES // total:
            left = (time.monotonic() - began) / done * (total - done)
            notes = [self.notes[step]] if step in self.notes else []
            notes += [f"{left:.0f} s left"] if done < total else []
            log.info("%s: %d of %d done%s", step, done, total, f" ({', '.join(notes)})" if notes else "")


@contextmanager
def progress(quiet: bool) -> Iterator[Shown]:
    """Show the steps of a run."""
    if quiet or not sys.stderr.isatty():
        yield Shown(quiet=quiet)
        return
    left = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*left, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bars:
        yield Shown(bars=bars)


OPTIONS_FORM = 'expected an object such as {"anon": true}, in single quotes for the shell.'
"""Syntax of storage options in help texts."""


def _options(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any] | None:
    """Join the JSON objects of a repeated option; an error never repeats them, for they hold credentials."""
    found: dict[str, Any] = {}
    for number, text in enumerate(texts, 1):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "too large"
            raise click.BadParameter(f"value {number} is not valid JSON: {reason}; {OPTIONS_FORM}") from None
        if not isinstance(value, dict):
            raise click.BadParameter(f"value {number} is not a JSON object but {type(value).__name__}; {OPTIONS_FORM}")
        found |= value
    return found or None


storage_options = click.option(
    "--storage-options",
    multiple=True,
    metavar="JSON",
    callback=_options,
    help='Options for fsspec, e.g. {"anon": true}; nested by protocol for several: {"s3": {…}, "https": {…}}.',
)


trust_model = click.option(
    "--trust-model",
    "trust",
    multiple=True,
    metavar="MODULE",
    help="Load a model whose method is in this module outside of cellscale: its code runs. May be repeated.",
)


def _settings(context: click.Context, parameter: click.Parameter, words: tuple[str, ...]) -> dict[str, Any] | None:
    return assignments(words) or None


settings_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", callback=_settings, help="One setting; may be repeated."
)

wells = click.option("--wells", metavar="PATTERNS", help="Wells of a plate, e.g. A/1,B/*. [default: all]")


def several_images(image: str, wells: str | None, options: Mapping[str, Any]) -> bool:
    """Return whether a URL is a plate or collection of several images, or wells are chosen of it."""
    return wells is not None or len(cellscale.plate_images(image, storage_options=options["storage_options"])) > 1


def check_for_one_image(*names: str) -> None:
    """Refuse options of the running command that were given for several images and would be ignored."""
    check_not_given(*names, why="is for one image; omit it for a plate or collection")


def check_not_given(*names: str, why: str) -> None:
    """Refuse options of the running command that were given and would be ignored."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[0]} {why}.")


ray_options = (
    click.option("--address", help="Address of a Ray cluster. [default: RAY_ADDRESS, or a Ray started locally]"),
    click.option("--serial", is_flag=True, help="Run in this process, without Ray."),
)


@contextmanager
def early_ray(address: str | None, *, serial: bool) -> Iterator[None]:
    """Connect to a Ray cluster that runs already, before the modules of a command are loaded.

    Its workers load theirs meanwhile. A Ray that has to be started waits until the command has checked its arguments.
    """
    if serial or is_local(address):
        yield
        return
    from cellscale.engine.ray_map import cluster, warm_up

    with cluster(address):
        warm_up(EARLY_WORKERS)
        yield


EARLY_WORKERS = 2
"""Workers that load their modules before the number of tasks is known."""


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command options in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def backend(serial: bool) -> Literal["ray", "serial"]:
    """Return the backend that `--serial` asks for."""
    return "serial" if serial else "ray"


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Redacting:
    """A stream that hides passwords and tokens in everything written to it."""

    def __init__(self, stream: TextIO) -> None:
        """Write to this stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets."""
        return self._stream.write(redacted(text))

    def __getattr__(self, name: str) -> Any:
        """Return other attributes of the stream."""
        return getattr(self._stream, name)


@contextmanager
def redacted_output() -> Iterator[None]:
    """Hide secrets in results, messages, logs and tracebacks inside the context."""
    with redirect_stdout(Redacting(sys.stdout)), redirect_stderr(Redacting(sys.stderr)):
        yield


LONGEST_LINE = 4000
"""Greatest number of printed characters of an error, since documents may contain names of any length."""


def one_line(text: str) -> str:
    """Return a message as one line of printable characters; control characters are escaped."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"


def counted(number: int, what: str) -> str:
    """A number of things: 1 cell, 2 cells."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def print_scores(scores: dict[str, Any]) -> None:
    """Print numbers by name."""
    table = Table("score", "value")
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    out.print(table)


def byte_count(count: float) -> str:
    """Format a number of bytes with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """Format a time in s, min or h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
