"""Commands for tracks: track, score-tracks, export-ctc, export-geff, draw-lineage."""

from __future__ import annotations

from typing import Any

import click

import cellscale
from cellscale.cli.terminal import (
    FRAMES,
    as_json,
    backend,
    counted,
    out,
    print_scores,
    progress,
    ray_options,
    storage_options,
    with_options,
)
from cellscale.storage.json_text import json_text

layer_option = click.option("--layer", default="cells-tracks", show_default=True, help="Layer of tracks.")


@click.command("track")
@click.argument("image")
@click.option("--layer", default="cells", show_default=True, help="Layer whose objects are tracked.")
@click.option("--new-layer", help="Name of the layer to write. [default: LAYER-tracks]")
@click.option("--layer-store", help="Store that holds the layer, and gets the new one. [default: the image's own]")
@click.option(
    "--max-distance",
    "max_distance_px",
    type=click.FloatRange(min=0, min_open=True),
    help="Farthest that a cell that overlaps nothing moves between two frames, px. [default: from each frame]",
)
@click.option(
    "--max-gap", type=click.IntRange(min=0), default=2, show_default=True, help="Frames in which a cell may be missing."
)
@click.option("--divisions/--no-divisions", default=True, show_default=True, help="Whether cells may divide.")
@click.option(
    "--window",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="Frames in one task; no track changes.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing layer when the new one is complete.")
@click.option("--allow-failed-tiles", is_flag=True, help="Track a layer that has failed regions.")
@with_options(*ray_options)
@as_json
@storage_options
@click.pass_obj
def track_command(quiet: bool, /, image: str, serial: bool, as_json: bool, **options: Any) -> None:
    """Follow the objects of a label layer of IMAGE through time; write a layer whose labels are tracks."""
    with progress(quiet) as show:
        found = cellscale.track(image, backend=backend(serial), on_progress=show, **options)
    if as_json:
        click.echo(json_text(found.to_dict(), indent=1))
        return
    out.print(
        f"{found.layer}: {counted(found.tracks, 'track')} of {counted(found.objects, 'object')} in "
        f"{counted(found.frames, 'frame')}, {counted(found.divisions, 'division')}, {counted(found.gaps, 'gap')}"
        + (f"; {counted(found.failed_regions, 'region')} not segmented" if found.failed_regions else "")
    )


@click.command("score-tracks")
@click.argument("image")
@layer_option
@click.option("--ground-truth", default="truth", show_default=True, help="Layer of true tracks.")
@click.option("--ground-truth-store", help="Store of the ground truth. [default: the image's own]")
@click.option("--ground-truth-tracks", help="Table of true tracks, man_track.txt. [default: the layer's object table]")
@click.option("--frames", type=FRAMES, help="Half-open range of frames. [default: all]")
@as_json
@storage_options
@click.pass_obj
def score_tracks_command(quiet: bool, /, image: str, as_json: bool, **options: Any) -> None:
    """Score a layer of tracks of IMAGE by the measures of the Cell Tracking Challenge."""
    with progress(quiet) as show:
        scores = cellscale.evaluate_tracks(image, on_progress=show, **options)
    if as_json:
        click.echo(json_text(scores, indent=1))
    else:
        print_scores(scores)


@click.command("export-ctc")
@click.argument("image")
@click.option(
    "--output",
    required=True,
    help="Empty folder for the masks and res_track.txt, any fsspec URL.",
)
@layer_option
@as_json
@storage_options
@click.pass_obj
def export_ctc_command(quiet: bool, /, image: str, output: str, as_json: bool, **options: Any) -> None:
    """Write a layer of tracks of IMAGE as a folder of the Cell Tracking Challenge. Repeat the command after a stop."""
    with progress(quiet) as show:
        tracks = cellscale.export_ctc(image, output, on_progress=show, **options)
    click.echo(json_text({"tracks": tracks, "output": output}) if as_json else f"{counted(tracks, 'track')} → {output}")


@click.command("export-geff")
@click.argument("image")
@click.option("--output", required=True, help="Folder of the graph, on this machine; it must be empty.")
@layer_option
@as_json
@storage_options
def export_geff_command(image: str, output: str, as_json: bool, **options: Any) -> None:
    """Write the tracks of a layer of IMAGE as a GEFF graph."""
    nodes = cellscale.export_geff(image, output, **options)
    click.echo(json_text({"nodes": nodes, "output": output}) if as_json else f"{counted(nodes, 'object')} → {output}")


@click.command("draw-lineage")
@click.argument("image")
@click.option("--output", default="lineage.png", show_default=True, help="The picture, .png or .svg, any fsspec URL.")
@layer_option
@click.option("--families", type=click.IntRange(min=1), default=60, show_default=True, help="Most families to draw.")
@as_json
@storage_options
def draw_lineage_command(image: str, output: str, as_json: bool, **options: Any) -> None:
    """Draw the tracks of a layer of IMAGE over time, with their divisions."""
    tracks = cellscale.draw_lineage(image, output, **options)
    click.echo(json_text({"tracks": tracks, "output": output}) if as_json else f"{counted(tracks, 'track')} → {output}")


COMMANDS = (track_command, score_tracks_command, export_ctc_command, export_geff_command, draw_lineage_command)
