"""Commands for looking: view, preview."""

from __future__ import annotations

import dataclasses
import json
import threading
import webbrowser
from typing import Any

import click

import cellscale
from cellscale.cli.terminal import out, storage_options


@click.command("view")
@click.argument("image")
@click.option("--labels", multiple=True, metavar="NAME", help="Layer to show, may be repeated; all where left out.")
@click.option("--labels-store", help="Another store that holds label layers of IMAGE.")
@click.option("--frame", type=click.IntRange(min=0), help="Frame to begin with; the first one that has labels.")
@click.option("--slice", "z", type=click.IntRange(min=0), default=0, show_default=True, help="Slice to begin with.")
@click.option("--napari", is_flag=True, help="Open a napari window instead of a page in the browser.")
@click.option("--no-browser", is_flag=True, help="Print the link, open nothing.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option("--port", type=int, default=0, help="Of the page; the stores have the next one. Any two where left out.")
@storage_options
def view_command(image: str, napari: bool, no_browser: bool, host: str, port: int, **options: Any) -> None:
    """Show IMAGE and its label layers in neuroglancer, or in napari, until Ctrl-C."""
    shown = cellscale.scene(image, **{**options, "labels": options["labels"] or None})
    if napari:
        cellscale.view_in_napari(shown)
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


@click.command("preview")
@click.argument("image")
@click.option("--output", default="preview.png", show_default=True, help="The PNG, any fsspec URL.")
@click.option("--labels", help="Layer to show; the last one that is not the truth.")
@click.option("--truth", default="truth", show_default=True, help="Layer to compare with, where there is one.")
@click.option("--labels-store", help="Another store that holds label layers of IMAGE.")
@click.option("--frame", "frames", type=click.IntRange(min=0), multiple=True, help="Frame to draw, may be repeated.")
@click.option("--count", type=click.IntRange(min=1), default=4, show_default=True, help="Frames, where none is named.")
@click.option("--channel", type=click.IntRange(min=0), default=0, show_default=True, help="Channel to draw.")
@click.option("--slice", "z", type=click.IntRange(min=0), default=0, show_default=True, help="Slice to draw.")
@click.option("--longest", type=click.IntRange(min=16), default=1024, show_default=True, help="Longest side read, px.")
@click.option("--json", "as_json", is_flag=True, help="Print what was drawn as JSON.")
@storage_options
def preview_command(image: str, as_json: bool, **options: Any) -> None:
    """Draw frames of IMAGE, labels, outlines and what was missed, split, merged or spurious, as one PNG."""
    drawn = cellscale.preview(image, **{**options, "frames": options["frames"] or None})
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(drawn), indent=1))
    else:
        out.print(f"{drawn.picture}: frames {', '.join(map(str, drawn.frames))}, level {drawn.level}")


COMMANDS = (view_command, preview_command)
