"""Requests of reads and writes, counted by a proxy in front of a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from s3fs import S3FileSystem

from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels, publish_labels, stage_labels
from cellscale.ngff.views import open_image_view
from cellscale.storage.folder import Folder
from cellscale.storage.together import together
from cellscale.types import Box
from tests.blobs import blurred_noise
from tests.faults.proxy import Proxy, Storm, stormy
from tests.support.runs import written


@pytest.fixture
def proxy(s3: dict[str, Any]) -> Iterator[Proxy]:
    with stormy(int(s3["endpoint_url"].rsplit(":", 1)[1]), Storm()) as running:
        yield running


def kinds(proxy: Proxy, since: int) -> list[tuple[str, bool]]:
    """Method of each request, and whether it is a listing."""
    return [(one.method, "list-type" in one.path) for one in proxy.answered[since:]]


def test_an_object_is_read_by_one_request(s3: dict[str, Any], proxy: Proxy) -> None:
    Folder(url="s3://cells/read", storage_options=s3).write("whole", b"content")
    assert Folder(url="s3://cells/read", storage_options={**s3, "endpoint_url": proxy.url}).read("whole") == b"content"
    assert kinds(proxy, 0) == [("GET", False)]


def test_background_is_deleted_by_one_request_for_each_chunk(s3: dict[str, Any], proxy: Proxy) -> None:
    image = written("s3://cells/background.zarr", blurred_noise((1, 300, 300)), options=s3)
    opened = open_image(image.url, storage_options={**s3, "endpoint_url": proxy.url})
    layer = stage_labels(opened, "cells", planes_z=1)
    labels = np.zeros((300, 300), np.uint32)
    layer.write(labels + 1, Box.of(labels.shape))
    before = len(proxy.answered)
    assert layer.write(labels, Box.of(labels.shape)) == 0
    asked = kinds(proxy, before)
    assert [kind for kind in asked if kind[0] != "GET"] == [("DELETE", False)] * 4
    assert not any(listing for _, listing in asked)
    assert not layer.read(Box.of(labels.shape)).any()


def test_threads_that_read_at_the_same_time_share_one_client(s3: dict[str, Any]) -> None:
    """A client takes tenths of a second to make, and opens connections of its own."""
    image = written("s3://cells/shared.zarr", blurred_noise((1, 30, 40)), options=s3)
    pixels, made = image.read(Box.of((30, 40))), set(S3FileSystem._cache)
    found = together([partial(image.read, Box.of((30, 40)))] * 4)
    assert all((one == pixels).all() for one in found)
    assert set(S3FileSystem._cache) == made


def test_a_chunk_of_a_view_is_read_by_one_request(s3: dict[str, Any], proxy: Proxy) -> None:
    pixels = blurred_noise((1, 300, 300))
    image = written("s3://cells/view.zarr", pixels, options=s3)
    view = open_image_view(image.url, storage_options={**s3, "endpoint_url": proxy.url})
    before = len(proxy.answered)
    assert np.array_equal(view[..., :20, :20].values.squeeze(), pixels[0, :20, :20])
    assert kinds(proxy, before) == [("GET", False)]


@pytest.mark.parametrize("inner", ["", "/folder"])
def test_a_layer_of_an_image_at_the_root_of_a_bucket_is_published(s3: dict[str, Any], inner: str) -> None:
    """Nothing is looked for around a bucket."""
    S3FileSystem(**s3).mkdir(f"root{len(inner)}")
    image = written(f"s3://root{len(inner)}{inner}", blurred_noise((1, 30, 40)), options=s3)
    layer = stage_labels(image, "cells", planes_z=1)
    layer.write(np.ones((30, 40), np.uint32), Box.of((30, 40)))
    publish_labels(layer)
    assert list_labels(image.url, storage_options=s3) == ("cells",)
