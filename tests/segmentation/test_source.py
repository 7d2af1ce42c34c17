"""A world that changes: an image whose pixels are not the same throughout a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cellscale
from cellscale.errors import ChangedError, RunError
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.segmentation.executor import one_by_one
from tests.blobs import blurred_noise
from tests.support.runs import SHAPE, arrays, equal, segmented, table, written

WINDOWS: dict[str, Any] = {"window_size": 64, "tile_size": 50}
FRAMES: dict[str, Any] = {"window_size": 2048}


@dataclass(frozen=True)
class Meanwhile:
    """An executor that does something once, before the tasks of a step are given out."""

    action: Callable[[], Any]
    step: str

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[Any]:
        if tasks and tasks[0].record.step.startswith(self.step):
            self.action()
        return one_by_one(work, shared, tasks, gpu=gpu)


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    """Three frames of one channel."""
    return written(str(tmp_path / "movie.zarr"), blurred_noise(SHAPE))


def chunks(image: NgffImage) -> list[Path]:
    """Files of the finest level's chunks, in order."""
    return sorted(path for path in (Path(image.url) / "0" / "c").rglob("*") if path.is_file())


def changed(image: NgffImage, place: tuple[int, ...]) -> None:
    """Add one to a pixel of the stored image."""
    import zarr

    array = zarr.open_array(f"{image.url}/0", mode="r+")
    array[place] = np.asarray(array[place]) + 1


@pytest.mark.parametrize(("settings", "step"), [(WINDOWS, "predict"), (WINDOWS, "decode"), (FRAMES, "decode")], ids=str)
@pytest.mark.parametrize("how", ["pixel", "vanishes"])
def test_a_chunk_that_changes_after_the_first_read_ends_the_run(
    image: NgffImage, settings: dict[str, Any], step: str, how: str
) -> None:
    def act() -> None:
        if how == "pixel":
            changed(image, (1, 149, 210))
        else:
            chunks(image)[1].unlink()

    message = "has other pixels" if how == "pixel" else "is missing now"
    with pytest.raises(ChangedError, match=rf"Chunk 0/c/1/0/0 of .*{message}.*frame 1, slice 0, channel 0, rows 0:150"):
        segmented(image, "cells", executor=Meanwhile(act, step), **settings)
    assert list_labels(image.url) == ()


@pytest.mark.parametrize("shape", [SHAPE, (2, 40, 50)], ids=str)
@pytest.mark.parametrize("step", ["join", "tables"])
def test_no_layer_of_an_image_that_was_replaced_is_published(
    image: NgffImage, step: str, shape: tuple[int, int, int]
) -> None:
    """All its pixels have been read before: only its document tells that other pixels are there."""

    def replace() -> None:
        cellscale.synthesize(image.url, shape=shape, cells=3, overwrite=True)

    with pytest.raises(ChangedError, match=r"movie\.zarr was replaced or removed since the run began"):
        segmented(image, "cells", executor=Meanwhile(replace, step), **WINDOWS)
    assert list_labels(image.url) == ("truth",)
    segmented(open_image(image.url), "cells", overwrite=True, **WINDOWS)
    assert open_labels(image.url, "cells").levels[0].shape == shape
    assert not (Path(image.url) / ".cellscale-cells").exists()


@pytest.mark.parametrize("settings", [WINDOWS, FRAMES], ids=str)
def test_a_run_is_not_resumed_with_another_image_and_is_with_the_same_one(
    image: NgffImage, settings: dict[str, Any], tmp_path: Path
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    segmented(image, "calm", **settings)
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=Meanwhile(die, "decode"), **settings)
    shutil.copytree(Path(image.url) / "0", tmp_path / "kept")
    changed(image, (2, 0, 0))
    with pytest.raises(ChangedError, match="frame 2"):
        segmented(image, "cells", **settings)
    shutil.rmtree(Path(image.url) / "0")
    shutil.copytree(tmp_path / "kept", Path(image.url) / "0")
    assert segmented(image, "cells", **settings).reused["intensity"] > 0
    assert equal(arrays(image, "cells"), arrays(image, "calm"))


def test_overwrite_starts_over_with_the_new_pixels(image: NgffImage) -> None:
    with pytest.raises(ChangedError, match="start over with --overwrite"):
        segmented(image, "cells", executor=Meanwhile(lambda: changed(image, (2, 0, 0)), "decode"), **WINDOWS)
    with pytest.raises(ChangedError, match="frame 2"):
        segmented(image, "cells", **WINDOWS)
    assert segmented(image, "cells", overwrite=True, **WINDOWS).reused["intensity"] == 0
    segmented(image, "calm", **WINDOWS)
    assert equal(arrays(image, "cells"), arrays(image, "calm"))


def test_a_chunk_that_is_written_anew_with_the_same_pixels_is_the_same(image: NgffImage) -> None:
    """Other bytes, times and sizes: only pixels count."""
    import zarr

    def recompress() -> None:
        pixels = np.asarray(zarr.open_array(f"{image.url}/0")[:])
        shutil.rmtree(Path(image.url) / "0")
        zarr.create_array(f"{image.url}/0", data=pixels, chunks=(2, 30, 40), compressors=None)

    segmented(image, "calm", **WINDOWS)
    segmented(image, "cells", executor=Meanwhile(recompress, "predict"), **WINDOWS)
    assert equal(arrays(image, "cells"), arrays(image, "calm"))
    assert table(image, "cells").equals(table(image, "calm"))


@pytest.mark.parametrize("settings", [WINDOWS, FRAMES], ids=str)
def test_a_channel_that_only_the_table_reads_is_watched_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    pixels = blurred_noise((2, 2, 110, 130))
    image = written(str(tmp_path / "two.zarr"), pixels, "tcyx")
    with pytest.raises(ChangedError, match=r"Chunk 0/c/1/1/0/0 .*channel 1"):
        segmented(image, "cells", executor=Meanwhile(lambda: changed(image, (1, 1, 5, 5)), "decode"), **settings)
    (Path(image.url) / "0/c/0/1/0/0").unlink()
    assert segmented(image, "other", **settings).missing_chunks == 1


def test_floats_and_slices_are_watched(tmp_path: Path) -> None:
    """Floats are read twice for their statistics; the highest of all slices is what a projection depends on."""
    pixels = blurred_noise((1, 3, 90, 80)).astype(np.float32)
    image = written(str(tmp_path / "stack.zarr"), pixels, "tzyx")
    segmented(image, "calm", z_mode="max_projection", **WINDOWS)
    highest = np.argmax(pixels[0, :, 7, 9])
    act = Meanwhile(lambda: changed(image, (0, int(highest), 7, 9)), "predict")
    with pytest.raises(ChangedError, match="slice max"):
        segmented(image, "cells", z_mode="max_projection", executor=act, **WINDOWS)


def test_names_of_channels_and_sizes_of_pixels_belong_to_the_image(tmp_path: Path) -> None:
    """A resumed run must not put the numbers of one image into a table of another."""

    def die() -> None:
        raise KeyboardInterrupt

    image = written(str(tmp_path / "movie.zarr"), blurred_noise(SHAPE))
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=Meanwhile(die, "decode"), **WINDOWS)
    document = Path(image.url) / "zarr.json"
    document.write_text(document.read_text().replace('"label": "0"', '"label": "DAPI"'))
    with pytest.raises(RunError.__bases__[0], match=r"image.channels: \['0'\] → \['DAPI'\]"):
        segmented(open_image(image.url), "cells", **WINDOWS)


def test_the_same_pixels_in_other_chunks_are_the_same_image(image: NgffImage) -> None:
    """A run that is resumed compares the chunks of its first read, whatever chunks there are now."""
    import zarr

    segmented(image, "undisturbed", **WINDOWS)
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=Meanwhile(stop, "predict"), **WINDOWS)
    pixels = np.asarray(zarr.open_array(f"{image.url}/0")[:])
    made = zarr.create_array(f"{image.url}/0", shape=SHAPE, dtype=pixels.dtype, chunks=(1, 37, 64), overwrite=True)
    made[:] = pixels
    report = segmented(open_image(image.url), "cells", **WINDOWS)
    assert report.reused["intensity"] == 1
    assert equal(arrays(image, "cells"), arrays(image, "undisturbed"))


def stop() -> None:
    raise KeyboardInterrupt
