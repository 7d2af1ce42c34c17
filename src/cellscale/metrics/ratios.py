"""Ratios of counts, with defined values for zero counts."""

from __future__ import annotations


def ratio(part: float, whole: float, *, empty: float = 1.0) -> float:
    """Return part / whole as a plain float, `empty` where whole is 0."""
    return float(part / whole) if whole else empty


def harmonic_mean(a: float, b: float) -> float:
    """Return 2ab / (a + b), 0 where both are 0."""
    return ratio(2 * a * b, a + b, empty=0.0)
