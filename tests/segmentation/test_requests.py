"""Requests of a run against a bucket, counted by a proxy in front of a real S3 server."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from cellscale.ngff.image import open_image
from tests.blobs import blurred_noise
from tests.faults.proxy import Storm, stormy
from tests.support.runs import segmented, written


def test_each_step_reads_a_chunk_once_and_nothing_is_listed_or_looked_for(s3: dict[str, Any]) -> None:
    """Statistics, windows and intensities: three reads of each chunk, although many windows and tiles share it."""
    image = written("s3://cells/requests.zarr", blurred_noise((2, 300, 300)), options=s3)
    with stormy(int(s3["endpoint_url"].rsplit(":", 1)[1]), Storm()) as proxy:
        opened = open_image(image.url, storage_options={**s3, "endpoint_url": proxy.url})
        segmented(opened, "cells", window_size=64, tile_size=50)
    chunks = [one for one in proxy.answered if re.search(r"requests\.zarr/0/c/", one.path)]
    assert {one.method for one in chunks} == {"GET"}
    assert Counter(one.path for one in chunks) == {f"/cells/requests.zarr/0/c/{t}/{y}/{x}": 3 for t, y, x in CHUNKS}
    paths = [one.path for one in proxy.answered]
    first, joined = paths.index(chunks[0].path), next(i for i, path in enumerate(paths) if "/join/" in path)
    hot = proxy.answered[first:joined]
    assert [one.path for one in hot if one.method == "HEAD" or "list-type" in one.path] == []
    assert [one.path for one in hot if one.path.endswith(("zarr.json", ".zarray"))] == []
    # One object of maps, and one of fragments and one record for each of the tasks.
    assert sum("/maps/" in one.path and one.method == "PUT" for one in hot) == 1
    assert sum("/fragments/" in one.path and one.method == "PUT" for one in hot) == 2


CHUNKS = [(t, y, x) for t in range(2) for y in range(2) for x in range(2)]
