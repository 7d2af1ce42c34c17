"""A layer that is not what its tasks have written is never listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellscale.errors import RunError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import list_labels
from cellscale.segmentation.executor import one_by_one
from cellscale.segmentation.work_items import Task
from tests.blobs import blurred_noise
from tests.support.runs import arrays, equal, segmented, written


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    return written(str(tmp_path / "movie.zarr"), blurred_noise((2, 600, 600)))


def before_publication(harm: Callable[[Path], None], image: NgffImage) -> Callable[..., Iterator[tuple[Task, Any]]]:
    """Do harm to the layer when its arrays are there and nothing is written into them yet."""

    def executor(
        work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[tuple[Task, Any]]:
        if tasks[0].record.step == "publish-0":
            harm(Path(image.url) / "labels" / "cells")
        yield from one_by_one(work, shared, tasks, gpu=gpu)

    return executor


def after(step: str, harm: Callable[[Path], None], image: NgffImage) -> Callable[..., Iterator[tuple[Task, Any]]]:
    """Do harm to the layer when a step is done."""

    def executor(
        work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[tuple[Task, Any]]:
        yield from one_by_one(work, shared, tasks, gpu=gpu)
        if tasks[0].record.step.startswith(step):
            harm(Path(image.url) / "labels" / "cells")

    return executor


def chunks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.isdigit())


def lose(level: str) -> Callable[[Path], None]:
    return lambda layer: chunks(layer / level)[-1].unlink()


def add(layer: Path) -> None:
    (layer / "1" / "c" / "0" / "7").mkdir(parents=True)
    (layer / "1" / "c" / "0" / "7" / "7").write_bytes(b"of another writer")


@pytest.mark.parametrize(
    ("step", "harm", "named"),
    [
        ("publish-0", lose("0"), "Level 0 of .* stored objects"),
        ("tables", lose("1"), "Level 1 of .* stored objects"),
        ("publish-0", add, "Level 1 of .* stored objects"),
        (
            "tables",
            lambda layer: next((layer / "objects.parquet").iterdir()).unlink(),
            "1 stored parts, 2 were",
        ),
        ("tables", lambda layer: (layer / "objects.parquet/part-9.parquet").write_bytes(b""), "3 stored parts, 2 were"),
        ("tables", lambda layer: (layer / "1" / "zarr.json").unlink(), "Level 1 of .* 0 stored documents"),
    ],
)
def test_what_was_lost_or_added_meanwhile_is_found(
    image: NgffImage, step: str, harm: Callable[[Path], None], named: str
) -> None:
    with pytest.raises(RunError, match=f"{named}.*Nothing was published"):
        segmented(image, "cells", executor=after(step, harm, image))
    assert list_labels(image.url) == ()


def test_a_layer_is_not_listed_without_the_documents_of_its_arrays(image: NgffImage) -> None:
    """Its chunks are all written after the folder was deleted, and no one could read them."""
    with pytest.raises(RunError, match=r"Level 0 of .* has 0 stored documents, 1 were written.*Nothing was published"):
        segmented(image, "cells", executor=before_publication(shutil.rmtree, image))
    assert list_labels(image.url) == ()
    segmented(image, "cells", overwrite=True)
    segmented(image, "calm")
    assert equal(arrays(image, "cells"), arrays(image, "calm"))


def test_cells_of_a_frame_are_those_of_its_table(image: NgffImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cell is painted over by its neighbour, in the second frame alone."""
    from cellscale.ngff.labels import LabelLayer

    write = LabelLayer.write

    def wrong(self: LabelLayer, labels: np.ndarray, box: Any, **place: Any) -> int:
        if place.get("t") == 1 and place.get("level", 0) == 0:
            labels[labels == labels.max()] = 0
        return write(self, labels, box, **place)

    monkeypatch.setattr(LabelLayer, "write", wrong)
    with pytest.raises(RunError, match=r"Frame 1, slice 0 of .* cells of .* its object table"):
        segmented(image, "cells")
    assert list_labels(image.url) == ()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_background_and_both_versions_pass(tmp_path: Path, version: str) -> None:
    """Frames without cells, and levels of which most chunks are not stored."""
    from cellscale.ngff.image import open_image
    from cellscale.ngff.writer import create_image

    pixels = np.zeros((2, 300, 2500), np.uint16)
    pixels[0, 30:60, 20:60] = 900
    writer = create_image(
        str(tmp_path / "sparse.zarr"), shape_tczyx=(2, 1, 1, 300, 2500), dtype=np.uint16, axes="tyx", version=version
    )
    for t, frame in enumerate(pixels):
        writer.write(frame, t=t)
    writer.finish()
    report = segmented(open_image(str(tmp_path / "sparse.zarr")), "cells")
    assert report.cells == 1
    assert len(chunks(tmp_path / "sparse.zarr" / "labels" / "cells" / "0")) == 1
