"""Attributes of cellscale in a layer, whatever they say: commands end with a result or one error; other files stay."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import urllib.parse
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cellscale
from cellscale.errors import CellscaleError
from cellscale.ngff.image import open_image
from cellscale.viewers.neuroglancer_state import link, state
from tests.support.hostile import DEEP, HOSTILE
from tests.support.runs import segmented

KEYS = ("attempt", "replaced", "plain", "table", "image", "frames", "failed_regions", "digest", "model", "tracks_of")
SHORT_BOX = [{"frame": 10**30, "slice": None, "box_px": [0], "box_um": None}]
PLACES: tuple[Any, ...] = (
    *("../../../outside", "/outside", "../truth", "0", "objects.parquet", "../truth/objects.parquet"),
    ["../../../outside", "../truth", "..", ".", "", "labels", "zarr.json", ".hidden"],
    {"frame": 0, "slice": 0, "box_px": "all", "box_um": 10**400},
    SHORT_BOX,
)
VALUES = (*(value for value in HOSTILE if value is not DEEP and value != "\ud800"), *PLACES)
TOO_DEEP = "a list in a list, 10,000 times"
EVERY = 17
"""Of the pairs of a key and a value, this one is tried: a number without a factor in common with their numbers."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with a segmented layer and a ground truth, and a folder next to it."""
    home = tmp_path_factory.mktemp("notes")
    cellscale.synthesize(home / "m.zarr", shape=(2, 64, 64), cells=4)
    segmented(open_image(str(home / "m.zarr")), "cells")
    (home / "outside").mkdir()
    (home / "outside" / "x").touch()
    return home


def uses(image: Path) -> list[Callable[[], object]]:
    """Commands that read the layer, and those that replace its table or itself."""
    return [
        lambda: cellscale.export_table(image, image.parent / "t.csv"),
        lambda: cellscale.evaluate(image),
        lambda: cellscale.scene(image),
        lambda: cellscale.track(image, backend="serial", overwrite=True),
        lambda: cellscale.measure(image, layer="cells", overwrite=True),
        lambda: segmented(open_image(str(image)), "cells", overwrite=True),
    ]


def readers(image: Path) -> list[Callable[[], object]]:
    """Commands that show the layer or write it for other programs."""
    options: dict[str, Any] = {"layer": "cells-tracks"}
    out = image.parent / "out"

    def shown() -> None:
        seen = cellscale.scene(image)
        urls = dict.fromkeys((seen.image.url, *(layer.url for layer in seen.labels)), "http://localhost")
        json.loads(urllib.parse.unquote(link(state(seen.image, seen.labels, urls, t=0, z=0)).partition("#!")[2]))

    return [
        shown,
        *(partial(cellscale.export_table, image, out / name, **options) for name in ("t.csv", "t.parquet", "t.h5ad")),
        partial(cellscale.export_ngio, image, overwrite=True, **options),
        partial(cellscale.export_ctc, image, out / "ctc", **options),
        partial(cellscale.export_geff, image, out / "g.geff", **options),
        partial(cellscale.draw_lineage, image, out / "l.png", **options),
    ]


def files(home: Path) -> set[Path]:
    """All files but those of the layers that commands replace, and the output of one of them."""
    replaced = home / "m.zarr" / "labels"
    own = (replaced / "cells", replaced / "cells-tracks")
    return {
        path
        for path in home.rglob("*")
        if path.is_file() and path.name != "t.csv" and not any(folder in path.parents for folder in own)
    }


def attack(made: Path, home: Path, notes: Iterable[tuple[str, Any]]) -> None:
    """Try pairs of a key and a value."""
    for key, value in notes:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(made, home)
        layer = home / "m.zarr" / "labels" / "cells"
        for name in ("mine.txt", ".hidden"):
            (layer / name).touch()
        document = json.loads((layer / "zarr.json").read_text())
        document["attributes"]["cellscale"][key] = value
        (layer / "zarr.json").write_text(json.dumps(document))
        before = files(home)
        for use in uses(home / "m.zarr"):
            with contextlib.suppress(CellscaleError):
                use()
            assert before <= files(home), (key, value)
        assert (layer / "mine.txt").exists()
        assert (layer / ".hidden").exists()
        assert np.asarray(cellscale.open_labels(home / "m.zarr", "cells")).any()


def read_notes(tracked: Path, home: Path, notes: Iterable[tuple[str, Any]]) -> int:
    """Let other programs' formats be written of a layer with each of the notes; return the number of results."""
    results = 0
    for key, value in notes:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(tracked, home)
        path = home / "m.zarr" / "labels" / "cells-tracks" / "zarr.json"
        document = json.loads(path.read_text())
        document["attributes"]["cellscale"][key] = value
        path.write_text(json.dumps(document).replace(json.dumps(TOO_DEEP), "[" * 10_000 + "]" * 10_000))
        before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
        for use in readers(home / "m.zarr"):
            with contextlib.suppress(CellscaleError):
                use()
                results += 1
        assert before == {path: path.read_bytes() for path in before}, (key, value)
        made = {path.relative_to(home).parts[0] for path in home.rglob("*") if path.is_file() and path not in before}
        assert made <= {"out"}, (key, value)
    return results


@pytest.fixture(scope="module")
def tracked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a layer of tracks."""
    home = tmp_path_factory.mktemp("tracked") / "home"
    shutil.copytree(made, home)
    cellscale.track(home / "m.zarr", backend="serial")
    return home


def test_notes_of_another_kind_are_shown_and_exported_or_refused(tracked: Path, tmp_path: Path) -> None:
    notes = [*list(itertools.product(KEYS, VALUES))[:: 5 * EVERY], *itertools.product(KEYS, [TOO_DEEP])]
    assert read_notes(tracked, tmp_path / "home", [*notes, ("failed_regions", SHORT_BOX)]) > 10


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_all_notes_of_another_kind_are_shown_and_exported_or_refused(tracked: Path, tmp_path: Path, key: str) -> None:
    assert read_notes(tracked, tmp_path / "home", itertools.product([key], VALUES)) > len(VALUES)


def test_notes_of_another_kind_are_used_ignored_or_refused(made: Path, tmp_path: Path) -> None:
    attack(made, tmp_path / "home", [*list(itertools.product(KEYS, VALUES))[::EVERY], ("failed_regions", SHORT_BOX)])


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_all_notes_of_another_kind_are_used_ignored_or_refused(made: Path, tmp_path: Path, key: str) -> None:
    attack(made, tmp_path / "home", itertools.product([key], VALUES))
