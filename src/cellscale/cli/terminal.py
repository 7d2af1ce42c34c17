"""What the commands share: words of options, progress on a terminal, storage options, results."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cellscale.redaction import redacted

out = Console(soft_wrap=True, markup=False, emoji=False)
"""Where results go; brackets in names of files, layers and extras are no markup."""
log = logging.getLogger("cellscale")


class FrameRange(click.ParamType[tuple[int, int | None]]):
    """A half-open range of frames, A:B; an end that is left out is the sequence's."""

    name = "A:B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read `A:B`, or a single frame `A`."""
        if not isinstance(value, str):
            return value
        start, colon, stop = value.partition(":")
        try:
            first = int(start or 0)
            return first, (int(stop) if stop else (None if colon else first + 1))
        except ValueError:
            self.fail(f"{value!r} is no frame range such as 0:64 (half-open).", param, ctx)


FRAMES = FrameRange()
LINES = 10
"""Lines that tell how far a step is, off a terminal."""


OPTIONS_FORM = 'expected an object such as {"anon": true}, in single quotes for the shell.'
"""How storage options are written."""


@dataclass
class Shown:
    """The steps of a run as bars on a terminal, or as about ten lines for each step elsewhere."""

    bars: Progress | None = None
    quiet: bool = False
    known: dict[str, Any] = field(default_factory=dict)
    """Bar of each step, or when its first task was waited for, s."""
    notes: dict[str, str] = field(default_factory=dict)

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        if self.bars is not None:
            if step not in self.known:
                self.known[step] = self.bars.add_task(step, total=total, note="")
            self.bars.update(self.known[step], completed=done, total=total, note=self.notes.get(step, ""))
        elif not self.quiet:
            self._line(step, done, total)

    def note(self, step: str, text: str) -> None:
        """Keep what the next bar or line says of a step's pace."""
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


class Redacting:
    """A stream that hides passwords and tokens in all that is written to it."""

    def __init__(self, stream: TextIO) -> None:
        """Write to this stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets."""
        return self._stream.write(redacted(text))

    def __getattr__(self, name: str) -> Any:
        """Return what else the stream has."""
        return getattr(self._stream, name)


@contextmanager
def redacted_output() -> Iterator[None]:
    """Hide secrets in results, messages, logs and tracebacks while the context lasts."""
    with redirect_stdout(Redacting(sys.stdout)), redirect_stderr(Redacting(sys.stderr)):
        yield


def _options(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any] | None:
    """Join the JSON objects of a repeated option; an error never repeats them, for they hold credentials."""
    found: dict[str, Any] = {}
    for number, text in enumerate(texts, 1):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = (
                f"{error.msg} at character {error.pos}"
                if isinstance(error, json.JSONDecodeError)
                else "it is too deep or too long"
            )
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
    help='Options for fsspec, e.g. {"anon": true}; for stores of several kinds {"s3": {…}, "https": {…}}.',
)


trust_model = click.option(
    "--trust-model",
    "trust",
    multiple=True,
    metavar="MODULE",
    help="Load a model whose method is in this module outside of cellscale; its code runs. May be repeated.",
)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


LONGEST_LINE = 4000
"""Characters of an error that are printed: documents by strangers have names of any length."""


def one_line(text: str) -> str:
    """Return a message as one line of printable characters; others, which steer a terminal, are escaped."""
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
