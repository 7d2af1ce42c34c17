"""Naive twins of `cellscale.metrics`: cells as masks, every pair compared, nothing shared between scores."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cellscale.types import Labels, Mask


def cells(labels: Labels) -> list[Mask]:
    """Masks (y, x) of all cells, in ascending order of their labels."""
    return [labels == number for number in np.unique(labels) if number > 0]


def jaccard(a: Mask, b: Mask) -> float:
    """Jaccard index of two masks."""
    return float((a & b).sum() / (a | b).sum())


def covers(over: Mask, cell: Mask) -> bool:
    """Whether a mask has more than half of a cell."""
    return bool(2 * (over & cell).sum() > cell.sum())


def share(part: float, whole: float, nothing: bool) -> float:
    """Quotient; where the divisor is 0, 1 if there was nothing to find and 0 otherwise."""
    if whole:
        return float(part / whole)
    return 1.0 if nothing else 0.0


def challenge(truth: list[Mask], predicted: list[Mask]) -> dict[str, float]:
    """SEG and DET of the Cell Tracking Challenge, and the number of splits and merges."""
    markers = [sum(covers(prediction, cell) for cell in truth) for prediction in predicted]
    parts = [sum(covers(cell, prediction) for prediction in predicted) for cell in truth]
    counts = {"splits": sum(k >= 2 for k in parts), "merges": sum(k >= 2 for k in markers)}
    if not truth:
        return {"seg": math.nan, "det": math.nan, **counts}
    best = [max([jaccard(cell, p) for p in predicted if covers(p, cell)], default=0.0) for cell in truth]
    missed = sum(not any(covers(p, cell) for p in predicted) for cell in truth)
    cost = 5 * sum(k - 1 for k in markers if k > 1) + 10 * missed + sum(k == 0 for k in markers)
    return {"seg": sum(best) / len(best), "det": 1 - min(cost, 10 * len(truth)) / (10 * len(truth)), **counts}


def matched(truth: list[Mask], predicted: list[Mask]) -> dict[str, float]:
    """Scores of the pairs with a Jaccard index above 0.5, and average precision."""
    indices = [jaccard(a, b) for a in truth for b in predicted]
    good = [index for index in indices if index > 0.5]
    tp, fp, fn = len(good), len(predicted) - len(good), len(truth) - len(good)
    nothing = not truth and not predicted
    found = {"precision": share(tp, tp + fp, nothing), "recall": share(tp, tp + fn, nothing)}
    found["f1"] = share(tp, tp + fp / 2 + fn / 2, nothing)
    found["pq"] = share(sum(good), tp + fp / 2 + fn / 2, nothing)
    found["mean_matched_iou"], found["mean_iou"] = share(sum(good), tp, nothing), share(sum(good), len(truth), nothing)
    for percent in range(50, 100, 5):
        n = sum(index > 0.5 and index >= percent / 100 - 1e-12 for index in indices)
        found[f"ap_{percent}"] = share(n, len(truth) + len(predicted) - n, nothing)
    found["ap"] = float(np.mean([found[f"ap_{percent}"] for percent in range(50, 100, 5)]))
    return found | {"truth_cells": len(truth), "predicted_cells": len(predicted)}


def aggregated_jaccard(truth: list[Mask], predicted: list[Mask]) -> float:
    """Aggregated Jaccard index: the best prediction of each cell, all others in the union."""
    shared, united, used = 0, 0, set()
    for cell in truth:
        indices = [jaccard(cell, prediction) for prediction in predicted]
        if max(indices, default=0.0) == 0:
            united += cell.sum()
            continue
        best = int(np.argmax(indices))
        used.add(best)
        shared += (cell & predicted[best]).sum()
        united += (cell | predicted[best]).sum()
    united += sum(prediction.sum() for k, prediction in enumerate(predicted) if k not in used)
    return share(shared, united, united == 0)


def detected(truth: list[Mask], predicted: list[Mask]) -> float:
    """CDS: the nearest pair of all that may match is taken, then the nearest of the others, and so on."""
    candidates = []
    for i, cell in enumerate(truth):
        for j, other in enumerate(predicted):
            squared = ((np.argwhere(cell).mean(axis=0) - np.argwhere(other).mean(axis=0)) ** 2).sum()
            near = squared <= cell.sum() / (4 * np.pi)
            if near and cell.sum() <= 2 * other.sum() and other.sum() <= 2 * cell.sum():
                candidates.append((squared, i, j))
    tp = 0
    while candidates:
        _, i, j = min(candidates)
        tp += 1
        candidates = [other for other in candidates if other[1] != i and other[2] != j]
    return share(2 * tp, len(truth) + len(predicted), not truth and not predicted)


def by_centroid(truth: list[Mask], predicted: list[Mask]) -> dict[str, float]:
    """Dice and mean squared error of each true cell against the predicted cell with the nearest centroid."""
    dice, error = [], []
    for cell in truth:
        centre = np.argwhere(cell).mean(axis=0)
        squared = [((np.argwhere(other).mean(axis=0) - centre) ** 2).sum() for other in predicted]
        other = predicted[int(np.argmin(squared))] if predicted else np.zeros_like(cell)
        dice.append(2 * (cell & other).sum() / (cell.sum() + other.sum()) if predicted else 0.0)
        rows, columns = np.nonzero(cell | other)
        error.append((cell ^ other).sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))
    if not truth:
        return {"cell_dice": math.nan, "cell_pixel_error": math.nan}
    return {"cell_dice": float(np.mean(dice)), "cell_pixel_error": float(np.mean(error))}


def boundary(labels: Labels) -> NDArray[np.int64]:
    """Coordinates of cell pixels next to another label, (n, 2)."""
    height, width = labels.shape
    found = []
    for y, x in np.argwhere(labels > 0):
        beside = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        if any(0 <= v < height and 0 <= u < width and labels[v, u] != labels[y, x] for v, u in beside):
            found.append((y, x))
    return np.array(found, np.int64).reshape(-1, 2)


def share_near(a: NDArray[np.int64], b: NDArray[np.int64], radius: int) -> float:
    """Share of the points a (n, 2) with a point of b (m, 2) within `radius` px."""
    squared = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    return share((squared <= radius**2).any(axis=1).sum(), len(a), len(a) + len(b) == 0)


def contours(truth: Labels, prediction: Labels) -> dict[str, float]:
    """F1 scores of the boundary pixels of two label images for tolerances of 1 to 7 px."""
    a, b, found = boundary(truth), boundary(prediction), {}
    for radius in range(1, 8):
        recall, precision = share_near(a, b, radius), share_near(b, a, radius)
        found[f"contour_f1_{radius}"] = share(2 * precision * recall, precision + recall, False)
    return found


def scores(truth: Labels, prediction: Labels) -> dict[str, float]:
    """All scores of a predicted label image (y, x) against the true one, by name."""
    true_cells, predicted_cells = cells(truth), cells(prediction)
    inside, predicted = truth > 0, prediction > 0
    dice = share(2 * (inside & predicted).sum(), inside.sum() + predicted.sum(), not (inside | predicted).any())
    return {
        **challenge(true_cells, predicted_cells),
        **matched(true_cells, predicted_cells),
        "aji": aggregated_jaccard(true_cells, predicted_cells),
        "dice": dice,
        "dsc": dice,
        "cds": detected(true_cells, predicted_cells),
        "pixel_error": float((inside != predicted).mean()),
        **by_centroid(true_cells, predicted_cells),
        **contours(truth, prediction),
    }


def outcomes(truth: Labels, prediction: Labels) -> NDArray[np.int64]:
    """1 right, 2 missed, 3 split, 4 merged, 5 spurious, painted cell by cell; predicted cells over true ones."""
    painted = np.zeros(truth.shape, np.int64)
    true, found = cells(truth), cells(prediction)
    merging = [sum(covers(p, cell) for cell in true) > 1 for p in found]
    parted = [sum(covers(cell, p) for p in found) > 1 for cell in true]
    for cell, split in zip(true, parted, strict=True):
        merged = any(covers(p, cell) for p, many in zip(found, merging, strict=True) if many)
        right = any(jaccard(cell, p) > 0.5 for p in found)
        painted[cell] = 4 if merged else 3 if split else 1 if right else 2
    for p, merged in zip(found, merging, strict=True):
        split = any(covers(cell, p) for cell, many in zip(true, parted, strict=True) if many)
        right = any(jaccard(cell, p) > 0.5 for cell in true)
        painted[p] = 4 if merged else 3 if split else 1 if right else 5
    return painted
