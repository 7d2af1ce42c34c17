"""Commands that make images: import, synthesize, prepare."""

from __future__ import annotations

from typing import Any, Literal

import click

import cellscale
from cellscale.cli.terminal import FRAMES, as_json, backend, out, progress, ray_options, storage_options, with_options
from cellscale.storage.json_text import json_text


class _SeriesType(click.ParamType[int | Literal["all"]]):
    """The number of an image, or `all`."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number from 0, or `all`."""
        if value == "all" or isinstance(value, int):
            return value
        if str(value).isdecimal():
            return int(value)
        return self.fail(f"{value!r} is not the number of an image or all.", param, ctx)


SERIES = _SeriesType()


class _DarkType(click.ParamType[float | str]):
    """A number, or the place of an image."""

    name = "NUMBER|IMAGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number where it is one."""
        try:
            return float(value)
        except ValueError:
            return str(value)


DARK = _DarkType()


@click.command("import")
@click.argument("source")
@click.argument("destination")
@click.option("--masks", help="Instance masks of the same frames: a TIFF stack or folder, a CTC folder, npz or npy.")
@click.option("--layer", default="truth", show_default=True, help="Name of the label layer for the masks.")
@click.option("--series", type=SERIES, help="Image to import from a source with several: its number, or all.")
@click.option(
    "--classes",
    type=click.Choice(["number", "keep"]),
    help="For masks whose numbers have several components, e.g. 0 and 255: make each one a cell, or keep the numbers.",
)
@click.option("--pixel-size", "pixel_size_um", type=float, help="Width of a pixel, µm. [default: from the file]")
@click.option("--z-step", "z_step_um", type=float, help="Distance between slices, µm. [default: from the file]")
@click.option(
    "--frame-interval", "frame_interval_s", type=float, help="Time between frames, s. [default: from the file]"
)
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
    """Import TIFF, CTC folders, npz, npy, nd2, lif or czi from SOURCE into a new OME-Zarr image DESTINATION."""
    with progress(quiet) as show:
        made = cellscale.import_images(source, destination, on_progress=show, **options)
    images = made if isinstance(made, tuple) else (made,)
    if as_json:
        described = [
            {"image": image.url, "shape": image.levels[0].shape, "axes": image.axes, "dtype": str(image.dtype)}
            for image in images
        ]
        click.echo(json_text(described if isinstance(made, tuple) else described[0], indent=1))
        return
    for image in images:
        size = " × ".join(map(str, image.levels[0].shape))
        out.print(f"{image.url}: {size} ({', '.join(image.axes)}), {image.dtype}")


@click.command("synthesize")
@click.argument("destination")
@click.option("--shape", required=True, help="Frames, height and width: T,Y,X.")
@click.option("--cells", type=click.IntRange(min=0), required=True, help="Number of cells at the first frame.")
@click.option(
    "--look",
    type=click.Choice(["fluorescence", "brightfield"]),
    default="fluorescence",
    show_default=True,
    help="Kind of microscopy.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
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
        click.echo(json_text({"image": destination, "shape": sizes, "axes": ["t", "y", "x"]}))
    else:
        out.print(f"{destination}: {' × '.join(map(str, sizes))} (t, y, x)")


@click.command("prepare")
@click.argument("image")
@click.argument("output")
@click.option("--flat-field", help="Divide by this image of an evenly lit field: a TIFF, an OME-Zarr image, npy.")
@click.option("--flat-field-um", type=float, help="Divide by the median over time, smoothed by a Gaussian of this σ.")
@click.option("--dark", type=DARK, default=0.0, help="Intensity without light, or an image of it. [default: 0]")
@click.option("--background-um", type=float, help="Subtract the background: σ of a Gaussian, or width of a median.")
@click.option(
    "--background-filter",
    type=click.Choice(["gaussian", "median"]),
    default="gaussian",
    show_default=True,
    help="How the background is estimated.",
)
@click.option(
    "--median-px", type=click.IntRange(min=0), default=0, help="Side of a median filter, odd. [default: none]"
)
@click.option("--gaussian-px", type=float, default=0.0, help="σ of a Gaussian filter against noise. [default: none]")
@click.option("--drift", is_flag=True, help="Move each frame onto the one before, by phase correlation.")
@click.option(
    "--z-projection", type=click.Choice(["max", "mean", "min", "median"]), help="Project all slices. [default: none]"
)
@click.option("--overwrite", is_flag=True, help="Replace an image at OUTPUT when the new one is complete.")
@with_options(*ray_options)
@as_json
@storage_options
@click.pass_obj
def prepare_command(quiet: bool, /, image: str, output: str, as_json: bool, serial: bool, **options: Any) -> None:
    """Correct shading, background, noise and drift of IMAGE; write the OME-Zarr image OUTPUT.

    The same command again resumes one that was stopped.
    """
    with progress(quiet) as show:
        url = cellscale.prepare(image, output, backend=backend(serial), on_progress=show, **options)
    click.echo(json_text({"image": url}) if as_json else url)


COMMANDS = (import_command, synthesize_command, prepare_command)
