"""Tables of objects and overlaps: equal to a count pixel by pixel, for any tiling and in any order."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.linking.tables import object_sums, overlap_sums, whole_objects, whole_overlaps
from cellscale.types import Labels, Table

SHAPE = (23, 31)


def images(seed: int) -> tuple[Labels, Labels]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, (2, 6, 8)) * rng.integers(1, 1000, (2, 1, 1))
    fine = np.kron(coarse, np.ones((1, 4, 4), np.int64))[:, : SHAPE[0], : SHAPE[1]]
    return fine[0].astype(np.uint32), fine[1].astype(np.uint32)


def tiles(seed: int) -> list[tuple[slice, slice]]:
    """Rectangles of any size that cover the frame, in any order."""
    rng = np.random.default_rng(seed)
    rows, columns = (
        [0, *sorted(rng.choice(np.arange(1, side), rng.integers(0, 5), replace=False).tolist()), side] for side in SHAPE
    )
    made = [
        (slice(*rows[i : i + 2]), slice(*columns[j : j + 2]))
        for i in range(len(rows) - 1)
        for j in range(len(columns) - 1)
    ]
    return [made[i] for i in rng.permutation(len(made))]


def tabled(before: Labels, after: Labels, parts: list[tuple[slice, slice]], z: int = 0) -> tuple[Table, Table, Table]:
    objects = [
        whole_objects(
            [object_sums(plane[part], origin=(part[0].start, part[1].start), z=z, shape=SHAPE) for part in parts]
        )
        for plane in (before, after)
    ]
    pairs = whole_overlaps([overlap_sums(before[part], after[part]) for part in parts], *objects)
    return objects[0], objects[1], pairs


@given(seed=st.integers(0, 2**32), cuts=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_tiling_gives_the_counts_of_single_pixels(seed: int, cuts: int) -> None:
    before, after = images(seed)
    first, second, pairs = tabled(before, after, tiles(cuts), z=2)
    for plane, table in ((before, first), (after, second)):
        rows: dict[int, list[tuple[int, int]]] = {}
        for y, x in zip(*np.nonzero(plane), strict=True):
            rows.setdefault(int(plane[y, x]), []).append((int(y), int(x)))
        by_first = sorted(rows, key=lambda label: rows[label][0])
        assert table["label"].tolist() == by_first
        for at, label in enumerate(by_first):
            ys, xs = zip(*rows[label], strict=True)
            found = {name: int(column[at]) for name, column in table.items()}
            assert found == {
                "label": label,
                "area": len(ys),
                "sum_z": 2 * len(ys),
                "sum_y": sum(ys),
                "sum_x": sum(xs),
                "first": (2 * SHAPE[0] + ys[0]) * SHAPE[1] + xs[0],
                "y0": min(ys),
                "x0": min(xs),
                "y1": max(ys) + 1,
                "x1": max(xs) + 1,
            }
    naive = Counter((int(a), int(b)) for a, b in zip(before.flat, after.flat, strict=True) if a and b)
    labels = [table["label"][pairs[side]] for table, side in ((first, "a"), (second, "b"))]
    assert {(int(a), int(b)): int(n) for a, b, n in zip(*labels, pairs["pixels"], strict=True)} == naive


def test_planes_without_objects() -> None:
    nothing = np.zeros(SHAPE, np.uint32)
    for plane in (nothing, nothing + 1):
        first, second, pairs = tabled(nothing, plane, tiles(3))
        assert len(first["label"]) == len(pairs["pixels"]) == 0
        assert len(second["label"]) == int(plane.any())
