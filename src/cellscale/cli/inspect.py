"""Commands that inspect and measure results: evaluate, measure, table, preview, view."""

from __future__ import annotations

import dataclasses
import threading
import webbrowser
from typing import Any

import click

import cellscale
from cellscale.cli.terminal import (
    FRAMES,
    as_json,
    check_for_one_image,
    check_not_given,
    counted,
    out,
    print_scores,
    progress,
    several_images,
    storage_options,
    wells,
)
from cellscale.storage.folder import check_file, write_file
from cellscale.storage.json_text import json_text
from cellscale.storage.outputs import check_ending


@click.command("evaluate")
@click.argument("image")
@click.option("--layer", default="cells", show_default=True, help="Layer to score.")
@click.option("--ground-truth", default="truth", show_default=True, help="Layer to score against.")
@click.option("--ground-truth-store", help="Store of the ground truth. [default: the image's own]")
@click.option("--frames", type=FRAMES, help="Half-open range of frames. [default: all with ground truth]")
@click.option(
    "--ignore-label", type=click.IntRange(min=0), default=0, help="Label of pixels that were not annotated: not scored."
)
@click.option("--output", help="File to write the scores to, .json; any fsspec URL.")
@wells
@as_json
@storage_options
def evaluate_command(image: str, output: str | None, as_json: bool, wells: str | None, **options: Any) -> None:
    """Score a label layer of IMAGE, or of all images of a plate or collection, against the ground truth."""
    several = several_images(image, wells, options)
    if several:
        check_for_one_image("ground_truth_store")
    if output:
        check_ending(output, "file of scores", ".json")
        read = [image, *filter(None, [options["ground_truth_store"]])]
        check_file(output, read, options["storage_options"])
    if several:
        del options["ground_truth_store"]
        from cellscale.api import plate_results

        scores = plate_results.evaluate_plate(image, wells=wells, **options).to_dict()
    else:
        scores = cellscale.evaluate(image, **options).to_dict()
    if output:
        write_file(output, json_text(scores, indent=1).encode(), options["storage_options"])
    if as_json:
        click.echo(json_text(scores, indent=1))
    else:
        print_scores({name: value for name, value in scores.items() if name != "images"})


@click.command("table")
@click.argument("image")
@click.option("--layer", default="cells", show_default=True, help="Layer whose objects are written.")
@click.option(
    "--output",
    help="File: .csv, .parquet, or .h5ad and .zarr for AnnData. Any fsspec URL; .zarr on this machine. "
    "[default: objects.csv]",
)
@click.option("--ngio", is_flag=True, help="Write a feature table of ngio into the image instead of a file.")
@click.option("--name", help="With --ngio: name of the table. [default: that of the layer]")
@click.option("--overwrite", is_flag=True, help="With --ngio: replace a table that cellscale has written.")
@click.option("--json", "as_json", is_flag=True, help="Print the number of rows as JSON.")
@wells
@storage_options
def table_command(
    image: str, output: str | None, ngio: bool, as_json: bool, wells: str | None, overwrite: bool, **options: Any
) -> None:
    """Write the object table of a label layer of IMAGE, or of all images of a plate or collection, for other programs.

    The ending of the output chooses the format. With --ngio, each image gets a table of its own.
    """
    from cellscale.api import plate_results

    name = options.pop("name")
    if ngio and output:
        raise click.UsageError("--ngio writes into the image; omit --output.")
    if not ngio and (name or overwrite):
        raise click.UsageError("--name and --overwrite are options of --ngio.")
    several, output = several_images(image, wells, options), output or "objects.csv"
    if ngio:
        output, options = f"tables/{name or options['layer']}", {**options, "name": name, "overwrite": overwrite}
        rows = (
            plate_results.export_plate_ngio(image, wells=wells, **options)
            if several
            else cellscale.export_ngio(image, **options)
        )
    elif several:
        rows = plate_results.export_plate_table(image, output, wells=wells, **options)
    else:
        rows = cellscale.export_table(image, output, **options)
    click.echo(json_text({"rows": rows, "output": output}) if as_json else f"{counted(rows, 'object')} → {output}")


@click.command("measure")
@click.argument("image")
@click.option("--layer", required=True, help="Label layer to measure, made by any program.")
@click.option("--layer-store", help="Store that holds the layer. [default: the image's own]")
@click.option("--frames", type=FRAMES, help="Half-open range of frames. [default: all with labels]")
@click.option("--overwrite", is_flag=True, help="Replace the layer's object table.")
@wells
@as_json
@storage_options
@click.pass_obj
def measure_command(quiet: bool, /, image: str, as_json: bool, wells: str | None, **options: Any) -> None:
    """Make the object table of a label layer of IMAGE: area, place and mean intensities of each object."""
    with progress(quiet) as show:
        if several_images(image, wells, options):
            check_for_one_image("layer_store")
            from cellscale.api import plate_results

            rows = plate_results.measure_plate(image, wells=wells, on_progress=show, **options)
        else:
            rows = cellscale.measure(image, on_progress=show, **options)
    click.echo(json_text({"rows": rows}) if as_json else f"{counted(rows, 'object')} of layer {options['layer']}")


@click.command("preview")
@click.argument("image")
@click.option("--output", default="preview.png", show_default=True, help="The picture, .png; any fsspec URL.")
@click.option("--layer", help="Layer to show. [default: the last one that is not the ground truth]")
@click.option("--ground-truth", default="truth", show_default=True, help="Layer to compare with, if it exists.")
@click.option("--labels-store", help="Another store with label layers of IMAGE.")
@click.option("--frame", "frames", type=click.IntRange(min=0), multiple=True, help="Frame to draw; may be repeated.")
@click.option(
    "--count", type=click.IntRange(min=1), default=4, show_default=True, help="Number of frames, if none is named."
)
@click.option("--channel", type=click.IntRange(min=0), default=0, show_default=True, help="Channel to draw.")
@click.option("--slice", "z", type=click.IntRange(min=0), default=0, show_default=True, help="Slice to draw.")
@click.option(
    "--longest", type=click.IntRange(min=16), default=1024, show_default=True, help="Longest side that is read, px."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was drawn as JSON.")
@wells
@storage_options
def preview_command(image: str, as_json: bool, wells: str | None, **options: Any) -> None:
    """Draw frames of IMAGE, labels, outlines and false negatives, false positives, splits and merges as one PNG.

    For a plate or collection, draw the number of cells of each well.
    """
    if several_images(image, wells, options):
        check_for_one_image("ground_truth", "labels_store", "frames", "count", "channel", "z", "longest")
        chosen = {name: options[name] for name in ("output", "storage_options")}
        from cellscale.api import plate_results

        counts = plate_results.plate_overview(image, wells=wells, layer=options["layer"] or "cells", **chosen)
        what = "well" if any("/" in name for name in counts) else "image"
        click.echo(json_text(counts, indent=1) if as_json else f"{options['output']}: {counted(len(counts), what)}")
        return
    drawn = cellscale.preview(image, **{**options, "frames": options["frames"] or None})
    if as_json:
        click.echo(json_text(dataclasses.asdict(drawn), indent=1))
    else:
        out.print(f"{drawn.picture}: frames {', '.join(map(str, drawn.frames))}, level {drawn.level}")


@click.command("view")
@click.argument("image")
@click.option("--layer", "layers", multiple=True, metavar="NAME", help="Layer to show; may be repeated. [default: all]")
@click.option("--labels-store", help="Another store with label layers of IMAGE.")
@click.option("--frame", type=click.IntRange(min=0), help="First frame to show. [default: the first with labels]")
@click.option("--slice", "z", type=click.IntRange(min=0), default=0, show_default=True, help="First slice to show.")
@click.option("--napari", is_flag=True, help="Open a napari window instead of a page in the browser.")
@click.option(
    "--correct", metavar="LAYER", help="Correct this layer with --napari; changed frames are saved at the end."
)
@click.option("--save-as", metavar="NAME", help="Layer that gets the corrected frames. [default: LAYER-corrected]")
@click.option("--painted", metavar="FILE", help="With --correct: file of an earlier call that could not save.")
@click.option("--no-browser", is_flag=True, help="Print the link and open nothing.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option(
    "--port",
    type=int,
    default=0,
    help="Port of the viewer page; the data server uses PORT+1. [default: any free ports]",
)
@wells
@storage_options
def view_command(
    image: str, napari: bool, no_browser: bool, host: str, port: int, wells: str | None, **options: Any
) -> None:
    """Show IMAGE and its label layers in neuroglancer, or in napari, until Ctrl-C.

    For a plate or collection, show the first image, or the first one of the chosen wells.
    """
    correction = {name: options.pop(name) for name in ("correct", "save_as", "painted")}
    if any(correction.values()) and not (napari and correction["correct"]):
        raise click.UsageError("Labels are corrected in napari: --napari --correct LAYER, with --save-as NAME or not.")
    if napari:
        check_not_given("no_browser", "host", "port", why="is for the page in the browser; omit it with --napari")
    images = cellscale.plate_images(image, wells=wells, storage_options=options["storage_options"])
    if len(images) > 1:
        image = next(iter(images.values()))
        click.echo(f"cellscale: shows {image}, the first of {len(images)} images; choose with --wells", err=True)
    elif wells:
        image = next(iter(images.values()))
    shown = cellscale.scene(image, **{**options, "layers": options["layers"] or None})
    if napari:
        frames = cellscale.view_in_napari(shown, **correction)
        if frames is not None:
            layer = correction["save_as"] or f"{correction['correct']}-corrected"
            out.print(f"{counted(len(frames), 'corrected frame')} → {layer}")
        return
    with cellscale.view(shown, host=host, port=port) as page:
        out.print(page.url)
        if not no_browser:
            webbrowser.open(page.url)
        if page.here:
            out.print("Ctrl-C ends the view.")
            _wait()


def _wait() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return


COMMANDS = (evaluate_command, measure_command, table_command, preview_command, view_command)
