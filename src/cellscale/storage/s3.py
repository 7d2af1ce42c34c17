"""Requests to S3 that s3fs makes too, but with others that are not needed."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import sync

from cellscale.storage.traffic import request


def protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    """Names of a file system's protocol."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def is_s3(fs: AbstractFileSystem) -> bool:
    """Whether a file system is that of s3fs."""
    return "s3" in protocols(fs)


def read_with_etag(fs: Any, path: str) -> tuple[bytes | None, str | None]:
    """Content and version of an object by one request, where s3fs needs two; None for an object that does not exist."""
    core = importlib.import_module("s3fs.core")

    async def answered() -> tuple[bytes, str]:
        bucket, key, _ = fs.split_path(path)
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            return await body.read(), str(answer["ETag"])

    try:
        with request("GET") as made:
            content, etag = sync(fs.loop, partial(core._error_wrapper, answered, retries=fs.retries))
            made.read_bytes = len(content)
    except FileNotFoundError:
        return None, None
    return content, etag


def listed(fs: Any, path: str, *, deep: bool = False) -> list[str]:
    """Paths of the files and folders directly in a folder, or of all files below it; none for an empty folder.

    s3fs lists the folder around an empty one as well, or looks for an object of its name.
    """
    fs.invalidate_cache()
    return [str(entry["name"]) for entry in sync(fs.loop, fs._lsdir, path, delimiter="" if deep else "/")]
