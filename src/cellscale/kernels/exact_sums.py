"""Exact sums of numbers of any type and range over fragments: whole numbers that add up in any order.

A sum is kept as signed 26-bit digits: Σ digit_j · 2^(26 j), each digit an int64 that is never carried. A finite double
is m · 2^(p − 1074) with m < 2⁵³, so it falls into three neighbouring digits wherever its binary point lies (53 bits
moved by at most 25 are 78 = 3 · 26), and 64-bit integers fall into digits 0 … 2. Adding a number changes a digit by
less than 2²⁶: no digit of a fragment overflows below 2³⁷ pixels. Most digits are 0 in every fragment of an image; only
the others become columns.

Sources: U. Kulisch, Very fast and exact accumulation of products, 2011 (a fixed-point accumulator over the whole range
of exponents); R. M. Neal, Fast exact summation using small and large superaccumulators, 2015.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.types import Image

DIGIT_BITS = 26
"""Bits of a digit: 64-bit integers, and doubles at any place, take three digits."""
DIGIT_MASK = 2**DIGIT_BITS - 1
LOWEST_DIGIT = -42
"""The digit of the smallest double, 2^−1074 ≥ 2^(26 · −42)."""
DIGITS = 82
"""Digits from the lowest to that of the largest double: −1074 + 18 + 2045 + 53 bits end in digit 39."""
POINT = -DIGIT_BITS * LOWEST_DIGIT - 1074
"""Bits between the beginning of the lowest digit and 2^−1074."""
MANTISSA_BITS = 52
MANTISSA_MASK = 2**MANTISSA_BITS - 1
EXPONENT_MASK = 0x7FF
TOP_DIGIT_MASK = 2 ** (64 - 2 * DIGIT_BITS) - 1
"""Bits of a 64-bit integer above two digits."""
INFINITE, NEGATIVE_INFINITE = "inf", "-inf"
"""Columns that count infinite pixels; a pixel that is no number counts in both, and so does their sum."""


@kernel
def _add_floats(labels: NDArray[np.int32], bits: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Add doubles, given as their bits, to the digits of their fragments; the last two columns count infinities."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                row = out[labels[y, x] - 1]
                word = bits[y, x]
                exponent = (word >> MANTISSA_BITS) & EXPONENT_MASK
                mantissa = word & MANTISSA_MASK
                if exponent == EXPONENT_MASK:
                    row[DIGITS] += mantissa != 0 or word > 0
                    row[DIGITS + 1] += mantissa != 0 or word < 0
                    continue
                # Subnormal numbers have the exponent of the smallest normal ones, without the hidden bit.
                if exponent > 0:
                    mantissa |= MANTISSA_MASK + 1
                place = max(exponent, 1) - 1 + POINT
                digit, shift = place // DIGIT_BITS, place % DIGIT_BITS
                sign = -1 if word < 0 else 1
                # The shift may push high bits out of the word: the mask keeps the low 26, the next line has the others.
                row[digit] += sign * ((mantissa << shift) & DIGIT_MASK)
                rest = mantissa >> (DIGIT_BITS - shift)
                row[digit + 1] += sign * (rest & DIGIT_MASK)
                row[digit + 2] += sign * (rest >> DIGIT_BITS)


@kernel
def _add_integers(labels: NDArray[np.int32], bits: NDArray[np.int64], signed: bool, out: NDArray[np.int64]) -> None:
    """Add 64-bit integers, given as their bits, to three digits of their fragments."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                row = out[labels[y, x] - 1]
                sign = -1 if signed and bits[y, x] < 0 else 1
                # The magnitude as 64 unsigned bits: −2⁶³ has no positive twin in int64, but its bits are those of 2⁶³.
                word = sign * bits[y, x]
                row[0] += sign * (word & DIGIT_MASK)
                row[1] += sign * ((word >> DIGIT_BITS) & DIGIT_MASK)
                row[2] += sign * ((word >> (2 * DIGIT_BITS)) & TOP_DIGIT_MASK)


def exact_sums(labels: NDArray[np.int32], count: int, values: Image) -> dict[str, NDArray[np.int64]]:
    """Sum intensities over each fragment 1 … `count`, exactly.

    Parameters
    ----------
    labels : int32 array, (y, x)
        Fragments; 0 is background.
    count : int
        Number of fragments.
    values : array, (y, x)
        Boolean, any integer type, or floats of up to 64 bits.

    Returns
    -------
    dict of str to int64 array, (count,)
        Digits by their number j as text, each worth 2^(26 j), and the numbers of infinite pixels, `inf` and `-inf`;
        columns of zeros are left out. Tables of sums add up, column by column.

    Examples
    --------
    >>> labels = np.array([[1, 1, 2]], np.int32)
    >>> table = exact_sums(labels, 2, np.array([[1e300, 1.0, 0.25]]))
    >>> means_of(table, np.array([2, 1])).tolist()
    [5e+299, 0.25]
    """
    fragments = np.ascontiguousarray(labels)
    if np.issubdtype(values.dtype, np.floating):
        out = np.zeros((count, DIGITS + 2), np.int64)
        _add_floats(fragments, np.ascontiguousarray(values, np.float64).view(np.int64), out)
        names = [*map(str, range(LOWEST_DIGIT, LOWEST_DIGIT + DIGITS)), INFINITE, NEGATIVE_INFINITE]
    else:
        out = np.zeros((count, 3), np.int64)
        signed = values.dtype.kind == "i"
        bits = np.ascontiguousarray(values, np.int64 if signed else np.uint64).view(np.int64)
        _add_integers(fragments, bits, signed, out)
        names = [*map(str, range(3))]
    return {name: out[:, i].copy() for i, name in enumerate(names) if out[:, i].any()}


def means_of(sums: Mapping[str, NDArray[np.int64]], areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of each fragment: the double nearest to the exact quotient.

    Parameters
    ----------
    sums : mapping of str to int64 array, (n,)
        Result of `exact_sums`, or sums of such tables.
    areas : int64 array, (n,)
        Number of pixels, at least 1.

    Returns
    -------
    float64 array, (n,)
        As IEEE 754 has it for sums: inf or −inf where pixels are infinite, nan where they are infinite with both signs
        or a pixel is not a number.
    """
    digits = {int(name): column for name, column in sums.items() if name not in {INFINITE, NEGATIVE_INFINITE}}
    none = np.zeros(len(areas), np.int64)
    units = digits.get(0, none)
    if digits.keys() <= {0} and np.abs(units).max(initial=0) < 2**53:
        means = np.asarray(units / areas, np.float64)
    else:
        means = _quotients(digits, areas)
    above, below = sums.get(INFINITE, none) > 0, sums.get(NEGATIVE_INFINITE, none) > 0
    means[above], means[below], means[above & below] = np.inf, -np.inf, np.nan
    return means


def _quotients(digits: Mapping[int, NDArray[np.int64]], areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quotients of the sums by the areas, by Python's whole numbers, whose division rounds once and correctly."""
    lowest = min(0, *digits)
    columns = [(DIGIT_BITS * (j - lowest), column.tolist()) for j, column in digits.items()]
    point = -DIGIT_BITS * lowest
    quotients = (
        sum(column[row] << shift for shift, column in columns) / (area << point)
        for row, area in enumerate(areas.tolist())
    )
    return np.fromiter(quotients, np.float64, len(areas))
