"""A napari window: python -m tests.viewers.napari_window STORE OUT.npz READER, READER being plugin or cellscale.

Saves the canvas with the labels, and with the image alone, and where the frame lies on it.
"""

from __future__ import annotations

import sys

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


def main(store: str, out: str, reader: str) -> None:
    viewer = napari.Viewer()
    viewer.window.resize(1100, 800)
    if reader == "plugin":
        viewer.open(store, plugin="napari-ome-zarr")
        viewer.dims.set_current_step(0, 1)
    else:
        add_layers(viewer, scene(store, frame=1))
    listed = [(type(layer).__name__, layer.name, layer.visible) for layer in viewer.layers]
    for layer in viewer.layers:
        layer.visible = True
    viewer.reset_view()
    shot, window = canvas(viewer), canvas(viewer, window=True)
    viewer.layers[-1].visible = False
    y, x = viewer.camera.center[-2:]
    np.savez(
        out,
        canvas=shot,
        bare=canvas(viewer),
        window=window,
        layers=np.array([" ".join(map(str, entry)) for entry in listed]),
        centre_um=np.array([y, x]),
        zoom=viewer.camera.zoom,
    )
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
