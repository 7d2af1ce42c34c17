"""A napari window: python -m tests.viewers.napari_window STORE OUT.npz READER FRAME; READER is plugin or cellscale."""

from __future__ import annotations

import sys
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from cellscale.viewers.napari import add_layers
from cellscale.viewers.scenes import scene


def canvas(viewer: napari.Viewer, *, window: bool = False) -> NDArray[np.uint8]:
    for _ in range(20):
        QApplication.processEvents()
    return np.asarray(viewer.screenshot(canvas_only=not window, flash=False))[..., :3]


def save(viewer: napari.Viewer, out: str) -> None:
    """Save the canvas with the last layer and without, the place of the frame on it, and the paths of tracks; close."""
    listed = [(type(layer).__name__, layer.name, layer.visible) for layer in viewer.layers]
    last = viewer.layers[-1]
    last.visible = True
    viewer.reset_view()
    shot, window = canvas(viewer), canvas(viewer, window=True)
    last.visible = False
    y, x = viewer.camera.center[-2:]
    paths: dict[str, Any] = {}
    if isinstance(last, napari.layers.Tracks):
        paths = {"points": last.data, "graph": np.array([last.graph[track][0] for track in sorted(last.graph)])}
    np.savez(
        out,
        canvas=shot,
        bare=canvas(viewer),
        window=window,
        layers=np.array([" ".join(map(str, entry)) for entry in listed]),
        centre_um=np.array([y, x]),
        zoom=viewer.camera.zoom,
        **paths,
    )
    viewer.close()


def main(store: str, out: str, reader: str, frame: str) -> None:
    viewer = napari.Viewer()
    viewer.window.resize(1100, 800)
    if reader == "plugin":
        viewer.open(store, plugin="napari-ome-zarr")
        viewer.dims.set_current_step(0, int(frame))
    else:
        add_layers(viewer, scene(store, frame=int(frame)))
    save(viewer, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
