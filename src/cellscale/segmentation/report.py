"""The report of a run: options, tasks, failures and times, as JSON and as one HTML page.

It is stored in the layer's folder, in a Zarr group, so that a listing of the layer finds only Zarr nodes.
"""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from cellscale.errors import DamagedError
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.metadata import write_group
from cellscale.ngff.stores import Store
from cellscale.redaction import redacted_values
from cellscale.segmentation.failures import FailedTile, Region
from cellscale.segmentation.plan import Run
from cellscale.storage.folder import Folder
from cellscale.storage.json_text import json_text
from cellscale.storage.together import together
from cellscale.storage.traffic import Traffic
from cellscale.types import Whole

JSON, PAGE = "report.json", "report.html"
DRIVER, TOTAL = "driver", "total"
"""Entries of the requests of a run that are not those of a step."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{text-align:left;padding:.15rem .9rem .15rem 0;vertical-align:top}
th{font-weight:600;border-bottom:1px solid #bbb}td.n{text-align:right;font-variant-numeric:tabular-nums}
.bar{background:#4a7ab5;height:.7rem}.bad{color:#a11}code{font-size:13px;word-break:break-all}
"""


@dataclass(kw_only=True)
class Report:
    """Counts, times and failures of a run."""

    reused: dict[str, int] = field(default_factory=dict)
    """Tasks of each step whose records were already there."""
    tasks: dict[str, int] = field(default_factory=dict)
    """Tasks of each step."""
    retried: dict[str, int] = field(default_factory=dict)
    """Work items of each step that were tried again alone, because their task had failed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each step, s."""
    cells: int = 0
    """Number of cells of all frames and slices; a 3-D object counts once."""
    missing_chunks: int = 0
    """Chunks absent in the source, read as its fill value."""
    unreadable_blocks: list[Region] = field(default_factory=list)
    """Unreadable blocks of frames; their frames' intensity mappings come from the other blocks."""
    failed_tiles: list[FailedTile] = field(default_factory=list)
    """Work items that failed again when tried alone."""
    failed_regions: list[FailedTile] = field(default_factory=list)
    """Tiles, or whole frames, of the published layer that are background because they failed."""
    flagged: dict[str, int] = field(default_factory=dict)
    """Cells with a flag of their method: `cut` at the largest extent of an object, `unconverged`; methods that join by
    links flag none, their cells have any size."""
    reached: dict[str, int] = field(default_factory=dict)
    """Limits of the networks, for methods that propose candidates: how often each was reached over all windows."""
    seams: dict[str, Any] | None = None
    """Straight cell borders on tile and window lines and on lines near them, see `metrics.straightness`."""
    io: dict[str, dict[str, int | float]] = field(default_factory=dict)
    """Requests of the tasks of each step, of the driver and in total: their number by kind, bytes read and written, and
    the time until the answers, s. Those of tasks that failed are missing. The stored report ends with its own writing,
    a returned one with the run."""

    def add_io(self, name: str, traffic: Traffic) -> None:
        """Add requests to those of a step or of the driver."""
        for part in (name, TOTAL):
            found = self.io.setdefault(part, {})
            for key, value in traffic.to_dict().items():
                found[key] = round(found.get(key, 0) + value, 3)

    @classmethod
    def from_dict(cls, stored: Any, place: str) -> Self:
        """Read back what `to_dict` returned; other entries are ignored. DamagedError, naming the place, for others."""
        try:
            found = {field.name: stored.get(field.name) for field in dataclasses.fields(cls)}
            found = {name: value for name, value in found.items() if value is not None}
            for name, kind in _FAILURES.items():
                found[name] = [kind.from_dict(entry) for entry in found.get(name, [])]
        except (TypeError, AttributeError) as error:
            raise DamagedError(f"{place} is damaged: it is not a report of a run ({error}).") from error
        kinds = {name: type(value) for name, value in vars(cls(seams={})).items()}
        for name, value in found.items():
            if not isinstance(value, kinds[name]):
                raise DamagedError(f"{place} is damaged: its entry {name!r} is a {type(value).__name__}.")
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Return the report in JSON's types."""
        failures = {name: [one.to_dict() for one in getattr(self, name)] for name in _FAILURES}
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | failures


_FAILURES: dict[str, type[Region] | type[FailedTile]] = {
    "unreadable_blocks": Region,
    "failed_tiles": FailedTile,
    "failed_regions": FailedTile,
}
"""Type of the entries of each field of a report that lists failures."""


def stored_report(layer: LabelLayer) -> Report:
    """Read the report in a layer's folder; an empty one if there is none."""
    folder = Folder(url=layer.place("report"), storage_options=layer.storage_options)
    return Report.from_dict(folder.read_json(JSON) or {}, f"{folder.url}/{JSON}")


def document(run: Run, report: Report, *, layer: str, error: str | None = None) -> dict[str, Any]:
    """The content of the report in JSON's types."""
    status = "failed" if error else "published with failed tiles" if report.failed_regions else "published"
    counts = {
        "planes": len(run.planes),
        "windows": len(run.planes) * len(run.windows),
        "tiles": len(run.planes) * len(run.grid),
    }
    about = {"whole": run.method.whole, **counts}
    told = {"status": status, "error": error, "layer": layer, "digest": run.digest, **about}
    found = json.loads(json_text({**told, **report.to_dict(), **run.description}))
    return redacted_values(found)  # type: ignore[no-any-return]


def write_report(run: Run, report: Report, layer: LabelLayer) -> None:
    """Write the report into the layer's folder."""
    store = Store(url=layer.place("report"), storage_options=layer.storage_options)
    told = document(run, report, layer=layer.url)
    # The layer that holds the group is not listed yet.
    together([partial(write_group, store, layer.version, {}), partial(_write, store.folder, told)])


def write_copy(run: Run, report: Report, folder: Folder, *, layer: str, error: str | None = None) -> None:
    """Write a copy of the report into the user's folder; `error` is the reason if nothing was published."""
    _write(folder, document(run, report, layer=layer, error=error))


def _write(folder: Folder, told: Mapping[str, Any]) -> None:
    together([partial(folder.write_json, JSON, told), partial(folder.write, PAGE, page(told).encode())])


def page(told: Mapping[str, Any]) -> str:
    """The report as one self-contained HTML page."""
    parts = [
        f"<h1>{_text(told['layer'].rpartition('/')[2])}: {_text(told['status'])}</h1>",
        f"<p class=bad>{_text(told['error'])}</p>" if told["error"] else "",
        pairs({name: told[name] for name in ("layer", "digest", "cells", "planes", "windows", "tiles")}),
        "<h2>Checks</h2>",
        pairs(_checks(told)),
        "<h2>Steps</h2>",
        steps_table(told),
        "<h2>Requests</h2>",
        _requests(told["io"]),
        _places("Failed regions", told["failed_regions"]),
        _places("Failed tiles", told["failed_tiles"]),
        _places("Blocks excluded from the intensity mapping", told["unreadable_blocks"]),
        *(part for name in ("settings", "image", "window", "versions") for part in section(name, told[name])),
        pairs({"model": told["model"]}),
    ]
    return html_page(told["layer"], parts)


def html_page(layer: str, parts: Iterable[str]) -> str:
    """A page about a layer, of parts in HTML."""
    title = f"<title>cellscale: {_text(layer)}</title>"
    head = f"<!doctype html><html lang=en><meta charset=utf-8>{title}<style>{STYLE}</style>"
    return head + "\n".join(parts) + "</html>\n"


_EXACT: dict[Whole, str] = {
    "exact": "yes",
    "windowed": "no, they depend on the windows",
    "tiled": "no, they depend on the tiles",
}


def _checks(told: Mapping[str, Any]) -> dict[str, Any]:
    seams = told["seams"]
    return {
        "labels are those of one window over the whole frame": _EXACT[told["whole"]],
        "objects cut at their extent": told["flagged"].get("cut", 0),
        "missing chunks of the source": told["missing_chunks"],
        "straight borders along tile and window lines": _seams(seams) if seams else "not measured",
    }


def _seams(seams: Mapping[str, Any]) -> str:
    if seams["interval"] is None:
        return "no lines, or no cells on them"
    low, high = seams["interval"]
    verdict = "no seams" if low <= 0 <= high else "seams differ from other lines"
    return (
        f"{seams['share']:.4f} of {seams['border_px']} border px, {seams['share_beside']:.4f} near them; "
        f"95 % interval of the difference {low:+.4f} … {high:+.4f}: {verdict}"
    )


def steps_table(told: Mapping[str, Any]) -> str:
    """A table of the steps of a run: tasks, reuse and times; `told` are the values of `Report.to_dict`."""
    longest = max(told["seconds"].values(), default=0.0) or 1.0
    rows = [
        [name, told["tasks"][name], told["reused"][name], told["retried"].get(name, 0), f"{seconds:.1f}"]
        for name, seconds in told["seconds"].items()
    ]
    bars = [f"<td><div class=bar style='width:{15 * float(row[-1]) / longest:.2f}rem'></div>" for row in rows]
    return _table(["step", "tasks", "reused", "work items retried", "s", ""], rows, bars)


def _requests(io: Mapping[str, Mapping[str, float]]) -> str:
    names = sorted({name for entry in io.values() for name in entry}, key=lambda name: (not name.isupper(), name))
    return _table(["", *names], [[part, *(entry.get(name, 0) for name in names)] for part, entry in io.items()])


def _places(title: str, entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    names = list(entries[0])
    return f"<h2 class=bad>{title}</h2>" + _table(names, [[entry[name] for name in names] for entry in entries])


def section(name: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """A heading, and a table of names and values."""
    return f"<h2>{name.capitalize()}</h2>", pairs(values)


def pairs(values: Mapping[str, Any]) -> str:
    """A table of names and values."""
    rows = "".join(f"<tr><td>{_text(name)}<td><code>{_text(value)}</code>" for name, value in values.items())
    return f"<table>{rows}</table>"


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]], ends: Sequence[str] = ()) -> str:
    head = "".join(f"<th>{_text(name)}" for name in names)
    cells = ["".join(f"<td{' class=n' if i else ''}>{_text(value)}" for i, value in enumerate(row)) for row in rows]
    body = "".join(f"<tr>{cell}{end}" for cell, end in zip(cells, ends or [""] * len(cells), strict=True))
    return f"<table><tr>{head}{body}</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
