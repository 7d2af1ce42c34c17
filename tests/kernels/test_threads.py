from __future__ import annotations

import pytest

from cellscale.errors import InputError
from cellscale.kernels import threads


def test_small_arrays_are_worked_on_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SMALL", 100)
    assert [threads.worthwhile(3, pixels) for pixels in (0, 99, 100)] == [1, 1, 3]
    with pytest.raises(InputError, match="threads is 0; expected 1 or more"):
        threads.worthwhile(0, 1000)
