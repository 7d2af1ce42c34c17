"""Draw the weights of equation 3 of Lin and Norouzi (2021) for several σ and α, as their figures 2 and 3.

Run `python benchmarks/boundary_weights.py docs/images/boundary-weights.png`.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from cellscale.methods.parts.class_balance import foreground
from cellscale.methods.shape_aware_loss import MaskLoss
from cellscale.sources.synthetic import Scene
from cellscale.types import Box

CHOICES = [(10.0, 2.0), (10.0, 5.0), (10.0, 10.0), (5.0, 5.0), (20.0, 5.0)]


def main(path: str) -> None:
    labels = Scene(shape=(1, 160, 160), cells=22, radius_px=13, seed=3).labels(0, Box(0, 0, 160, 160))
    figure, axes = plt.subplots(1, len(CHOICES) + 1, figsize=(12, 2.4), layout="constrained")
    axes[0].imshow(np.where(labels > 0, labels % 7 + 2, 0), cmap="viridis")
    axes[0].set_title("cells")
    for axis, (alpha, sigma) in zip(axes[1:], CHOICES, strict=True):
        loss = MaskLoss(alpha=alpha, sigma=sigma).fit_statistics([labels], foreground)
        shown = axis.imshow(loss.weights(labels), cmap="magma", vmin=0, vmax=22)
        axis.set_title(f"α = {alpha:.0f}, σ = {sigma:.0f} px")
    figure.colorbar(shown, ax=axes[1:], shrink=0.8)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1])
