"""Tracks in a napari window: python -m tests.viewers.napari_tracks STORE OUT.npz.

Saves the canvas with the paths of tracks and without, and the points and the graph that they are drawn from.
"""

from __future__ import annotations

import sys

import napari
import numpy as np

from cellscale.viewers.napari import add_layers
from cellscale.viewers.scenes import scene
from tests.viewers.napari_window import canvas


def main(store: str, out: str) -> None:
    viewer = napari.Viewer()
    viewer.window.resize(1100, 800)
    add_layers(viewer, scene(store, frame=2))
    listed = [(type(layer).__name__, layer.name, layer.visible) for layer in viewer.layers]
    viewer.reset_view()
    tracks = viewer.layers[-1]
    shot, window = canvas(viewer), canvas(viewer, window=True)
    tracks.visible = False
    y, x = viewer.camera.center[-2:]
    np.savez(
        out,
        canvas=shot,
        bare=canvas(viewer),
        window=window,
        layers=np.array([" ".join(map(str, entry)) for entry in listed]),
        points=tracks.data,
        graph=np.array([tracks.graph[track][0] for track in sorted(tracks.graph)]),
        centre_um=np.array([y, x]),
        zoom=viewer.camera.zoom,
    )
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
