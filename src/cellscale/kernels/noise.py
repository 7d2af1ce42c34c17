"""Random numbers by position: each is a function of a seed and integer coordinates, drawn in any order."""

from __future__ import annotations

import math

import numpy as np

from cellscale.kernels.compiling import kernel

UNIT = 1.0 / (1 << 53)
"""Factor from the upper 53 bits of a hash, the precision of float64, to [0, 1)."""


@kernel
def _mixed(z: np.uint64) -> np.uint64:
    """Mix 64 bits so that every output bit depends on every input bit.

    The finaliser of SplitMix64: G. Steele et al., Fast splittable pseudorandom number generators, 2014. Products wrap
    around modulo 2⁶⁴ on purpose.
    """
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def hashed(seed: int, a: int, b: int) -> np.uint64:
    """Hash of a seed and two integers of any sign, 64 bits."""
    step = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's increment, 2⁶⁴ over the golden ratio, odd
    h = _mixed(np.uint64(seed) + step)
    h = _mixed(h ^ (np.uint64(a) * step))
    return _mixed(h ^ (np.uint64(b) + step))


@kernel
def smooth_noise(seed: int, y: float, x: float) -> float:
    """Value noise in [0, 1) with grains of one unit: random values at integer points, blended by 3u² − 2u³.

    The blend is that of K. Perlin, An image synthesizer, 1985.
    """
    j, i = math.floor(y), math.floor(x)
    v, u = y - j, x - i
    v, u = v * v * (3 - 2 * v), u * u * (3 - 2 * u)
    shift = np.uint64(11)  # 64 − 53 bits: the rest fits into the mantissa of a float64
    a = float(hashed(seed, j, i) >> shift) * UNIT
    b = float(hashed(seed, j, i + 1) >> shift) * UNIT
    c = float(hashed(seed, j + 1, i) >> shift) * UNIT
    d = float(hashed(seed, j + 1, i + 1) >> shift) * UNIT
    return (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v
