"""Tracks for other programs, and scores of layers: equal to those of exported folders."""

from __future__ import annotations

from pathlib import Path

import geff
import numpy as np
import pytest
import tifffile
from ctc_metrics.scripts.evaluate import calculate_metrics, load_data

import cellscale
from cellscale.errors import ExistsError, InputError, MissingError
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


def test_untracked_labels_are_scored_as_they_are(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    scores = cellscale.evaluate_tracks(image.url, layer="cells", ground_truth="cells")
    assert (scores["tra"], scores["frames"]) == (1.0, 9)
