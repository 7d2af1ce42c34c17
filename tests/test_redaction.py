"""Secrets do not stand in text that is written or printed; what is no secret stays as it is."""

from __future__ import annotations

import pickle

import pytest

from cellscale.errors import InputError, MissingError, StoreError
from cellscale.redaction import redacted, redacted_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:pa55@host/m.zarr", "http://***@host/m.zarr"),
        ("http://me:p@55@host/m", "http://***@host/m"),
        ("http://me:pa/55@host/m", "http://***@host/m"),
        ("https://tok3n@host/m", "https://***@host/m"),
        ("zip://m.zarr::https://me:pa55@host/a.zip", "zip://m.zarr::https://***@host/a.zip"),
        ("two: ftp://a:b@c and sftp://d:e@f", "two: ftp://***@c and sftp://***@f"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=AK%2F1&X-Amz-Date=2&X-Amz-Signature=ab12",
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Date=2&X-Amz-Signature=***",
        ),
        ("https://a.blob.core.windows.net/c/m?sv=2022&sig=aB%2F=&se=1", "https://a.blob.core.windows.net/c/m?sv=2022&sig=***&se=1"),
        ("{'key': 'AKIA1', 'secret': 's3cr3t', 'anon': False}", "{'key': '***', 'secret': '***', 'anon': False}"),
        ('{"token": "ya29.abc"}', '{"token": "***"}'),
        ("AccountName=a;AccountKey=ab+/==;EndpointSuffix=x", "AccountName=a;AccountKey=***;EndpointSuffix=x"),
        ("invalid header Authorization: Bearer abc.def", "invalid header Authorization: ***"),
        ("client_secret=hunter22 refused", "client_secret=*** refused"),
    ],
)  # fmt: skip
def test_a_secret_is_hidden(text: str, expected: str) -> None:
    assert redacted(text) == expected
    assert redacted(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "s3://cells/a@b:c/m.zarr",
        "http://host:8080/a@b/m.zarr",
        "abfss://container@account.dfs.core.windows.net/m.zarr",
        "write KEY=VALUE, e.g. width=32",
        '{"token": "anon"} for a public bucket',
        'storage options such as {"key": …, "secret": …}',
        "frames 0:64 of /data/a b/m.zarr",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_values_of_the_options_are_hidden_wherever_they_stand() -> None:
    options = {"s3": {"key": "AKIA1234", "secret": "zebra-crossing"}, "endpoint_url": "http://host:9000"}
    found = redacted("cannot sign with zebra-crossing for AKIA1234 at http://host:9000", options)
    assert found == "cannot sign with *** for *** at http://host:9000"


def test_every_string_of_a_value_is_redacted() -> None:
    value = {"url": "http://a:b@c", "list": ["http://a:b@c", 3, None], "inner": {"x": ("http://a:b@c",)}}
    expected = "http://***@c"
    assert redacted_values(value) == {"url": expected, "list": [expected, 3, None], "inner": {"x": [expected]}}


@pytest.mark.parametrize("kind", [InputError, MissingError, StoreError])
def test_no_error_holds_a_password(kind: type[Exception]) -> None:
    error = kind("Cannot read http://me:pa55@host/m.")
    assert str(error) == "Cannot read http://***@host/m."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
