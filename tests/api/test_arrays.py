"""Arrays are segmented to the bytes that the store path writes, and saved with all that they say."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import cellscale
from cellscale.errors import ExistsError, InputError
from cellscale.ngff.frame_ranges import annotated
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.types import Box
from tests.blobs import blobs_model, blurred_noise
from tests.ngff.pictures import make, noise
from tests.support.runs import arrays, segmented, written

AXES = ("yx", "tyx", "zyx", "tzyx", "cyx", "tczyx", "zcyx", "yxc", "tyxc", "xyt")


@st.composite
def labelled_arrays(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    axes = draw(st.sampled_from(AXES))
    sizes = {"t": draw(st.integers(1, 2)), "c": draw(st.integers(1, 2)), "z": draw(st.integers(1, 2))}
    sizes |= {"y": draw(st.integers(20, 60)), "x": draw(st.integers(20, 60))}
    smooth = blurred_noise(tuple(sizes[axis] for axis in "tczyx"), seed=draw(st.integers(0, 99)))
    index = tuple(slice(None) if axis in axes else 0 for axis in "tczyx")
    left = [axis for axis in "tczyx" if axis in axes]
    return np.ascontiguousarray(smooth[index].transpose([left.index(axis) for axis in axes])), axes


def stored_labels(pixels: np.ndarray, axes: str, **how: Any) -> np.ndarray:
    """Labels (t, z, y, x) of the same pixels in a store that another writer has made."""
    order = [axis for axis in "tczyx" if axis in axes]
    arranged = pixels.transpose([axes.index(axis) for axis in order])
    with TemporaryDirectory() as folder:
        image = written(f"{folder}/image.zarr", arranged, "".join(order))
        segmented(image, "cells", **how)
        return arrays(image, "cells")[0]


@settings(max_examples=10, deadline=None)
@given(
    labelled_arrays(), st.sampled_from([16, 25, 64]), st.sampled_from([1024, 32]), st.sampled_from(["numpy", "dask"])
)
def test_an_array_has_the_labels_of_the_store_path(
    made: tuple[np.ndarray, str], tile_size: int, window_size: int, kind: str
) -> None:
    pixels, axes = made
    expected = stored_labels(pixels, axes, tile_size=tile_size, window_size=window_size)
    given_array = pixels if kind == "numpy" else da.from_array(pixels, chunks=17)
    how = {"tile_size": 40, "window_size": window_size, "precision": "fp32"}
    labels = blobs_model().segment(given_array, axes=axes, settings=how)
    assert type(labels) is type(given_array)
    assert labels.dtype == np.uint32
    kept = [axis for axis in axes if axis != "c"]
    index = tuple(slice(None) if axis in kept else 0 for axis in "tzyx")
    order = [axis for axis in "tzyx" if axis in kept]
    assert np.array_equal(np.asarray(labels), expected[index].transpose([order.index(axis) for axis in kept]))


@pytest.mark.parametrize("lazy", [False, True])
def test_an_xarray_result_keeps_coordinates(lazy: bool) -> None:
    pixels = blurred_noise((2, 3, 2, 40, 50))
    array = xr.DataArray(
        da.from_array(pixels) if lazy else pixels,
        dims=("t", "c", "z", "y", "x"),
        coords={
            "t": [0.0, 300.0],
            "c": ["DAPI", "GFP", "RFP"],
            "y": ("y", np.arange(40) * 0.65, {"units": "µm"}),
            "time_of_day": ("t", ["day", "night"]),
            "well": "B03",
        },
    )
    labels = blobs_model().segment(array, channels=["GFP"])
    assert labels.dims == ("t", "z", "y", "x")
    assert set(labels.coords) == {"t", "y", "time_of_day", "well"}
    assert labels.y.identical(array.y)
    assert (labels.chunks is not None) is lazy
    alone = blobs_model().segment(pixels[:, 1], axes="tzyx")
    assert alone.max() > 1
    assert np.array_equal(np.asarray(labels), alone)


def test_a_projection_has_no_slices() -> None:
    pixels = blurred_noise((3, 40, 50))
    labels = blobs_model().segment(pixels, axes="zyx", z_mode="max_projection")
    assert np.array_equal(labels, blobs_model().segment(pixels.max(0)))


def test_what_is_not_an_array_is_refused(tmp_path: Path) -> None:
    model: Any = blobs_model()
    with pytest.raises(InputError, match=r"array is list; expected an array of NumPy, dask or xarray"):
        model.segment([[1, 2], [3, 4]])
    with pytest.raises(InputError, match=r"shape \(2, 2, 20, 20\); name its axes with --axes"):
        model.segment(np.zeros((2, 2, 20, 20), np.uint8))
    with pytest.raises(InputError, match=r"dimensions row, column; expected names among t, c, z, y, x"):
        model.segment(xr.DataArray(np.zeros((20, 20)), dims=("row", "column")))
    with pytest.raises(InputError, match=r"image is ndarray; expected a URL or a path\. Use Model\.segment"):
        cellscale.segment(np.zeros((20, 20)), model=model)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="model is int; expected a URL or a path"):
        cellscale.load_model(7)  # type: ignore[arg-type]


def test_masked_pixels_and_unknown_shapes_are_refused(tmp_path: Path) -> None:
    masked = np.ma.array(noise(20, 20), mask=False)
    assert cellscale.save_image(masked, tmp_path / "whole.zarr", axes="yx").size("y") == 20
    masked[3, 4:6] = np.ma.masked
    with pytest.raises(InputError, match=r"has 2 masked pixels; .* array\.filled\(0\)"):
        cellscale.save_image(masked, tmp_path / "i.zarr", axes="yx")
    with pytest.raises(InputError, match=r"array of labels has 2 masked pixels"):
        cellscale.save_labels(masked, tmp_path / "whole.zarr", "cells")
    lazy = da.from_array(noise(20, 20), chunks=10)
    with pytest.raises(InputError, match=r"shape \(nan, 20\); .*compute_chunk_sizes\(\)"):
        blobs_model().segment(lazy[lazy[:, 0] > 50], axes="yx")


@pytest.mark.parametrize(("name", "value"), [("unique_ids", True), ("frames", (0, 1))])
def test_settings_over_several_frames_are_refused_for_lazy_arrays(name: str, value: Any) -> None:
    pixels = da.from_array(blurred_noise((2, 20, 20)), chunks=20)
    with pytest.raises(InputError, match=f"'{name}' is given for a lazy array.*Call its compute"):
        blobs_model().segment(pixels, axes="tyx", settings={name: value})
    assert blobs_model().segment(pixels, axes="tyx", settings={"unique_ids": False}).shape == (2, 20, 20)


def test_save_image_keeps_pixels_sizes_and_names(tmp_path: Path) -> None:
    pixels = noise(2, 3, 40, 50)
    array = xr.DataArray(
        da.from_array(pixels, chunks=16),
        dims=("t", "c", "y", "x"),
        coords={
            "t": ("t", [0.0, 5.0], {"units": "min"}),
            "c": ["DAPI", "GFP", "RFP"],
            "y": ("y", np.arange(40) * 0.65, {"units": "µm"}),
            "x": ("x", np.arange(50) * 325.0, {"units": "nm"}),
        },
    )
    image = cellscale.save_image(array, tmp_path / "saved.zarr")
    assert image.pixel_size_um() == (0.65, 0.325)
    assert image.frame_interval_s() == 300
    assert image.channels == ("DAPI", "GFP", "RFP")
    read = cellscale.open_image(tmp_path / "saved.zarr")
    assert np.array_equal(read, pixels)
    with pytest.raises(ExistsError):
        cellscale.save_image(pixels, tmp_path / "saved.zarr", axes="tcyx")
    again = cellscale.save_image(read, tmp_path / "again.zarr")
    assert (again.pixel_size_um(), again.frame_interval_s()) == ((0.65, 0.325), 300)


def test_coordinates_in_units_that_are_not_known_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    coords = {axis: (axis, np.arange(40) * 0.65, {"units": "furlong"}) for axis in "yx"}
    array = xr.DataArray(noise(40, 40), dims=("y", "x"), coords=coords)
    assert cellscale.save_image(array, tmp_path / "saved.zarr").pixel_size_um() is None
    assert ["pixel size in 'furlong'" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("axes", "shape"), [("zyx", (3, 30, 40)), ("tzyx", (2, 3, 30, 40)), ("tczyx", (2, 2, 3, 30, 40))]
)
def test_labels_have_the_axes_of_their_image(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    image = cellscale.save_image(np.zeros(shape, np.uint8), tmp_path / "i.zarr", axes=axes)
    planes = [size for axis, size in zip(axes, shape, strict=True) if axis != "c"]
    labels = np.arange(np.prod(planes), dtype=np.uint32).reshape(planes)
    cellscale.save_labels(labels, image.url, "all")
    assert np.array_equal(np.squeeze(cellscale.open_labels(image.url, "all").values), labels)


def test_save_labels_names_the_annotated_frames(tmp_path: Path) -> None:
    image = make(tmp_path / "image.zarr", noise(4, 40, 600), "tyx")
    labels = np.random.default_rng(0).integers(0, 9, (4, 40, 600)).astype(np.int64)
    url = cellscale.save_labels(da.from_array(labels, chunks=30), image.url, "all")
    assert url == f"{image.url}/labels/all"
    assert np.array_equal(cellscale.open_labels(image.url, "all"), labels)
    assert np.array_equal(cellscale.open_labels(image.url, "all", level=1), labels[:, ::2, ::2])
    cellscale.save_labels(labels, image.url, "some", frames=[1, 3])
    assert np.array_equal(cellscale.open_labels(image.url, "some"), labels)
    cellscale.save_labels(labels[[1, 3]], image.url, "few", frames=[1, 3])
    kept = labels.copy()
    kept[[0, 2]] = 0
    assert np.array_equal(cellscale.open_labels(image.url, "few"), kept)
    for layer, frames in (("all", [0, 1, 2, 3]), ("some", [1, 3]), ("few", [1, 3])):
        assert annotated(open_labels(image.url, layer), range(4)) == frames


def test_labels_that_do_not_fit_leave_what_is_there(tmp_path: Path) -> None:
    image = make(tmp_path / "image.zarr", noise(2, 40, 50), "tyx")
    good = np.ones((2, 40, 50), np.uint8)
    cellscale.save_labels(good, image.url, "layer")
    with pytest.raises(ExistsError):
        cellscale.save_labels(good, image.url, "layer")
    for bad, frames, message in (
        (np.full((2, 40, 50), -1), None, "holds -1 to -1; labels are 0 to 4294967295"),
        (np.full((2, 40, 50), 0.5), None, "labels are integers"),
        (good[:, :-1], None, "needs labels of"),
        (good[:1], None, "1 time points"),
        (good[:1], [2], "ascending numbers below 2"),
        (good, [1, 0], "ascending numbers below 2"),
    ):
        with pytest.raises(InputError, match=message):
            cellscale.save_labels(bad, image.url, "layer", frames=frames, overwrite=True)
    assert list_labels(image.url) == ("layer",)
    assert sorted(path.name for path in (tmp_path / "image.zarr/labels/layer").iterdir()) == ["0", "zarr.json"]
    layer = open_labels(image.url, "layer")
    assert layer.read(Box(0, 0, 40, 50), t=1).min() == 1
    cellscale.save_labels(2 * good, image.url, "layer", overwrite=True)
    assert int(cellscale.open_labels(image.url, "layer").min()) == 2


def test_paths_are_taken_wherever_urls_are(tmp_path: Path) -> None:
    movie, model = tmp_path / "movie.zarr", tmp_path / "model"
    np.save(tmp_path / "frames.npy", blurred_noise((2, 48, 64)))
    np.save(tmp_path / "masks.npy", np.ones((2, 48, 64), np.uint8))
    cellscale.import_images(tmp_path / "frames.npy", movie, masks=tmp_path / "masks.npy")
    cellscale.save_model(blobs_model(), model)
    trust = ["tests.blobs"]
    assert cellscale.load_model(model, trust=trust).method.name == "tests.blobs:BLOBS"
    out = tmp_path / "labels.zarr"
    how: Any = {"trust": trust, "backend": "serial"}
    cellscale.segment(movie, model=model, **how)
    result = cellscale.segment(movie, model=model, output=out, report=tmp_path / "report", **how)
    assert result.layer == f"{out}/labels/cells"
    assert (tmp_path / "report/report.html").exists()
    cellscale.predict_maps(movie, model=model, output=tmp_path / "maps.zarr", trust=trust)
    assert cellscale.evaluate(movie, ground_truth="cells", ground_truth_store=out).f1 == 1
    assert cellscale.export_table(movie, tmp_path / "objects.csv") == result.cells
    assert cellscale.measure(movie, layer="truth") == 2
    assert cellscale.preview(movie, output=tmp_path / "p.png", labels_store=out).picture == str(tmp_path / "p.png")
    assert cellscale.scene(movie, labels_store=out).image.url == str(movie)
    assert cellscale.upsample_labels(movie, new_layer="full") == f"{movie}/labels/full"
    few = {"trees": 2, "leaves": 8, "scales": [1.0], "crop": 32, "loader_workers": 0}
    cellscale.train("pixel-forest", [movie], output=tmp_path / "forest", settings=few, backend="serial")
    assert open_image(str(movie)).url == str(movie)
    with pytest.raises(InputError, match="expected a list"):
        cellscale.train("pixel-forest", movie, output=tmp_path / "other", backend="serial")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"validation data are one location, .*expected a list"):
        cellscale.train("pixel-forest", [movie], validation=str(movie), output=tmp_path / "other", backend="serial")
