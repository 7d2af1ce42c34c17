"""JSON by strangers: what is not a plain document is refused with one error."""

from __future__ import annotations

import pytest

from cellscale.errors import DamagedError
from cellscale.storage import documents
from cellscale.storage.documents import MAX_DEPTH, parsed


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_a_document_of_the_deepest_kind() -> None:
    value = parsed(nested(MAX_DEPTH), "a.json")
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == []


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 100_000])
@pytest.mark.parametrize("closed", [True, False])
def test_a_document_that_is_nested_too_deep(levels: int, closed: bool) -> None:
    data = nested(levels) if closed else nested(levels)[: levels + levels // 2]
    with pytest.raises(DamagedError, match=r"a\.json is (nested deeper than 64 levels|damaged: it is not valid JSON)"):
        parsed(data, "a.json")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\0", b"\xff\xfe{}", b"9" * 5000, b'"\\ud800"', b'{"\\udfff": 1}', b"{}{}"]
)
def test_what_is_not_json(data: bytes) -> None:
    with pytest.raises(DamagedError, match=r"a\.json is damaged: it is not valid JSON"):
        parsed(data, "a.json")


def test_a_document_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 9)
    assert parsed(b"[1, 2, 3]", "a.json") == [1, 2, 3]
    with pytest.raises(DamagedError, match=r"a\.json has 10 bytes; expected a JSON document of at most 9"):
        parsed(b"[1, 2, 33]", "a.json")
