"""Commands that make images: import, synthesize."""

from __future__ import annotations

import json
from typing import Any

import click

import cellscale
from cellscale.cli.terminal import FRAMES, as_json, out, progress, storage_options


@click.command("import")
@click.argument("source")
@click.argument("destination")
@click.option("--masks", help="Instance masks of the same frames: a TIFF stack or folder, a CTC folder, npz or npy.")
@click.option("--layer", default="truth", show_default=True, help="Name of the label layer for the masks.")
@click.option("--pixel-size", type=float, help="Width of a pixel, µm.")
@click.option("--frame-interval", type=float, help="Time between two frames, s.")
@click.option(
    "--ome-zarr-version", type=click.Choice(["0.4", "0.5"]), default="0.5", show_default=True, help="Version to write."
)
@click.option("--frames", type=FRAMES, help="Half-open range of frames.")
@click.option("--axes", help="Axes of the source, e.g. tyx or czyx.")
@click.option("--overwrite", is_flag=True, help="Replace an existing destination.")
@as_json
@storage_options
@click.pass_obj
def import_command(quiet: bool, /, source: str, destination: str, as_json: bool, **options: Any) -> None:
    """Import TIFF, CTC folders, npz or npy from SOURCE into a new OME-Zarr image DESTINATION."""
    with progress(quiet) as show:
        image = cellscale.import_images(
            source,
            destination,
            masks=options["masks"],
            layer=options["layer"],
            pixel_size_um=options["pixel_size"],
            frame_interval_s=options["frame_interval"],
            ome_zarr_version=options["ome_zarr_version"],
            frames=options["frames"],
            axes=options["axes"],
            overwrite=options["overwrite"],
            storage_options=options["storage_options"],
            on_progress=show,
        )
    if as_json:
        told = {"image": image.url, "shape": image.levels[0].shape, "axes": image.axes, "dtype": str(image.dtype)}
        click.echo(json.dumps(told, indent=1))
        return
    out.print(f"{destination}: {' × '.join(map(str, image.levels[0].shape))} ({', '.join(image.axes)}), {image.dtype}")


@click.command("synthesize")
@click.argument("destination")
@click.option("--shape", required=True, help="Frames, height and width: T,Y,X.")
@click.option("--cells", type=click.IntRange(min=0), required=True, help="Number of cells at the first frame.")
@click.option("--look", type=click.Choice(["fluorescence", "brightfield"]), default="fluorescence", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--ome-zarr-version", type=click.Choice(["0.4", "0.5"]), default="0.5", show_default=True, help="Version to write."
)
@click.option("--landmarks", is_flag=True, help="Add combs, corner diagonals and cells larger than a tile.")
@click.option("--overwrite", is_flag=True, help="Replace an existing destination.")
@as_json
@storage_options
@click.pass_obj
def synthesize_command(quiet: bool, /, destination: str, shape: str, as_json: bool, **options: Any) -> None:
    """Write a synthetic time-lapse with exact labels to DESTINATION."""
    try:
        sizes = tuple(int(part) for part in shape.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 3:
        raise click.BadParameter(
            f"{shape!r} is not a valid shape; expected T,Y,X, e.g. 10,512,512.", param_hint="--shape"
        )
    with progress(quiet) as show:
        cellscale.synthesize(destination, shape=sizes, on_progress=show, **options)
    if as_json:
        click.echo(json.dumps({"image": destination, "shape": sizes, "axes": ["t", "y", "x"]}))
    else:
        out.print(f"{destination}: {' × '.join(map(str, sizes))} (t, y, x)")


COMMANDS = (import_command, synthesize_command)
