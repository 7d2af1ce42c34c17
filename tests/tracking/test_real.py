"""Real sequences: masks with other numbers in every frame are tracked, and score elsewhere as they do here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from ctc_metrics.scripts.evaluate import calculate_metrics, load_data

import cellscale
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import publish_labels, stage_labels
from cellscale.types import Labels
from tests.linking.sequences import renumbered
from tests.support.runs import written


def stored(folder: Path, layers: dict[str, list[Labels]]) -> NgffImage:
    frames = next(iter(layers.values()))
    image = written(f"{folder}/i.zarr", np.zeros((len(frames), *frames[0].shape), np.uint8))
    for name, planes in layers.items():
        layer = stage_labels(image, name, planes_z=1)
        for t, labels in enumerate(planes):
            for box in layer.shards():
                layer.write(labels[box.slices], box, t=t)
        publish_labels(layer)
    return image


@pytest.mark.parametrize(
    ("name", "frames", "aim"), [("DIC-C2DH-HeLa", 84, 0.99), ("Fluo-N2DL-HeLa", 46, 0.99), ("PhC-C2DL-PSC", 30, 0.97)]
)
@pytest.mark.parametrize("kind", ["tra", "st_seg"])
def test_tracks_of_real_masks(tmp_path: Path, data: Path, name: str, frames: int, aim: float, kind: str) -> None:
    truth, masks = (
        list(tifffile.imread(data / name / f"01_{which}.tif", key=range(frames)).astype(np.uint32))
        for which in ("tra", kind)
    )
    image = stored(tmp_path, {"cells": renumbered(masks, 1), "truth": truth})
    cellscale.track(image.url, backend="serial")
    table = tmp_path / "man_track.txt"
    rows = np.loadtxt(data / name / "01_man_track.txt", dtype=np.int64)
    table.write_text("".join(f"{' '.join(map(str, row))}\n" for row in rows.tolist()))
    mine = cellscale.evaluate_tracks(image.url, ground_truth_tracks=table)
    cellscale.export_ctc(image.url, tmp_path / "result")
    folder = tmp_path / "gt" / "TRA"
    folder.mkdir(parents=True)
    present: dict[int, list[int]] = {}
    for t, labels in enumerate(truth):
        tifffile.imwrite(folder / f"man_track{t:03d}.tif", labels.astype(np.uint16))
        for label in np.unique(labels[labels > 0]).tolist():
            present.setdefault(label, []).append(t)
    known = {row[0]: row[3] for row in rows.tolist()}
    lines = [(k, min(ts), max(ts), known[k] if known[k] in present else 0) for k, ts in sorted(present.items())]
    (folder / "man_track.txt").write_text("".join(f"{' '.join(map(str, line))}\n" for line in lines))
    loaded = load_data(str(tmp_path / "result"), str(tmp_path / "gt"), True, False, threads=1)
    theirs = calculate_metrics(*loaded[:4], ["DET", "TRA", "LNK", "CT", "TF", "BC", "Valid"], loaded[5])
    assert theirs["Valid"] == 1
    assert {score: mine[score] for score in ("tra", "det", "lnk", "ct", "tf")} == pytest.approx(
        {score: theirs[score.upper()] for score in ("tra", "det", "lnk", "ct", "tf")}, abs=1e-6
    )
    assert [mine[f"bc_{i}"] for i in range(4)] == pytest.approx([theirs[f"BC({i})"] for i in range(4)], abs=1e-6)
    if kind == "tra":
        assert mine["tra"] >= aim
