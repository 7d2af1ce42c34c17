"""How much the labels of a method depend on its windows: share of cells that agree with one window over the frame.

Run `python benchmarks/windows.py MODEL MOVIE.zarr --frames 72 73 --cores 256 --overlaps 64 128 192`. Cells agree if
their common area is at least 0.9 of their joint area; the share is 2 · agreeing / (cells of either).
"""

import argparse

import numpy as np

from cellscale.methods.inference import windows_to_maps
from cellscale.models.model import Model, load_model
from cellscale.ngff.image import open_image
from cellscale.settings.fields import replaced
from cellscale.tiling.candidates import SEAM_PX, gathered, owned
from cellscale.tiling.in_memory import whole_frame
from cellscale.tiling.windows import cut, windows_of
from cellscale.training.crops import mapped
from cellscale.types import Box, Candidates, Labels


def labels_of(model: Model, frame: np.ndarray, core: int) -> tuple[Labels, int]:
    """Labels by windows of a core, and how often a limit was reached."""
    method = model.method
    shape = (frame.shape[1], frame.shape[2])
    windows = windows_of(method, shape, core)
    parts, reached = [], 0
    for number in range(len(windows)):
        image = cut(frame, windows.window_box(number))
        (found,) = windows_to_maps(method, model.networks, image[None], precision="fp32")
        assert isinstance(found, Candidates)
        parts.append(owned(found, windows, number, seam=SEAM_PX))
        reached += sum(map(bool, found.reached.values()))
    return whole_frame(method, gathered(parts, shape)), reached


def agreeing(one: Labels, other: Labels) -> tuple[int, int]:
    """Number of pairs that agree, and of cells in both."""
    pairs, common = np.unique(
        np.stack([one[(one > 0) & (other > 0)], other[(one > 0) & (other > 0)]]), axis=1, return_counts=True
    )
    areas = [np.bincount(labels.ravel()) for labels in (one, other)]
    joint = areas[0][pairs[0]] + areas[1][pairs[1]] - common
    cells = sum(int((area[1:] > 0).sum()) for area in areas)
    return int((common >= 0.9 * joint).sum()), cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--frames", type=int, nargs="*", default=[0])
    parser.add_argument("--cores", type=int, nargs="*", default=[256])
    parser.add_argument("--overlaps", type=int, nargs="*", default=[64, 128, 192, 256])
    chosen = parser.parse_args()
    model, image = load_model(chosen.model), open_image(chosen.image)
    box = Box(0, 0, image.size("y"), image.size("x"))
    frames = [
        mapped(image.read(box, t=t, z=0, channels=range(model.method.channels)), model.method.intensity)
        for t in chosen.frames
    ]
    whole = [labels_of(model, frame, 64 * -(-max(frame.shape) // 64)) for frame in frames]
    cells, limits = sum(int(labels.max()) for labels, _ in whole), sum(reached for _, reached in whole)
    print(f"whole frames: {cells} cells, limits reached {limits} times")
    print(f"{'core':>6s} {'overlap':>8s} {'cells':>6s} {'agree':>6s} {'limits':>7s}")
    for core in chosen.cores:
        for overlap in chosen.overlaps:
            changed = Model(method=replaced(model.method, {"overlap": overlap}), networks=model.networks)
            parts = [labels_of(changed, frame, core) for frame in frames]
            found = np.array([agreeing(a, b) for (a, _), (b, _) in zip(whole, parts, strict=True)]).sum(axis=0)
            cells = sum(int(labels.max()) for labels, _ in parts)
            print(f"{core:6d} {overlap:8d} {cells:6d} {2 * found[0] / found[1]:6.3f} {sum(r for _, r in parts):7d}")


if __name__ == "__main__":
    main()
