"""Labels that are painted on become a layer of the frames that were corrected, and a training learns from these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import cellscale
from cellscale.cli.main import cli
from cellscale.errors import CellscaleError, InputError, MissingError, StoreError
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.training.selection import training_data
from cellscale.viewers.corrections import Correction, correction_of
from cellscale.viewers.napari import add_correction, saved, saved_at_end
from tests.ngff.pictures import make, noise

SHAPE = (5, 40, 50)


def movie(folder: Path, shape: tuple[int, ...] = SHAPE, axes: str = "tyx") -> tuple[NgffImage, NDArray[np.uint32]]:
    """An image with the layer `cells`, and the labels of this layer."""
    image = make(folder / "i.zarr", noise(*shape), axes)
    labels = np.zeros(shape, np.uint32)
    labels[..., 5:15, 5:20], labels[..., 20:30, 25:40] = 3, 8
    cellscale.save_labels(labels, image.url, "cells", axes=axes)
    return image, labels


def begun(image: NgffImage, name: str | None = None) -> Correction:
    return correction_of(image, open_labels(image.url, "cells"), name)


def values(image: NgffImage, layer: str = "cells-corrected") -> NDArray[Any]:
    found: NDArray[Any] = cellscale.open_labels(image.url, layer).values
    return found


def test_frames_that_were_changed_are_saved_and_named(tmp_path: Path) -> None:
    image, labels = movie(tmp_path)
    correction = begun(image)
    correction[1, 5:15, 5:20] = 0
    correction[(np.array([3, 3]), np.array([0, 1]), np.array([0, 2]))] = 9
    correction[2, 0, 0] = 7
    correction[2, 0, 0] = 0  # undone
    assert correction.save() == f"{image.url}/labels/cells-corrected"
    labels[1, 5:15, 5:20] = 0
    labels[3, 0, 0] = labels[3, 1, 2] = 9
    found = values(image)
    np.testing.assert_array_equal(found[[1, 3]], labels[[1, 3]])
    assert not found[[0, 2, 4]].any()
    assert open_labels(image.url, "cells-corrected").metadata["frames"] == [1, 3]
    np.testing.assert_array_equal(values(image, "cells")[1, 5:15, 5:20], 3)
    learned = training_data(open_image(image.url), "cells-corrected", 1)
    assert [t for t, _ in learned.planes] == [1, 3]


def test_a_correction_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    image, labels = movie(tmp_path)
    first = begun(image)
    first[0, 0, :4] = 1
    first.save()
    first[4, 0, :4] = 2
    other = begun(image)
    assert other[0, 0, :5].tolist() == [1, 1, 1, 1, 0]
    other.correct.add(2)
    other.save()
    first.save()
    found = values(image)
    assert open_labels(image.url, "cells-corrected").metadata["frames"] == [0, 2, 4]
    assert (found[0, 0, :4].tolist(), found[4, 0, :4].tolist()) == ([1] * 4, [2] * 4)
    np.testing.assert_array_equal(found[2], labels[2])


def test_frames_that_others_save_meanwhile_are_kept(tmp_path: Path) -> None:
    """Another process saves after this one has read the layer, and before it publishes."""
    image, _ = movie(tmp_path)
    first = begun(image)
    first[0, 0, :4] = 1
    first.save()
    first[4, 0, :4] = 2
    other, saves = begun(image), list[str | None]()
    other.correct.add(2)

    def meanwhile(step: str, done: int, total: int) -> None:
        if not saves:
            saves.append(other.save())

    first.save(on_progress=meanwhile)
    assert saves == [f"{image.url}/labels/cells-corrected"]
    assert open_labels(image.url, "cells-corrected").metadata["frames"] == [0, 2, 4]
    assert values(image)[4, 0, :4].tolist() == [2] * 4
    names = {path.name for path in Path(image.url, "labels", "cells-corrected").iterdir()}
    assert len(names - {"zarr.json"}) == len(image.levels)


def test_nothing_is_written_for_nothing(tmp_path: Path) -> None:
    image, _ = movie(tmp_path)
    correction = begun(image)
    correction[0, 5, 5] = 3
    assert correction.save() is None
    assert saved(correction) == "no frame was corrected"
    assert list_labels(image.url) == ("cells",)


@pytest.mark.parametrize(("shape", "axes"), [((4, 3, 20, 30), "tzyx"), ((20, 30), "yx"), ((3, 20, 30), "zyx")])
def test_it_reads_and_writes_as_an_array_of_numpy(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    image, labels = movie(tmp_path, shape, axes)
    correction, rng = begun(image), np.random.default_rng(0)
    assert (correction.shape, correction.ndim, correction.dtype) == (shape, len(shape), np.dtype(np.uint32))
    lead = len(shape) - 2
    points = tuple(rng.integers(0, size, 12) for size in shape)
    keys: list[Any] = [
        (..., slice(2, 9), slice(None, None, 2)),
        (*[-1] * lead, slice(None), 4),
        (*[0] * lead, points[-2], points[-1]),
        points,
        tuple(int(part[0]) for part in points),
        ...,
        *([(slice(1, 3),)] if lead else []),
    ]
    for number, key in enumerate(keys):
        np.testing.assert_array_equal(correction[key], labels[key])
        correction[key] = labels[key] = number + 20
        np.testing.assert_array_equal(np.asarray(correction), labels)
    correction.save()
    np.testing.assert_array_equal(values(image), labels)
    with pytest.raises(IndexError, match="is not an index"):
        correction[(0,) * (len(shape) + 1)]


def test_what_cannot_be_corrected_is_refused(tmp_path: Path) -> None:
    image, _ = movie(tmp_path)
    with pytest.raises(InputError, match="need another name"):
        begun(image, "cells")
    cellscale.save_labels(np.zeros(SHAPE, np.uint8), image.url, "truth")
    layer = open_labels(image.url, "truth")
    document: Any = layer.store.read_json("zarr.json")
    del document["attributes"]["cellscale"]["frames"]
    layer.store.write_json("zarr.json", document)
    with pytest.raises(InputError, match="does not name its annotated frames"):
        begun(image, "truth")
    (tmp_path / "other").mkdir()
    small, _ = movie(tmp_path / "other", (5, 20, 25))
    with pytest.raises(InputError, match="corrected at the size of its image"):
        correction_of(image, open_labels(small.url, "cells"))


class Layer:
    """What a viewer makes of labels."""

    def __init__(self, data: Any, **options: Any) -> None:
        self.data, self.options = data, options


class Viewer:
    """The part of napari's viewer that a correction uses."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.status = ""
        self.layers = self.selection = self.dims = self
        self.active: Any = None
        self.current_step = (2, 0, 0)

    def add_labels(self, data: Any, **options: Any) -> Layer:
        return Layer(data, **options)

    def bind_key(self, key: str, work: Any, *, overwrite: bool) -> None:
        self.keys[key] = work


def test_keys_of_the_viewer_save(tmp_path: Path) -> None:
    image, labels = movie(tmp_path)
    viewer = Viewer()
    layer: Layer = add_correction(viewer, begun(image, "by-hand"))
    assert viewer.active is layer
    place = {"scale": list(image.levels[0].scale), "translate": list(image.levels[0].translation)}
    assert layer.options == {"name": "by-hand", **place, "multiscale": False}
    viewer.keys["F6"](viewer)
    layer.data[0, 1, 1] = 4
    viewer.keys["F5"](viewer)
    assert viewer.status.startswith("frames 0:1, 2:3 (half-open) → ")
    np.testing.assert_array_equal(values(image, "by-hand")[2], labels[2])


@pytest.mark.parametrize(("shape", "axes"), [(SHAPE, "tyx"), ((3, 2, 40, 50), "tzyx"), ((40, 50), "yx")])
def test_what_cannot_be_saved_at_the_end_is_kept_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axes: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    image, labels = movie(tmp_path, shape, axes)
    correction, last = begun(image), [slice(2, 3)] * ("t" in axes) + [slice(1, 2)] * ("z" in axes)
    painted: Any = (*last, slice(2, 4), slice(2, 4))
    correction[painted] = 9
    correction.correct |= {0}
    moved = Path(image.url).rename(tmp_path / "away")
    with pytest.raises(CellscaleError, match=r"kept in \S+painted\.npz: .* --painted \S+") as failed:
        saved_at_end(correction)
    moved.rename(image.url)
    kept = Path(str(failed.value).rpartition("--painted ")[2].partition(" ")[0])
    resumed = begun(image)
    resumed.restore(kept)
    assert saved_at_end(resumed).startswith(f"frames 0:1{', 2:3' * ('t' in axes)} ")
    labels[painted] = 9
    found = values(image)
    np.testing.assert_array_equal(found[[0, 2] if "t" in axes else ...], labels[[0, 2] if "t" in axes else ...])


def test_a_file_of_another_image_is_not_painted(tmp_path: Path) -> None:
    image, _ = movie(tmp_path)
    (tmp_path / "other").mkdir()
    larger, _ = movie(tmp_path / "other", (9, 40, 50))
    correction = begun(larger)
    correction[8, 0, 0] = 1
    correction.keep(tmp_path / "painted.npz")
    with pytest.raises(InputError, match="painted on an image of another size"):
        begun(image).restore(tmp_path / "painted.npz")
    np.savez(tmp_path / "other.npz", images=np.zeros((5, 40, 50)))
    with pytest.raises(MissingError, match="Unknown array 'planes'"):
        begun(image).restore(tmp_path / "other.npz")
    with pytest.raises(StoreError, match=r"Cannot read .*none"):
        begun(image).restore(tmp_path / "none.npz")


@pytest.mark.parametrize("option", ["--host=127.0.0.1", "--port=9000", "--no-browser"])
def test_options_of_the_page_are_refused_with_napari(tmp_path: Path, option: str) -> None:
    done = CliRunner().invoke(cli, ["view", movie(tmp_path)[0].url, "--napari", option])
    assert done.exit_code == 2
    assert f"{option.partition('=')[0]} is for the page in the browser; omit it with --napari" in done.output


def test_the_command(tmp_path: Path) -> None:
    image, _ = movie(tmp_path)
    for words in (["--correct", "cells"], ["--napari", "--save-as", "x"], ["--napari", "--painted", "x.npz"]):
        done = CliRunner().invoke(cli, ["view", image.url, *words])
        assert done.exit_code == 2
        assert "--napari --correct LAYER" in done.output
    done = CliRunner().invoke(cli, ["view", image.url, "--napari", "--correct", "nuclei"])
    assert isinstance(done.exception, MissingError)
    assert "nuclei" in str(done.exception)
