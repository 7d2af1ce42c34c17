"""Multi-CellNet beyond conformance: the min–max weight, contours through tiles, clusters of cells."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import cellscale
from cellscale.errors import RunError
from cellscale.kernels.contours.evolve import Motion
from cellscale.methods import load_method
from cellscale.methods.multicellnet import EpochWeight, dice, edges, min_max_weight
from cellscale.models.model import Model
from cellscale.networks.unet import UNetShape
from cellscale.ngff.labels import open_labels
from cellscale.testing.cases import CASES, disc, painted
from cellscale.testing.conformance import jaccard_indices
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.types import Box, Mask

LEVELS = (40, 90, 130, 180, 220)


def small(radius: int = 4, extent: int = 6, fill: int = 2, **changes: Any) -> Any:
    """The method with contours that look no farther than a test's frame."""
    method: Any = load_method("multicellnet", radius=radius, extent=extent, fill=fill, smallest=2, largest=20)
    seeding = replace(method.seeding, levels=LEVELS)
    balloon = replace(method.balloon, motion=Motion(iterations=30))
    return replace(method, seeding=seeding, balloon=balloon, **changes)


def random_maps(shape: tuple[int, int], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    maps = {}
    for name, centre in (("region", 150), ("edge", 60)):
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.8, 3))
        maps[name] = np.clip(centre + 90 * noise / max(noise.std(), 1e-9), 0, 255).astype(np.uint8)
    return maps


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    size=st.integers(5, 40),
    reaches=st.tuples(st.integers(2, 6), st.integers(2, 8), st.integers(0, 3)),
    minimum_area=st.sampled_from([0, 12]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_tiling_gives_the_whole_frames_labels(
    shape: tuple[int, int], size: int, reaches: Any, minimum_area: int, seed: int
) -> None:
    radius, extent, fill = reaches
    method = small(radius, extent, fill, minimum_area=minimum_area)
    maps = random_maps(shape, seed)
    assert np.array_equal(tiled_frame(method, maps, size), whole_frame(method, maps))


@pytest.mark.parametrize("case", sorted(CASES))
def test_named_counterexamples(case: str) -> None:
    method = small(radius=6, extent=24)
    maps = {
        name: np.rint(255 * values).astype(np.uint8) for name, values in method.perfect_prediction(CASES[case]).items()
    }
    whole = whole_frame(method, maps)
    for size in (16, 33):
        assert np.array_equal(tiled_frame(method, maps, size), whole)


def less_reach(method: Any, less: Any) -> Any:
    """The method, read with fewer pixels around a tile."""

    kind, reaches = type(method), replace(method.reaches, decode_reach=method.reaches.decode_reach - less)
    return type("Mutant", (kind,), {"reaches": reaches})(**{f.name: getattr(method, f.name) for f in fields(method)})


def breaks(method: Any, frames: Any) -> bool:
    for maps in frames:
        try:
            if not np.array_equal(tiled_frame(method, maps, 13), whole_frame(method, maps)):
                return True
        except RunError:
            return True
    return False


def every_distance_in_a_row() -> tuple[Any, dict[str, NDArray[np.uint8]]]:
    """Settings and maps in which the last pixel of a tile at column 52 depends on a pixel as far away as can be.

    A component to the left is one pixel too wide for a seed. Taken for one, it takes the leftmost pixel of the basin of
    the seed beside it (a tie). Without this pixel the seed's contour stands still sooner: before it has crept over the
    basin's rightmost pixel, from which the tile's last pixel is filled.
    """
    method = small(radius=4, extent=6, fill=2)
    left, right, leftwards, rightwards = 40, 45, (0.02, 0.3, 0.19, 0.008), (0.0047, 0.002, 0.08, 0.007)
    region, force = np.zeros((25, 65), np.uint8), np.zeros((25, 65))
    region[6:19, left - 5 : right + 5], region[12, right + 5 : right + 7] = 140, 140
    region[11:14, left : right + 1], region[12, left - 14 : left - 7] = 255, 220
    force[:, left : right + 1] = 0.5
    force[:, left - 4 : left], force[:, right + 1 : right + 5] = leftwards[::-1], rightwards
    edge = 255 * (1 - force * 255 / np.maximum(region, 1))
    seeding = replace(method.seeding, levels=(200, 250), map="region")
    motion = Motion(iterations=400, tolerance=0.024, stiffness=0.0, spacing=1.0)
    balloon = replace(method.balloon, still=0.0, full=0.5, motion=motion)
    maps = {"region": region, "edge": np.rint(np.clip(edge, 0, 255)).astype(np.uint8)}
    return replace(method, seeding=seeding, balloon=balloon), maps


@pytest.mark.parametrize("decoding", ["difference", "region"])
def test_decoding_without_contours_is_exact_too(decoding: str) -> None:
    assert not breaks(small(decoding=decoding), [random_maps((60, 60), seed) for seed in range(20)])


def test_a_tile_that_reads_one_pixel_too_little_breaks_the_promise() -> None:
    method, maps = every_distance_in_a_row()
    assert not breaks(method, [maps])
    assert breaks(less_reach(method, 1), [maps])


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_weighted_loss_is_the_norm_of_both_and_has_its_gradient(e1: Any, e2: Any) -> None:
    """E(λ*) = √(E1² + E2²), the greatest over λ, with the gradient of the norm although λ* has none."""
    losses = torch.tensor([e1, e2], dtype=torch.float64, requires_grad=True)
    weight = min_max_weight(*losses.detach())
    energy = weight * losses[0] + (1 - weight**2).sqrt() * losses[1]
    norm = np.hypot(e1, e2)
    assert energy.item() == pytest.approx(norm, abs=1e-9)
    others = np.linspace(0, 1, 101)
    assert (others * e1 + np.sqrt(1 - others**2) * e2).max() <= energy.item() + 1e-9
    if norm > 1e-6:
        (gradient,) = torch.autograd.grad(energy, losses)
        np.testing.assert_allclose(gradient.numpy(), np.array([e1, e2]) / norm, atol=1e-6)
    else:
        assert min_max_weight(torch.zeros(()), torch.zeros(())).item() == pytest.approx(0.5**0.5)


def test_the_edge_target_is_one_on_a_straight_outline_and_sees_cells_apart() -> None:
    labels = np.zeros((40, 80), np.uint32)
    labels[5:35, 8:40], labels[5:35, 40:72] = 1, 2
    edge = edges(labels, 2.0)
    middle = edge[20]
    assert middle[39] == pytest.approx(np.exp(-0.25 / 8), abs=0.02)
    assert middle[39] == middle[40]
    assert middle[24] < 0.01
    assert edges((labels > 0).astype(np.uint32), 2.0)[20, 39] < 0.01


def cluster_of_cells(seed: int) -> NDArray[np.uint32]:
    """Discs and ellipses of many sizes that touch or overlap a little, at least 7 px wide."""
    rng = np.random.default_rng(seed)
    shape = (120, 130)
    cells: list[Mask] = []
    rows, columns = np.indices(shape)
    for _ in range(14):
        y, x, a, b = rng.uniform(8, 112), rng.uniform(8, 122), rng.uniform(7, 17), rng.uniform(7, 17)
        cell = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1
        if all((cell & other).sum() < 0.12 * min(cell.sum(), other.sum()) for other in cells):
            cells.append(cell)
    return painted(*cells)


def test_a_perfect_edge_costs_nothing_and_printed_dice_cannot_say_so() -> None:
    """Unsquared, a soft target is not its own best match: λ* would fall by arithmetic, not by what was learned."""
    target = torch.from_numpy(edges(disc((64, 64), 32, 32, 14).astype(np.uint32), 2.0))[None]
    method: Any = load_method("multicellnet")
    assert method.squared
    assert 1 - dice(target, target, squared=True) == pytest.approx(0, abs=1e-6)
    best = min(float(1 - dice(target, (target > level / 50).float(), squared=False)) for level in range(50))
    assert best > 0.15
    assert float(1 - dice(target, target, squared=False)) > best


def test_a_weight_may_hold_for_an_epoch() -> None:
    """λ* of the mean losses of the batches before; in the first epoch both losses count the same."""
    weight = EpochWeight(2)
    found = []
    for e1, e2 in ((0.3, 0.1), (0.5, 0.5), (0.1, 0.9), (0.2, 0.2)):
        found.append(float(weight.weight))
        weight.add(torch.tensor(e1), torch.tensor(e2))
    assert found == pytest.approx([0.5**0.5, 0.5**0.5, 0.8, 0.8])
    method: Any = load_method("multicellnet", width=4, depth=1, lambda_every=3)
    assert method.stages()[0].updates[0].trains == ("region", "edge", "epoch")


@pytest.mark.parametrize("seeds", [range(k, k + 10) for k in range(0, 50, 10)])
def test_perfect_maps_of_random_clusters_give_the_cells_back(seeds: Any) -> None:
    frames = [cluster_of_cells(seed) for seed in seeds]
    method: Any = load_method("multicellnet").fit_statistics(frames)
    for truth in frames:
        maps = {
            name: np.rint(255 * values).astype(np.uint8) for name, values in method.perfect_prediction(truth).items()
        }
        found = whole_frame(method, maps)
        best = list(jaccard_indices(truth, found).values())
        assert min(best) > 0.5
        assert found.max() == truth.max()
        assert np.mean(best) >= 0.95


def test_cells_that_meet_with_their_tips_have_seeds_of_their_own() -> None:
    """Both edges are faint there, and together they are smaller than the third cell."""
    shape = (64, 130)
    rows, columns = np.indices(shape)
    tips = [((rows - 20) / 7) ** 2 + ((columns - x) / 17) ** 2 <= 1 for x in (20, 51)]
    labels = painted(*tips, disc(shape, 32, 100, 22))
    method: Any = load_method("multicellnet").fit_statistics([labels])
    perfect = method.perfect_prediction(labels)
    maps = {name: np.rint(255 * values).astype(np.uint8) for name, values in perfect.items()}
    assert min(jaccard_indices(labels, whole_frame(method, maps)).values()) > 0.95


def test_a_cell_larger_than_the_contours_may_be_is_flagged() -> None:
    maps = {"region": np.full((90, 90), 255, np.uint8), "edge": np.zeros((90, 90), np.uint8)}
    fragments = small().decode(maps, Box.of((90, 90)))
    assert len(fragments.anchors) == fragments.labels.max() == len(fragments.flags["cut"])
    assert fragments.flags["cut"].all()


def test_every_pixel_of_a_contour_is_joined_to_the_first_pixel_of_its_seed() -> None:
    labels = painted(disc((60, 60), 20, 20, 10), disc((60, 60), 40, 41, 9))
    method: Any = load_method("multicellnet").fit_statistics([labels])
    perfect = method.perfect_prediction(labels)
    maps = {name: np.rint(255 * values).astype(np.uint8) for name, values in perfect.items()}
    fragments = method.decode(maps, Box(10, 10, 60, 60))
    assert [labels[y + 10, x + 10] for y, x in fragments.anchors] == [1, 2]
    assert not fragments.flags["cut"].any()


@pytest.mark.parametrize(("coupling", "whole"), [("basins", "exact"), ("icy", "tiled")])
def test_a_layer_says_whether_its_labels_depend_on_tiles(tmp_path: Path, coupling: Any, whole: str) -> None:
    method = small(unet=UNetShape(width=2, depth=1))
    method = replace(method, balloon=replace(method.balloon, coupling=coupling))
    assert method.whole == whole
    assert replace(method, decoding="region").whole == "exact"
    torch.manual_seed(0)
    model = Model(method=method, networks={name: net.eval() for name, net in method.networks().items()})
    image = cellscale.save_image(np.random.default_rng(0).random((40, 50), np.float32), tmp_path / "i.zarr")
    cellscale.segment(image.url, model=model, tile_size=24, backend="serial")
    layer = open_labels(image.url, "cells")
    assert layer.metadata.get("whole", "exact") == whole
    report = Path(layer.url) / "report"
    assert json.loads((report / "report.json").read_text())["whole"] == whole
    assert ("no, they depend on the tiles" in (report / "report.html").read_text()) == (whole == "tiled")
