"""Twins of kernels.noise in Python's whole numbers."""

MASK = 2**64 - 1


def _mixed(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def naive_hash(seed: int, a: int, b: int) -> int:
    step = 0x9E3779B97F4A7C15
    h = _mixed((seed + step) & MASK)
    h = _mixed(h ^ (a * step & MASK))
    return _mixed(h ^ (b + step & MASK))
