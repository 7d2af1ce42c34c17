"""Tracks for other programs, and scores of layers: equal to those of exported folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geff
import numpy as np
import pandas as pd
import pytest
import tifffile
from ctc_metrics.scripts.evaluate import calculate_metrics, load_data

import cellscale
from cellscale.errors import DamagedError, ExistsError, InputError, MissingError, StoreError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import open_labels
from tests.blobs import blobs_model, blurred_noise
from tests.faults.moments import dies
from tests.linking.sequences import renumbered
from tests.tracking.test_run import cells, rows, stored, tracked


def test_an_exported_folder_scores_elsewhere_as_the_layer_does_here(tmp_path: Path) -> None:
    truth = cells()
    image = stored(tmp_path, renumbered(truth, 3))
    tracked(image, "cells-tracks")
    other = stored(tmp_path / "true", truth, layer="truth")
    table = "".join(
        f"{label} {begin} {end} {parent}\n"
        for label, begin, end, parent in [(5, 0, 3, 0), (205, 4, 8, 5), (105, 4, 8, 5)]
    )
    folder = tmp_path / "gt" / "TRA"
    folder.mkdir(parents=True)
    frames = [np.where((labels == 5) & (t >= 4), 205, labels) for t, labels in enumerate(truth)]
    for t, labels in enumerate(frames):
        # The second part of a track with a gap is another track there.
        tifffile.imwrite(
            folder / f"man_track{t:03d}.tif", np.where((labels == 2) & (t > 4), 302, labels).astype(np.uint16)
        )
    known = table + "302 5 8 2\n2 0 2 0\n" + "".join(f"{label} 0 8 0\n" for label in (1, 3, 4, 6, 7, 8, 9))
    (folder / "man_track.txt").write_text(known)
    (tmp_path / "true.txt").write_text(table)
    other = stored(tmp_path / "names", frames, layer="truth")
    result = tmp_path / "result"
    assert cellscale.export_ctc(image.url, result) == 12
    mine = cellscale.evaluate_tracks(image.url, ground_truth_store=other.url, ground_truth_tracks=tmp_path / "true.txt")
    loaded = load_data(str(result), str(tmp_path / "gt"), True, False, threads=1)
    theirs = calculate_metrics(*loaded[:4], ["DET", "TRA", "LNK", "CT", "TF", "BC", "Valid"], loaded[5])
    assert theirs["Valid"] == 1
    for name in ("tra", "det", "lnk", "ct", "tf"):
        assert mine[name] == pytest.approx(theirs[name.upper()], abs=1e-9) == 1.0
    assert mine["bc_0"] == theirs["BC(0)"] == 1.0
    with pytest.raises(ExistsError, match="is not empty"):
        cellscale.export_ctc(image.url, result)


def test_a_graph_has_a_node_for_each_object_and_an_edge_for_each_step(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    tracked(image, "cells-tracks")
    table = rows(image, "cells-tracks")
    assert cellscale.export_geff(image.url, tmp_path / "g.geff") == len(table)
    graph, metadata = geff.read(tmp_path / "g.geff", backend="networkx")
    by_node = {node: (int(values["t"]), int(values["track"])) for node, values in graph.nodes(data=True)}
    assert set(by_node.values()) == set(zip(table.frame, table.track, strict=True))
    edges = {(by_node[a], by_node[b]) for a, b in graph.edges}
    assert len(edges) == len(table) - 9
    parents = dict(zip(table.track, table.parent, strict=True))
    assert sum(a[1] != b[1] for a, b in edges) == 2
    assert all(a[0] < b[0] and (a[1] == b[1] or parents[b[1]] == a[1]) for a, b in edges)
    assert metadata.related_objects[0].path.endswith("labels/cells-tracks")
    with pytest.raises(ExistsError, match="is not empty"):
        cellscale.export_geff(image.url, tmp_path / "g.geff")


def test_a_stopped_export_of_masks_continues_with_its_own_files_alone(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(4))
    tracked(image, "cells-tracks")
    whole, out = tmp_path / "whole", tmp_path / "out"
    cellscale.export_ctc(image.url, whole)
    died, moment = True, 0
    while died:
        died = dies(lambda: cellscale.export_ctc(image.url, out), moment)
        moment += 1
        present = sorted(path.name for path in out.glob("[!.]*"))
        assert ("res_track.txt" in present) is (not died)
    # Attempts of 0, 1 and 2 new files, and one that writes the last two of five.
    assert moment == 4
    with pytest.raises(ExistsError, match="is not empty"):
        cellscale.export_ctc(image.url, out)
    assert {p.name: p.read_bytes() for p in out.glob("[!.]*")} == {p.name: p.read_bytes() for p in whole.iterdir()}
    (out / "res_track.txt").unlink()
    (out / "mask002.tif").write_bytes(b"mine")
    with pytest.raises(ExistsError, match=r"out/mask002\.tif is not a mask of .*cells-tracks as it is now"):
        cellscale.export_ctc(image.url, out)
    assert (out / "mask002.tif").read_bytes() == b"mine"


def test_a_graph_that_is_not_complete_is_not_there(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(2))
    tracked(image, "cells-tracks")
    assert dies(lambda: cellscale.export_geff(image.url, tmp_path / "g.geff"), 5)
    assert not (tmp_path / "g.geff").exists()
    (tmp_path / "g.geff").mkdir()
    assert cellscale.export_geff(image.url, tmp_path / "g.geff") == geff.read(tmp_path / "g.geff")[0].number_of_nodes()
    with pytest.raises(InputError, match="not on this machine"):
        cellscale.export_geff(image.url, "memory://g.geff")


def test_layers_without_tracks_and_damaged_tables_are_named(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(2))
    with pytest.raises(MissingError, match="has no tracks; make a layer that has with `cellscale track`"):
        cellscale.export_geff(image.url, tmp_path / "g.geff", layer="cells")
    (tmp_path / "t.txt").write_text("1 0 5 0\n2 zero 5 0\n")
    with pytest.raises(InputError, match=r"Line 2 of .*t\.txt is '2 zero 5 0'; expected four whole numbers"):
        cellscale.evaluate_tracks(
            image.url, layer="cells", ground_truth="cells", ground_truth_tracks=tmp_path / "t.txt"
        )
    with pytest.raises(MissingError, match="No table of tracks was found at"):
        cellscale.evaluate_tracks(
            image.url, layer="cells", ground_truth="cells", ground_truth_tracks=tmp_path / "no.txt"
        )


def test_a_segmentation_is_not_taken_for_tracks(tmp_path: Path) -> None:
    image = cellscale.save_image(blurred_noise((2, 40, 50)), tmp_path / "i.zarr")
    cellscale.segment(image.url, model=blobs_model(), backend="serial")
    told = "made by `cellscale segment`: its labels number the cells of each frame, not tracks"
    with pytest.raises(InputError, match=told):
        cellscale.export_ctc(image.url, tmp_path / "01_RES", layer="cells")
    assert not (tmp_path / "01_RES").exists()
    with pytest.raises(InputError, match=told):
        cellscale.evaluate_tracks(image.url, layer="cells", ground_truth="cells")
    cellscale.track(image.url, layer="cells", backend="serial")
    assert cellscale.export_ctc(image.url, tmp_path / "01_RES") > 0


def test_untracked_labels_are_scored_as_they_are(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    scores = cellscale.evaluate_tracks(image.url, layer="cells", ground_truth="cells")
    assert (scores["tra"], scores["frames"]) == (1.0, 9)


def _changed(image: NgffImage, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Let the second file of a layer's object table be another one."""
    part = Path(open_labels(image.url, name).place("objects.parquet")) / "part-000001-000000.parquet"
    change(pd.read_parquet(part)).to_parquet(part, index=False)


CHANGES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "no tracks": (lambda table: table.drop(columns="track"), "files of different columns"),
    "text": (lambda table: table.assign(parent="x"), "a column 'parent' that is not whole numbers"),
    "no number": (lambda table: table.assign(frame=np.nan), "a column 'frame' that is not whole numbers"),
    "track of the background": (lambda table: table.assign(track=np.uint32(0)), "rows of a track below 1"),
    "later frames": (lambda table: table.assign(frame=np.int32(2**31 - 1)), "rows outside of 4 frames"),
    "earlier frames": (lambda table: table.assign(frame=np.int32(-5)), "rows outside of 4 frames"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_table_that_has_no_tracks_of_its_layer_is_named(tmp_path: Path, kind: str) -> None:
    change, reason = CHANGES[kind]
    image = stored(tmp_path, cells(4))
    tracked(image, "cells-tracks")
    _changed(image, "cells-tracks", change)
    for use in (
        lambda: cellscale.export_ctc(image.url, tmp_path / "ctc"),
        lambda: cellscale.export_geff(image.url, tmp_path / "g.geff"),
        lambda: cellscale.draw_lineage(image.url, tmp_path / "l.png"),
        lambda: cellscale.evaluate_tracks(image.url, layer="cells-tracks", ground_truth="cells"),
    ):
        with pytest.raises(DamagedError, match=reason):
            use()


def test_a_file_of_a_table_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(2))
    tracked(image, "cells-tracks")
    part = Path(open_labels(image.url, "cells-tracks").place("objects.parquet")) / "part-000001-000000.parquet"
    for content in (b"", b"PAR1" * 40, part.read_bytes()[:-30]):
        part.write_bytes(content)
        for use in (cellscale.export_table, cellscale.export_ctc):
            with pytest.raises(StoreError, match=r"Cannot read .*part-000001-000000\.parquet"):
                use(image.url, tmp_path / "out.csv", layer="cells-tracks")


def test_pixels_without_a_row_are_never_given_the_number_of_another_object(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(4))
    tracked(image, "cells-tracks")
    _changed(image, "cells-tracks", lambda table: table[table.track != 3])
    with pytest.raises(DamagedError, match=r"Frame 1 of .* has pixels of label 3, which is not in the table"):
        cellscale.export_ctc(image.url, tmp_path / "ctc")
    with pytest.raises(InputError, match=r"Object 3 of frame 1 \(found\) is not in the table of tracks"):
        cellscale.evaluate_tracks(image.url, layer="cells-tracks", ground_truth="cells")


def test_a_track_that_is_its_own_ancestor_is_not_drawn(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(4))
    tracked(image, "cells-tracks")
    for part in Path(open_labels(image.url, "cells-tracks").place("objects.parquet")).iterdir():
        table = pd.read_parquet(part)
        table.assign(parent=table.track.map({1: 2, 2: 1}).fillna(0).astype(np.uint32)).to_parquet(part, index=False)
    for use in (cellscale.draw_lineage, cellscale.export_ctc):
        with pytest.raises(InputError, match="before its parent"):
            use(image.url, tmp_path / "out.png")
