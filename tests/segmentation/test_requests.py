"""Requests of a run against a bucket, counted by a proxy in front of a real S3 server."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from cellscale.ngff.image import open_image
from tests.blobs import blurred_noise
from tests.faults.proxy import Request, Storm, stormy
from tests.support.runs import segmented, written


def test_each_step_reads_a_chunk_once_and_nothing_is_listed_or_looked_for(s3: dict[str, Any]) -> None:
    """Statistics, windows and intensities: three reads of each chunk, although many windows and tiles share it."""
    image = written("s3://cells/requests.zarr", blurred_noise((2, 300, 300)), options=s3)
    with stormy(int(s3["endpoint_url"].rsplit(":", 1)[1]), Storm()) as proxy:
        opened = open_image(image.url, storage_options={**s3, "endpoint_url": proxy.url})
        before = len(proxy.answered)
        report = segmented(opened, "cells", window_size=64, tile_size=50)
    chunks = [one for one in proxy.answered if re.search(r"requests\.zarr/0/c/", one.path)]
    assert {one.method for one in chunks} == {"GET"}
    assert Counter(one.path for one in chunks) == {f"/cells/requests.zarr/0/c/{t}/{y}/{x}": 3 for t, y, x in CHUNKS}
    paths = [one.path for one in proxy.answered]
    first, joined = paths.index(chunks[0].path), next(i for i, path in enumerate(paths) if "/join/" in path)
    hot = proxy.answered[first:joined]
    assert [one.path for one in hot if one.method == "HEAD" or "list-type" in one.path] == []
    assert [one.path for one in hot if one.path.endswith(("zarr.json", ".zarray"))] == []
    # Pixels of labels are written, and not read again for coarser levels or seams.
    assert {one.method for one in proxy.answered if re.search(r"/labels/cells/\d/c/", one.path)} == {"PUT"}
    # One object of maps, and one of fragments and one record for each of the tasks.
    assert sum("/maps/" in one.path and one.method == "PUT" for one in hot) == 1
    assert sum("/fragments/" in one.path and one.method == "PUT" for one in hot) == 2
    made = proxy.answered[before:]
    assert report.io["total"] == {
        **Counter(kind_of(one) for one in made),
        "read_bytes": sum(one.received for one in made if kind_of(one) == "GET" and one.status != 404),
        "written_bytes": sum(one.sent for one in made if one.method == "PUT"),
        "waiting_s": report.io["total"]["waiting_s"],
    }
    assert report.io["total"]["waiting_s"] > 0
    assert {"driver", "total"} == report.io.keys() - report.tasks.keys()
    assert report.io["intensity"]["GET"] == len(CHUNKS)
    assert "HEAD" not in report.io["total"]
    assert report.io["total"]["LIST"] == LISTINGS


LISTINGS = 6
"""Earlier attempts and the layer's place at the start; at the end that place again, what is to be verified, what is
replaced, and the scratch that is deleted."""


def kind_of(request: Request) -> str:
    """Kind of a request: a listing and a deletion of several objects have no method of their own."""
    if request.method == "POST":
        return "DELETE"
    return "LIST" if "list-type=" in request.path else request.method


CHUNKS = [(t, y, x) for t in range(2) for y in range(2) for x in range(2)]
