"""Draw seeds, contours at five moments and the final cells of one frame, with a trained Multi-CellNet."""

import argparse
from dataclasses import replace

import matplotlib as mpl
import numpy as np

from cellscale.methods.inference import windows_to_maps
from cellscale.metrics.contours import rims
from cellscale.models.model import load_model
from cellscale.ngff.image import open_image
from cellscale.training.crops import mapped
from cellscale.types import Box

MOMENTS = (0, 5, 15, 40, 400)
"""Iterations that are drawn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--frame", type=int, default=78)
    arguments = parser.parse_args()
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    model, opened = load_model(arguments.model), open_image(arguments.image)
    box = Box(0, 0, opened.size("y") // 16 * 16, opened.size("x") // 16 * 16)
    image = mapped(opened.read(box, t=arguments.frame, z=0)[:1], model.method.intensity)
    maps = windows_to_maps(model.method, model.networks, image[None])[0]
    figure, axes = plt.subplots(2, 3, figsize=(12, 8.6), layout="constrained")
    axes = axes.ravel()
    for axis, moment in zip(axes, MOMENTS, strict=False):
        balloon = model.method.balloon
        stopped = replace(balloon, motion=replace(balloon.motion, iterations=moment))
        contours = replace(model.method, balloon=stopped).contours(maps, box)
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        for a, b, owner in zip(contours.starts[:-1], contours.starts[1:], contours.owners, strict=True):
            if b > a:
                y, x = (contours.points[a:b] + contours.origins[owner]).T
                axis.plot(np.append(x, x[0]), np.append(y, y[0]), color="tab:orange", linewidth=1)
        axis.set_title(f"after {moment} iterations" if moment else "seeds")
    cells = model.method.decode(maps, box).labels.astype(np.uint32)
    axes[-1].imshow(np.where(rims(cells), 1.0, image[0]), cmap="gray", vmin=0, vmax=1)
    axes[-1].set_title("cells")
    for axis in axes:
        axis.axis("off")
    figure.savefig(arguments.output, dpi=75)


if __name__ == "__main__":
    main()
