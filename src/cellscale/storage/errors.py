"""Errors of the storage libraries, converted to errors that name the place and a remedy."""

from __future__ import annotations

import contextlib
import errno
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from cellscale.errors import CellscaleError, StoreError
from cellscale.redaction import redacted
from cellscale.storage.urls import is_local

_FOREIGN = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp.client_exceptions": ("ClientError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "gcsfs.retry": ("HttpError",),
    "azure.core.exceptions": ("AzureError",),
}
_COMMON = (
    *(
        OSError,
        ImportError,
        ValueError,
        TypeError,
        RuntimeError,
        LookupError,
        EOFError,
        AttributeError,
        ArithmeticError,
    ),
    *(AssertionError, zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile),
)
"""Errors that file systems, zarr and codecs raise for documents and chunks that are damaged or malicious."""
_EXTRAS = {
    "s3": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "http": "http",
    "https": "http",
}
_KEYS = {
    "s3": 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass storage options such as {"key": …, "secret": …}; '
    '{"anon": true} for a public bucket',
    "gcs": 'run `gcloud auth application-default login`, or pass storage options such as {"token": "key.json"}; '
    '{"token": "anon"} for a public bucket',
    "azure": "set AZURE_STORAGE_CONNECTION_STRING, or pass storage options such as "
    '{"account_name": …, "account_key": …}; {"anon": true} for a public container',
}
_REFUSED = (401, 403)
"""HTTP statuses of missing or wrong credentials."""
_CREDENTIALS = (
    "credential",
    "forbidden",
    "accessdenied",
    "access denied",
    "signature",
    "invalidaccesskey",
)


def failures() -> tuple[type[Exception], ...]:
    """Exceptions that reading or writing may raise; those of the cloud libraries have no common base class."""
    loaded = ((sys.modules[module], names) for module, names in _FOREIGN.items() if module in sys.modules)
    foreign = tuple(getattr(module, name) for module, names in loaded for name in names if hasattr(module, name))
    return (*_COMMON, *foreign)


def status_of(error: BaseException | None) -> int | None:
    """HTTP status that a storage library's error stands for, or None."""
    if error is None:
        return None
    response = getattr(error, "response", None)
    found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    # Of botocore, azure, gcsfs and aiohttp.
    for value in (found, *(getattr(error, name, None) for name in ("status_code", "code", "status"))):
        if value is not None and str(value).isdigit():
            return int(value)
    return status_of(error.__cause__)


def advice(error: BaseException, url: str) -> str:
    """Return advice about a failure, as a sentence."""
    text = f"{type(error).__name__} {error}".lower()
    if isinstance(error, ImportError) or "codec" in text:
        extra = _EXTRAS.get(url.partition(":")[0])
        return f"Install cellscale[{extra}]." if extra else "Install the package that provides it."
    refused = isinstance(error, PermissionError) or status_of(error) in _REFUSED
    if refused or any(word in text for word in _CREDENTIALS):
        if is_local(url):
            return "Check the permissions of the folder."
        if url.startswith("http"):
            return (
                "Check the address and its access rights; for a bucket give its own URL, e.g. s3://…, and credentials."
            )
        return f"Check the credentials: {_KEYS[_EXTRAS.get(url.partition(':')[0], 's3')]}."
    if is_local(url):
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "Free some space there, then repeat the command." if full else "Check the path."
    return "Check the URL, the storage options and the connection."


@contextlib.contextmanager
def explained(action: str, url: str, options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Convert any failure of the storage libraries to a StoreError that names the place and a remedy.

    Parameters
    ----------
    action : str
        The verb of "Cannot … URL".
    url : str
        The place.
    options : mapping
        Storage options: their secrets are hidden where a library repeats them.
    """
    try:
        yield
    except CellscaleError:
        raise
    except failures() as error:
        reason = redacted(f"{type(error).__name__}: {error}".strip(": "), options)
        raise StoreError(f"Cannot {action} {url}: {reason}. {advice(error, url)}") from error
