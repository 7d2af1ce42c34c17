"""The report of a tracking run: counts, tasks and times as JSON and as an HTML page, with a picture of the lineages."""

from __future__ import annotations

import dataclasses
import html
from dataclasses import dataclass
from typing import Any

from cellscale.errors import DamagedError
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.metadata import entries_of, write_group
from cellscale.ngff.stores import Store
from cellscale.segmentation.report import JSON, PAGE, Report, html_page, pairs, section, steps_table
from cellscale.storage.folder import Folder
from cellscale.tracking.plan import TrackRun
from cellscale.types import Table
from cellscale.viewers.lineage import MOST_FAMILIES, lineage_picture

PICTURE = "lineage.png"
MOST_TRACKS = 100_000
"""Most tracks of which the report has a picture: its families are chosen within a second."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of a tracking run."""

    objects: int
    """Objects in all frames."""
    tracks: int
    divisions: int
    gaps: int
    """Links over frames in which a cell is missing."""


def write_report(layer: LabelLayer, run: TrackRun, counts: Counts, report: Report, tracks: Table) -> None:
    """Write counts, report and picture into the layer's folder.

    Parameters
    ----------
    layer : LabelLayer
        The complete layer, which is not published yet.
    run : TrackRun
        The run.
    counts : Counts
        Its counts.
    report : Report
        Its tasks and times.
    tracks : Table
        track, begin, end and parent, see `lineage_picture`.
    """
    store = Store(url=layer.place("report"), storage_options=layer.storage_options)
    write_group(store, layer.version, {})
    told = {"layer": layer.url, "digest": run.digest, **run.description}
    told |= {"counts": dataclasses.asdict(counts), "report": report.to_dict()}
    drawn = counts.tracks <= MOST_TRACKS
    if drawn:
        store.folder.write(PICTURE, lineage_picture(tracks, families=MOST_FAMILIES))
    store.folder.write(PAGE, _page(told, drawn=drawn).encode())
    store.folder.write_json(JSON, told)


def _page(told: dict[str, Any], *, drawn: bool) -> str:
    """The report as an HTML page; its picture is a file next to it."""
    picture = f"<img src={PICTURE} style='max-width:100%' alt='tracks over frames, with divisions'>"
    parts = [
        f"<h1>{html.escape(told['layer'].rpartition('/')[2])}: published</h1>",
        pairs({"layer": told["layer"], "digest": told["digest"], **told["counts"]}),
        "<h2>Lineages</h2>",
        picture if drawn else f"<p>More than {MOST_TRACKS} tracks; draw some with <code>cellscale draw-lineage</code>.",
        "<h2>Steps</h2>",
        steps_table(told["report"]),
        *(part for name in ("rules", "source", "versions") for part in section(name, told[name])),
    ]
    return html_page(told["layer"], parts)


def stored_report(layer: LabelLayer) -> tuple[Counts, Report]:
    """Read back what `write_report` has written; DamagedError if something else is there."""
    folder = Folder(url=layer.place("report"), storage_options=layer.storage_options)
    told, place = entries_of(folder.read_json(JSON)), f"{folder.url}/{JSON}"
    counts = entries_of(told.get("counts"))
    names = [field.name for field in dataclasses.fields(Counts)]
    if any(type(counts.get(name)) is not int for name in names):
        raise DamagedError(f"{place} is damaged: it has no counts of a tracking run. The layer itself is complete.")
    return Counts(**{name: counts[name] for name in names}), Report.from_dict(told.get("report"), place)
