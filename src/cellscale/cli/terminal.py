"""What the commands share: words of options, progress on a terminal, storage options, results."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

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


def _options(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any] | None:
    """Join the JSON objects of a repeated option."""
    found: dict[str, Any] = {}
    for text in texts:
        try:
            found |= json.loads(text)
        except (ValueError, TypeError) as error:
            raise click.BadParameter(f"{text!r} is no JSON object: {error}.") from error
    return found or None


storage_options = click.option(
    "--storage-options",
    multiple=True,
    metavar="JSON",
    callback=_options,
    help='Options for fsspec, e.g. {"anon": true}; for stores of several kinds {"s3": {…}, "https": {…}}.',
)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def counted(number: int, what: str) -> str:
    """A number of things: 1 cell, 2 cells."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def print_scores(scores: dict[str, Any]) -> None:
    """Print numbers by name."""
    table = Table("score", "value")
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    out.print(table)
