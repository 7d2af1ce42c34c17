"""Advice about failures of the storage libraries."""

from __future__ import annotations

import pytest

from cellscale.storage.errors import advice


class _AnswerError(OSError):
    def __init__(self, text: str, **status: object) -> None:
        super().__init__(text)
        vars(self).update(status)


@pytest.mark.parametrize(
    "status",
    [
        {"status_code": 403},
        {"code": "401"},
        {"status": 403},
        {"response": {"ResponseMetadata": {"HTTPStatusCode": 401}}},
    ],
)
def test_a_status_that_says_so_leads_to_the_credentials(status: dict[str, object]) -> None:
    assert advice(_AnswerError("no", **status), "s3://b/i.zarr").startswith("Check the credentials")
    raised = OSError("no")
    raised.__cause__ = _AnswerError("no", **status)
    assert advice(raised, "s3://b/i.zarr").startswith("Check the credentials")


@pytest.mark.parametrize("text", ["connection lost: b/i.zarr/0/c/0/401/7", "timeout after 4030 ms", "run-403.zarr"])
def test_a_number_in_a_key_is_no_status(text: str) -> None:
    assert advice(_AnswerError(text), "s3://b/i.zarr") == "Check the URL, the storage options and the connection."
    assert advice(_AnswerError(text, status_code=500), "s3://b/i.zarr").startswith("Check the URL")
