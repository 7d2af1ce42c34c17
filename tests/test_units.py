"""Units as files spell them."""

from __future__ import annotations

import pytest

from cellscale.units import positive, unit_s, unit_um


@pytest.mark.parametrize(
    ("names", "size"),
    [
        (("µm", "μm", "um", "UM", "micron", "microns", "micrometer", "Micrometres", "\\u00B5m", " µm "), 1.0),
        (("nm", "nanometer", "nanometers"), 1e-3),
        (("mm", "millimetre"), 1e3),
        (("cm", "centimeter"), 1e4),
        (("Å", "\u212b", "angstrom"), 1e-4),
        (("inch", "inches", "in", '"'), 25400.0),
        (("Mm",), 1e12),
    ],
)
def test_lengths(names: tuple[str, ...], size: float) -> None:
    assert [unit_um(name) for name in names] == pytest.approx([size] * len(names))


@pytest.mark.parametrize(
    ("names", "size"),
    [
        (("s", "sec", "seconds", "Second"), 1.0),
        (("ms", "msec", "millisecond"), 1e-3),
        (("min", "mins", "minutes"), 60.0),
        (("h", "hr", "hours"), 3600.0),
        (("d", "days"), 86400.0),
    ],
)
def test_times(names: tuple[str, ...], size: float) -> None:
    assert [unit_s(name) for name in names] == pytest.approx([size] * len(names))


@pytest.mark.parametrize("name", ["", "pixel", "pixels", "reference frame", "s", "bananas"])
def test_what_is_not_a_length(name: str) -> None:
    assert unit_um(name) is None
    assert unit_s("µm") is None


def test_sizes_that_are_numbers() -> None:
    assert [positive(value) for value in ("0.5", -3, 2)] == [0.5, 3.0, 2.0]
    assert [positive(value) for value in ("0", 0.0, "NaN", float("inf"), "x", None)] == [None] * 6
