import pytest

from cellscale.errors import InputError
from cellscale.kernels import bands


def test_small_arrays_are_worked_on_by_one_thread(monkeypatch) -> None:
    monkeypatch.setattr(bands, "SMALL", 100)
    assert [bands.worthwhile(3, pixels) for pixels in (0, 99, 100)] == [1, 1, 3]
    with pytest.raises(InputError, match="threads is 0; expected 1 or more"):
        bands.worthwhile(0, 1000)
