"""A plate as ngio opens it: python -m tests.api.ngio_plate PLATE OUT.npz saves the labels `cells` of every image."""

from __future__ import annotations

import sys

import ngio
import numpy as np


def main(url: str, out: str) -> None:
    plate = ngio.open_ome_zarr_plate(url)
    found = {}
    for path in plate.images_paths():
        row, column, field = path.split("/")
        image = plate.get_image(row, column, field)
        if "cells" in image.list_labels():
            found[path] = np.squeeze(image.get_label("cells").get_array())
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
