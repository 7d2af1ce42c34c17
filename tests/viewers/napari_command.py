"""A command that opens a napari window: python -m tests.viewers.napari_command OUT.npz WORD …, the command's words.

When the window is there, saves the canvas with the labels and without, and closes it.
"""

from __future__ import annotations

import sys

import napari
from napari.qt import get_qapp
from qtpy.QtCore import QTimer

from cellscale.cli.main import cli
from tests.viewers.napari_window import save


def main(out: str, *words: str) -> None:
    get_qapp()
    # The event loop that the command starts calls it.
    QTimer.singleShot(0, lambda: save(napari.current_viewer(), out))
    cli(words)


if __name__ == "__main__":
    main(*sys.argv[1:])
