"""Commands for looking: view."""

from __future__ import annotations

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
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, as the browser reaches it.")
@click.option("--port", type=int, default=0, help="Of the page; the stores have the next one. Any two where left out.")
@storage_options
def view_command(image: str, napari: bool, no_browser: bool, host: str, port: int, **options: Any) -> None:
    """Show IMAGE and its label layers in neuroglancer, or in napari, until Ctrl-C."""
    options["labels"] = options["labels"] or None
    if napari:
        cellscale.view_in_napari(image, **options)
        return
    with cellscale.view(image, host=host, port=port, **options) as page:
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


COMMANDS = (view_command,)
