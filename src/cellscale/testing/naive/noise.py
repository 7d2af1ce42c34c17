"""Naive twin of `cellscale.kernels.noise` in Python's unbounded integers."""

from __future__ import annotations

_MASK = 2**64 - 1


def _mixed(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def hashed(seed: int, a: int, b: int) -> int:
    """Hash of a seed and two integers of any sign, 0 … 2⁶⁴ − 1."""
    step = 0x9E3779B97F4A7C15
    h = _mixed((seed + step) & _MASK)
    h = _mixed(h ^ (a * step & _MASK))
    return _mixed(h ^ (b + step & _MASK))
