"""Runs over images with really damaged chunks: nothing is published, or the holes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cellscale.errors import ExistsError, InputError, RunError
from cellscale.methods import METHODS, load_method
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.ngff.writer import create_image
from cellscale.segmentation import ownership
from cellscale.segmentation.executor import Executor, one_by_one
from cellscale.segmentation.placeholders import blank
from cellscale.segmentation.report import Report
from cellscale.storage.folder import Folder
from cellscale.tiling.in_memory import join, whole_frame
from cellscale.tiling.ring_rule import record
from cellscale.tiling.row_groups import RowGroups
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Candidates, part_of
from tests.blobs import BLOBS, blurred_noise
from tests.support.runs import run_it, scratch_of

SHAPE = (2, 300, 400)
"""Chunks of 256 px."""
DAMAGED = Box(0, 256, 256, 400)
"""The chunk that is damaged, in frame 1."""
TILED: dict[str, Any] = {"window_size": 64, "tile_size": 100}


def movie(url: str, version: str) -> NgffImage:
    writer = create_image(
        url, shape_tczyx=(2, 1, 1, 300, 400), dtype=np.uint16, axes="tyx", version=version, pixel_size_um=(0.5, 0.25)
    )
    for t, frame in enumerate(blurred_noise(SHAPE)):
        writer.write(frame, t=t)
    writer.finish()
    return open_image(url)


def damage(image: NgffImage) -> bytes:
    """Overwrite the middle of a chunk; returns what was there."""
    path = chunk(image)
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes(200) + whole[240:])
    return whole


def chunk(image: NgffImage) -> Path:
    return Path(image.url) / "0" / ("c/1/0/1" if image.version == "0.5" else "1/0/1")


@pytest.fixture
def image(request: pytest.FixtureRequest, tmp_path: Path) -> NgffImage:
    return movie(str(tmp_path / "movie.zarr"), getattr(request, "param", "0.5"))


both = pytest.mark.parametrize("image", ["0.4", "0.5"], indirect=True)


def labels(image: NgffImage, name: str = "cells", t: int = 1) -> np.ndarray:
    return open_labels(image.url, name).read(Box(0, 0, *SHAPE[1:]), t=t)


def boxes(report: Report) -> list[Box]:
    return [Box(*hole.box_px) for hole in report.failed_regions if hole.box_px]


def mask(parts: list[Box]) -> np.ndarray:
    found = np.zeros(SHAPE[1:], bool)
    for part in parts:
        found[part.slices] = True
    return found


@both
@pytest.mark.parametrize("settings", [{}, TILED])
def test_a_corrupt_chunk_names_its_tiles_and_publishes_nothing(image: NgffImage, settings: dict[str, Any]) -> None:
    damage(image)
    before = {path: path.read_bytes() for path in Path(image.url).rglob("*") if path.is_file()}
    with pytest.raises(RunError) as caught:
        run_it(image, **settings)
    tile = "tile 2, 3, 6, 7, 10, 11 " if settings else "tile 0 "
    assert f"frame 1, slice 0, {tile}" in str(caught.value)
    assert "rows 0:256, columns 256:400" in str(caught.value)
    assert "nothing was published" in str(caught.value)
    assert {path: path.read_bytes() for path in Path(image.url).rglob("*") if path.is_file()} == before


@both
def test_failed_tiles_are_published_and_named(image: NgffImage) -> None:
    run_it(image, "whole", **TILED)
    whole = damage(image)
    report = run_it(image, allow_failed_tiles=True, **TILED)
    assert {hole.frame for hole in report.failed_regions} == {1}
    hole = mask(boxes(report))
    assert hole[DAMAGED.slices].all()
    assert not hole[:, :100].any(), "tiles far from the chunk are no holes"
    assert not labels(image)[hole].any()
    assert labels(image)[~hole].any()
    assert np.array_equal(labels(image, t=0), labels(image, "whole", t=0))
    assert [block.box_px for block in report.unreadable_blocks] == [(0, 256, 256, 400)]
    assert report.unreadable_blocks[0].box_um == (0.0, 64.0, 128.0, 100.0)
    noted = open_labels(image.url, "cells").metadata["failed_regions"]
    assert [Box(*hole["box_px"]) for hole in noted] == boxes(report)
    assert {failed.kind for failed in report.failed_tiles} == {"window", "tile"}
    assert "chunk" in report.failed_tiles[0].reason
    rows = pd.read_parquet(f"{image.url}/labels/cells/objects.parquet")
    assert (rows[rows.frame == 1].area_px.to_numpy() == np.bincount(labels(image).ravel())[1:]).all()
    chunk(image).write_bytes(whole)
    with pytest.raises(ExistsError):
        run_it(image, **TILED)
    assert not run_it(image, overwrite=True, **TILED).failed_regions
    assert np.array_equal(labels(image), labels(image, "whole"))
    assert "failed_regions" not in open_labels(image.url, "cells").metadata


def test_a_failed_tile_takes_nothing_from_cells_that_do_not_reach_it() -> None:
    maps = {name: np.rint(255 * values).astype(np.uint8) for name, values in BLOBS.perfect_prediction(lakes()).items()}
    grid, link, lost = Grid(shape=(120, 150), size=40), BLOBS.reaches.link, 5
    cores, records = [], []
    for tile in range(len(grid)):
        read = grid.read(tile, link, BLOBS.reaches.decode_reach)
        part = {name: values[read.slices] for name, values in maps.items()}
        fragments = BLOBS.decode(part, grid.valid(tile, link).within(read))
        owned, made = blank(BLOBS, grid, tile) if tile == lost else record(fragments, grid, tile, link)
        cores.append(owned)
        records.append(made)
    cells = join(records, RowGroups(grid=grid, link=link, span=link + BLOBS.reaches.decode_reach), BLOBS.merge_objects)
    found = np.zeros(grid.shape, np.uint32)
    for tile, owned in enumerate(cores):
        found[grid.core(tile).slices] = cells.table(tile)[owned]
    whole, hole = whole_frame(BLOBS, maps), grid.core(lost)
    assert not found[hole.slices].any()
    outside = np.ones(grid.shape, bool)
    outside[hole.slices] = False
    for cell in np.unique(whole[outside & (whole > 0)]):
        parts = np.unique(found[outside & (whole == cell)])
        if not (whole[hole.slices] == cell).any():
            assert len(parts) == 1, "a cell beside the hole is whole"
            assert ((found == parts[0]) == (whole == cell)).all() or parts[0] == 0


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_placeholder_has_the_columns_of_other_tiles(name: str) -> None:
    method, grid = load_method(name), Grid(shape=(96, 96), size=48)
    truth, _ = ndimage.label(blurred_noise((96, 96)) > 2600)
    ideal = method.perfect_prediction(truth.astype(np.uint32))
    seen, valid = grid.read(0, method.reaches.link, method.reaches.decode_reach), grid.valid(0, method.reaches.link)
    stored = (
        ideal if isinstance(ideal, Candidates) else {key: np.rint(255 * v).astype(np.uint8) for key, v in ideal.items()}
    )
    _, made = record(method.decode(part_of(stored, seen), valid.within(seen)), grid, 0, method.reaches.link)
    owned, hole = blank(method, grid, 0)
    assert made.count > 0
    assert hole.count == 0
    assert not owned.any()
    assert hole.nodes.keys() == made.nodes.keys()
    assert hole.edges.keys() == made.edges.keys()


def lakes() -> np.ndarray:
    return (blurred_noise((120, 150)) > 2200).astype(np.uint32)


@both
def test_a_frame_of_one_window_is_one_failed_region(image: NgffImage) -> None:
    run_it(image, "whole")
    damage(image)
    report = run_it(image, allow_failed_tiles=True)
    assert [(hole.frame, hole.kind, hole.box_px) for hole in report.failed_regions] == [(1, "frame", (0, 0, 300, 400))]
    assert not labels(image).any()
    assert np.array_equal(labels(image, t=0), labels(image, "whole", t=0))


def test_a_frame_that_cannot_be_read_at_all_is_a_failed_region(image: NgffImage) -> None:
    for path in (Path(image.url) / "0").rglob("*"):
        if path.is_file() and ("/1/0/" in str(path) or "/1/1/" in str(path)) and "/0/0/" not in str(path):
            path.write_bytes(b"no chunk")
    report = run_it(image, allow_failed_tiles=True, **TILED)
    assert mask(boxes(report)).all()
    assert labels(image, t=0).any()


class Killed(BaseException):
    """Ends a process at once."""


def killed_after(step: str) -> Executor:
    def executor(work: Any, shared: Any, tasks: Any, *, gpu: bool = False) -> Any:
        for task, result in one_by_one(work, shared, tasks, gpu=gpu):
            if task.record.step.startswith(step):
                raise Killed
            yield task, result

    return executor


def test_a_killed_run_with_failed_tiles_resumes_with_the_same_ones(image: NgffImage) -> None:
    whole = damage(image)
    run_it(image, "undisturbed", allow_failed_tiles=True, **TILED)
    with pytest.raises(Killed):
        run_it(image, allow_failed_tiles=True, executor=killed_after("join"), **TILED)
    chunk(image).write_bytes(whole)
    with pytest.raises(InputError, match="--allow-failed-tiles"):
        run_it(image, **TILED)
    assert list_labels(image.url) == ("undisturbed",)
    assert run_it(image, allow_failed_tiles=True, **TILED).failed_regions
    assert np.array_equal(labels(image), labels(image, "undisturbed"))


def test_a_run_that_failed_can_be_finished_with_failed_tiles(image: NgffImage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each task reads what another process has written.
    monkeypatch.setattr(ownership, "RECENT_BYTES", 0)

    def losing(work: Any, shared: Any, tasks: Any, *, gpu: bool = False) -> Any:
        for task, result in one_by_one(work, shared, tasks, gpu=gpu):
            scratch_of(image, "cells").delete("maps/000001/000000")
            yield task, result

    with pytest.raises(RunError, match=r"frame 1, slice 0, tile 0 \(rows 0:100, columns 0:100\).*maps/000001/000000"):
        run_it(image, executor=losing, task_px=64**2, **TILED)
    report = run_it(image, allow_failed_tiles=True, task_px=64**2, **TILED)
    assert report.reused["predict"] > 0
    assert {hole.number for hole in report.failed_regions} == {0}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 1}', "\xff\x00"])
def test_a_damaged_plan_is_named_and_can_be_dropped(image: NgffImage, text: str) -> None:
    with pytest.raises(Killed):
        run_it(image, executor=killed_after("intensity"))
    (Path(image.url) / ".cellscale-cells" / "plan.json").write_text(text, encoding="latin-1")
    with pytest.raises(OSError, match=r"plan\.json is damaged.*--overwrite"):
        run_it(image)
    assert run_it(image, overwrite=True).reused["intensity"] == 0


def test_the_report_lies_in_the_layer_and_where_it_is_wanted(image: NgffImage, tmp_path: Path) -> None:
    damage(image)
    folder = tmp_path / "told"
    report = run_it(image, allow_failed_tiles=True, report=Folder(url=str(folder)), **TILED)
    told = json.loads((Path(image.url) / "labels/cells/report/report.json").read_text())
    assert told == json.loads((folder / "report.json").read_text())
    assert told["status"] == "published with failed tiles"
    assert told["failed_regions"] == [hole.to_dict() for hole in report.failed_regions]
    assert told["settings"]["tile_size"] == 100
    assert told["flagged"] == {}
    assert told["retried"]["decode"] >= len(report.failed_regions)
    page = (folder / "report.html").read_text()
    assert "published with failed tiles" in page
    assert "http" not in page.replace(told["layer"], ""), "the page loads nothing"


def test_a_failed_run_leaves_its_report_where_it_is_wanted(image: NgffImage, tmp_path: Path) -> None:
    damage(image)
    with pytest.raises(RunError):
        run_it(image, report=Folder(url=str(tmp_path / "told")), **TILED)
    told = json.loads((tmp_path / "told" / "report.json").read_text())
    assert told["status"] == "failed"
    assert "columns 256:400" in told["error"]
    assert [failed["frame"] for failed in told["failed_tiles"]] == [1]
