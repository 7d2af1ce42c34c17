"""The history of a training: mean loss terms and validation scores by step, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SHOWN = ("f1", "seg")
"""Validation scores in the picture; the CSV has them all."""
Row = tuple[int, str, str, float]
"""Step, stage (or "validation"), name and value."""


@dataclass(kw_only=True)
class History:
    """Entries logged so far."""

    every: int
    """Steps that make one point."""
    rows: list[Row] = field(default_factory=list)
    """The points."""
    pending: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    """Steps since the last point."""
    last: int = 0
    """Number of steps done."""

    def step(self, stage: str, step: int, terms: Mapping[str, float]) -> None:
        """Log the loss terms of a step."""
        self.pending.append((stage, dict(terms)))
        self.last = step
        if step % self.every == 0:
            self.rows += self._point()
            self.pending = []

    def _point(self) -> list[Row]:
        """Mean loss terms of the steps since the last point."""
        made: list[Row] = []
        for of in dict.fromkeys(name for name, _ in self.pending):
            logged = [values for name, values in self.pending if name == of]
            for term in dict.fromkeys(name for values in logged for name in values):
                found = [values[term] for values in logged if term in values]
                made.append((self.last, of, term, sum(found) / len(found)))
        return made

    @property
    def points(self) -> list[Row]:
        """All points, and one of the steps that are too few for a whole one, such as the last of a training."""
        return [*self.rows, *self._point()]

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Log validation scores."""
        self.rows += [(step, "validation", name, float(value)) for name, value in scores.items()]

    def csv(self) -> str:
        """All points, one in a line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", "stage", "name", "value"])
        writer.writerows((step, stage, name, f"{value:.6g}") for step, stage, name, value in self.points)
        return text.getvalue()

    def png(self) -> bytes:
        """Loss curves, and validation scores below them."""
        figure = Figure(figsize=(7, 6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, 1, sharex=True)
        for panel, title, validation in zip(panels, ("training loss", "validation score"), (False, True), strict=True):
            rows = [row for row in self.points if (row[1] == "validation") == validation]
            for stage, name in dict.fromkeys(row[1:3] for row in rows if not validation or row[2] in SHOWN):
                points = [(row[0], row[3]) for row in rows if row[1:3] == (stage, name)]
                panel.plot(*zip(*points, strict=True), label=name if validation else f"{stage}: {name}", marker=".")
            panel.set_ylabel(title)
            panel.grid(alpha=0.3)
            if panel.lines:
                panel.legend()
        panels[1].set_xlabel("step")
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120)
        return content.getvalue()
