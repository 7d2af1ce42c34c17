"""Bytes that flip on the way: a second read brings them right; what is damaged where it lies is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cellscale.errors import DamagedError, StoreError
from cellscale.ngff.image import open_image
from cellscale.segmentation.records import find, put
from cellscale.storage.folder import Folder
from cellscale.storage.reading import ATTEMPTS, read_again
from cellscale.types import Box
from tests.faults.proxy import Storm, stormy
from tests.support.runs import written


def test_a_read_is_repeated_a_bounded_number_of_times() -> None:
    calls: list[int] = []

    def read(good: int) -> str:
        calls.append(good)
        if len(calls) < good:
            raise DamagedError("half of it")
        return "whole"

    assert read_again(lambda: read(ATTEMPTS)) == "whole"
    calls.clear()
    with pytest.raises(DamagedError, match="half of it"):
        read_again(lambda: read(ATTEMPTS + 1))
    assert len(calls) == ATTEMPTS


def test_what_no_second_read_mends_is_read_once() -> None:
    calls: list[int] = []

    def read() -> None:
        calls.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        read_again(read)
    assert calls == [1]


def test_bytes_that_flip_on_the_way_are_read_again(s3: dict[str, Any]) -> None:
    """The first two answers to each request for an object have another byte."""
    pixels = np.random.default_rng(0).integers(0, 60_000, (1, 64, 64)).astype(np.uint16)
    url = "s3://cells/flipped/movie.zarr"
    image = written(url, pixels, options=s3)
    put(Folder(url="s3://cells/flipped", storage_options=s3), "record", {"numbers": np.arange(5000)})
    port = int(s3["endpoint_url"].rsplit(":", 1)[1])
    with stormy(port, Storm(seed=0, kinds=("flipped",), share=1.0, most=1)) as proxy:
        options = {**s3, "endpoint_url": proxy.url}
        found = find(Folder(url="s3://cells/flipped", storage_options=options), "record")
        assert found is not None
        assert np.array_equal(found["numbers"], np.arange(5000))
        again = open_image(url, storage_options=options)
        assert np.array_equal(again.read(Box(0, 0, 64, 64))[0], pixels[0])
        assert proxy.failed["flipped"] >= 3
    assert image.levels == again.levels


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path))
    put(folder, "record", {"numbers": np.arange(50)})
    data = (tmp_path / "record").read_bytes()
    (tmp_path / "record").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedError, match="record is damaged: its checksum does not match"):
        find(folder, "record")


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    image = written(str(tmp_path / "movie.zarr"), np.ones((1, 20, 20), np.uint8))
    array = zarr.open_array(f"{image.url}/0")
    chunk = tmp_path / "movie.zarr/0" / array.metadata.encode_chunk_key((0, 0, 0))
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StoreError, match="c/0/0/0 is damaged"):
        image.read(Box(0, 0, 20, 20))
