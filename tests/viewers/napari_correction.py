"""Napari's own tools on a correction: python -m tests.viewers.napari_correction STORE; no window is opened."""

from __future__ import annotations

import sys

from napari.components import ViewerModel

from cellscale.viewers.corrections import correction_of
from cellscale.viewers.napari import add_correction, add_layers
from cellscale.viewers.scenes import scene


def main(store: str) -> None:
    viewer, shown = ViewerModel(), scene(store, frame=1)
    add_layers(viewer, shown)
    correction = correction_of(shown.image, shown.labels[0], "by-hand")
    layer = add_correction(viewer, correction)
    viewer.dims.set_current_step(0, 1)
    layer.n_edit_dimensions, layer.brush_size = 2, 5
    layer.paint((1, 10, 12), 777)
    layer.undo()
    assert correction.frames() == []
    layer.redo()
    viewer.dims.set_current_step(0, 2)
    old = int(correction[2].max())
    y, x = (correction[2] == old).nonzero()
    layer.fill((2, int(y[0]), int(x[0])), 778)
    assert correction.save()


if __name__ == "__main__":
    main(*sys.argv[1:])
