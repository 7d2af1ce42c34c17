"""Plates and collections: one job over all images, equal to the images one by one; failures named, the rest done."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models
import pytest
import yaozarrs
import zarr
from click.testing import CliRunner
from matplotlib import colormaps
from PIL import Image

import cellscale
from cellscale.api.plate_results import (
    evaluate_plate,
    export_plate_ngio,
    export_plate_table,
    measure_plate,
    plate_overview,
)
from cellscale.cli.main import cli
from cellscale.errors import ExistsError, InputError, MissingError, RunError
from cellscale.ngff.labels import open_labels
from cellscale.ngff.plates import write_plate
from cellscale.ngff.writer import create_image
from cellscale.types import Box
from cellscale.viewers.pictures import plate_of_counts
from tests.blobs import blobs_model, blurred_noise
from tests.support.killed import killed_until_done

WELLS = ("A/1", "A/2", "B/1")
SIDE = 40
SETTINGS = {"precision": "fp32"}
NGIO_PYTHON = os.environ.get("NGIO_PYTHON", sys.executable)
"""The interpreter of an environment that has ngio; this one's where it is not set."""


def pixels(number: int) -> np.ndarray:
    return np.roll(blurred_noise((1, SIDE, SIDE))[0], 7 * number, axis=1)


def made_image(url: str, number: int, version: str, options: Mapping[str, Any] | None = None) -> None:
    shape = (1, 1, 1, SIDE, SIDE)
    with create_image(
        url, shape_tczyx=shape, dtype="u2", axes=("y", "x"), version=version, storage_options=options
    ) as writer:
        writer.write(pixels(number))


def made_plate(url: str, version: str = "0.5", options: Mapping[str, Any] | None = None) -> list[str]:
    """A plate of three wells with two fields each."""
    names = [f"{well}/{field}" for well in WELLS for field in "01"]
    for number, name in enumerate(names):
        made_image(f"{url}/{name}", number, version, options)
    write_plate(url, dict.fromkeys(WELLS, ("0", "1")), version=version, storage_options=options)
    return names


def damage(image: str) -> None:
    """Overwrite the chunks of an image's finest level."""
    chunks = [path for path in Path(image, "0", "c").rglob("*") if path.is_file()]
    assert chunks
    for chunk in chunks:
        chunk.write_bytes(b"damaged")


def labels(url: str, options: Mapping[str, Any] | None = None, layer: str = "cells") -> np.ndarray:
    return open_labels(url, layer, storage_options=options).read(Box(0, 0, SIDE, SIDE))


def run(url: str, **options: Any) -> cellscale.PlateResult:
    return cellscale.segment_plate(url, model=blobs_model(), backend="serial", settings=SETTINGS, **options)


def alone(url: str, layer: str, options: Mapping[str, Any] | None = None) -> np.ndarray:
    """Labels of one image, segmented by itself with other tiles."""
    cellscale.segment(
        url,
        model=blobs_model(),
        layer=layer,
        tile_size=16,
        backend="serial",
        settings=SETTINGS,
        storage_options=options,
    )
    return labels(url, options, layer)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_is_its_images(tmp_path: Path, version: str) -> None:
    url = str(tmp_path / "plate.zarr")
    names = made_plate(url, version)
    if version == "0.5":
        yaozarrs.validate_zarr_store(url)
    seen: list[tuple[str, int, int]] = []
    result = run(url, report=str(tmp_path / "report"), on_progress=lambda *step: seen.append(step))
    assert list(result.images) == names
    assert (dict(result.failed), result.reused) == ({}, ())
    assert [step for step in seen if step[0] == "images"] == [("images", done, 6) for done in range(7)]
    for name in names:
        expected = alone(f"{url}/{name}", "alone")
        assert expected.max() > 0
        np.testing.assert_array_equal(labels(f"{url}/{name}"), expected)
    summary = json.loads((tmp_path / "report" / "plate.json").read_text())
    assert summary["cells"] == result.cells == sum(int(labels(f"{url}/{name}").max()) for name in names)
    assert (tmp_path / "report" / "A" / "1" / "0" / "report.html").is_file()


@pytest.mark.usefixtures("cluster")
def test_small_images_are_tasks_of_ray(tmp_path: Path) -> None:
    url = str(tmp_path / "plate.zarr")
    names = made_plate(url)
    damage(f"{url}/A/2/0")
    result = cellscale.segment_plate(url, model=blobs_model(), settings=SETTINGS, wells="A/*")
    assert list(result.failed) == ["A/2/0"]
    assert list(result.images) == [names[0], names[1], names[3]]
    np.testing.assert_array_equal(labels(f"{url}/A/1/1"), alone(f"{url}/A/1/1", "alone"))


def test_a_plate_on_s3(s3: dict[str, Any]) -> None:
    url = "s3://cells/plates/plate.zarr"
    names = made_plate(url, options=s3)
    result = run(url, wells="B/*", storage_options=s3)
    assert list(result.images) == ["B/1/0", "B/1/1"]
    np.testing.assert_array_equal(labels(f"{url}/B/1/1", s3), alone(f"{url}/B/1/1", "alone", s3))
    assert list(cellscale.plate_images(url, storage_options=s3)) == names


def test_a_job_that_was_stopped_resumes(tmp_path: Path) -> None:
    url = str(tmp_path / "plate.zarr")
    names = made_plate(url)

    def stop(step: str, done: int, total: int) -> None:
        if (step, done) == ("images", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(url, on_progress=stop)
    attempts = [open_labels(f"{url}/{name}", "cells").attempt for name in names[:3]]
    for overwrite in (False, True):
        result = run(url, overwrite=overwrite)
        assert list(result.images) == names
        assert result.reused == tuple(names[:3] if not overwrite else names)
    assert [open_labels(f"{url}/{name}", "cells").attempt for name in names[:3]] == attempts


def drive(url: str, kills: Path) -> None:
    """Segment a plate; die when three images are done, then in the midst of the fifth one."""

    def on_progress(step: str, done: int, total: int) -> None:
        if (step, done) == ("images", 3):
            die("images")

    def on_status(step: str, message: str) -> None:
        if message.startswith("B/1/0: decode 1"):
            die("decode")

    def die(mark: str) -> None:
        if not (kills / mark).exists():
            (kills / mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    run(url, on_progress=on_progress, on_status=on_status)


def test_a_job_that_was_killed_resumes_with_equal_labels(tmp_path: Path) -> None:
    url, kills = str(tmp_path / "plate.zarr"), tmp_path / "kills"
    names = made_plate(url)
    kills.mkdir()
    assert killed_until_done(drive, url, kills) == 2
    assert {path.name for path in kills.iterdir()} == {"images", "decode"}
    assert run(url).reused == tuple(names)
    for name in names:
        np.testing.assert_array_equal(labels(f"{url}/{name}"), alone(f"{url}/{name}", "alone"))
        assert not list(Path(url, name).glob(".cellscale*"))


def foreign_plate(url: Path, version: str) -> list[str]:
    """A plate of 2 × 3 wells with two fields each, as the specification describes it, written by zarr alone."""
    wells = [f"{row}/{column}" for row in "AB" for column in ("1", "2", "3")]
    names = [f"{well}/{field}" for well in wells for field in "01"]
    listed = [{"path": well, "rowIndex": "AB".index(well[0]), "columnIndex": int(well[2]) - 1} for well in wells]
    content = {
        "rows": [{"name": row} for row in "AB"],
        "columns": [{"name": column} for column in ("1", "2", "3")],
        "wells": listed,
        "acquisitions": [{"id": 0}],
        "field_count": 2,
    }
    fields = {"images": [{"path": field, "acquisition": 0} for field in "01"]}
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5]}]}]
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    image = [{"axes": axes, "datasets": levels}]
    groups: dict[str, Any] = {"": ("plate", content), **dict.fromkeys(wells, ("well", fields))}
    for name in (*groups, "A", "B", *names):
        kind, value = groups.get(name, ("multiscales", image))
        value = [{**value[0], "version": version}] if kind == "multiscales" else {**value, "version": version}
        told = {"ome": {kind: value, "version": version}} if version == "0.5" else {kind: value}
        attributes = {} if name in ("A", "B") else told
        zarr.create_group(str(url / name), zarr_format=2 if version == "0.4" else 3, attributes=attributes)
    for number, name in enumerate(names):
        options: dict[str, Any] = {"zarr_format": 2} if version == "0.4" else {"dimension_names": ("y", "x")}
        zarr.create_array(str(url / name / "0"), data=pixels(number), chunks=(32, 32), **options)
    return names


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_of_another_program(tmp_path: Path, version: str) -> None:
    url = tmp_path / "plate.zarr"
    names = foreign_plate(url, version)
    (url / "B/2/1/0" / ("1.1" if version == "0.4" else "c/1/1")).write_bytes(b"damaged")
    result = run(str(url))
    assert list(result.failed) == ["B/2/1"]
    done = [name for name in names if name != "B/2/1"]
    assert list(result.images) == done
    for name in done[::4]:
        np.testing.assert_array_equal(labels(f"{url}/{name}"), alone(f"{url}/{name}", "alone"))
    group = zarr.open_group(url, mode="r")
    assert type(ome_zarr_models.open_ome_zarr(group)).__name__ == "HCS"
    assert type(ome_zarr_models.open_ome_zarr(group["A/1"])).__name__ == "Well"
    assert type(ome_zarr_models.open_ome_zarr(group["A/1/0"])).__name__ == "Image"
    if version == "0.5":
        yaozarrs.validate_zarr_store(str(url))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ngio_opens_a_segmented_plate(tmp_path: Path, version: str) -> None:
    if subprocess.run([NGIO_PYTHON, "-c", "import ngio"], capture_output=True, check=False).returncode:
        pytest.skip("no ngio: pip install ngio, or name the python that has it in NGIO_PYTHON")
    url = tmp_path / "plate.zarr"
    foreign_plate(url, version)
    result = run(str(url), wells="A/*")
    command = [NGIO_PYTHON, "-m", "tests.api.ngio_plate", str(url), str(tmp_path / "labels.npz")]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=300)
    with np.load(tmp_path / "labels.npz") as found:
        assert sorted(found) == sorted(result.images)
        for name in found:
            np.testing.assert_array_equal(found[name], labels(f"{url}/{name}"))


def test_commands_take_a_plate(tmp_path: Path) -> None:
    url, model = str(tmp_path / "plate.zarr"), str(tmp_path / "model")
    names = made_plate(url)
    cellscale.save_model(blobs_model(), model)
    runner, trust = CliRunner(), ("--trust-model", "tests.blobs", "--set", "precision=fp32", "--serial")
    damage(f"{url}/A/2/0")
    done = runner.invoke(cli, ["--quiet", "segment", url, "--model", model, "--json", *trust])
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert list(told["failed"]) == ["A/2/0"]
    assert list(told["images"]) == [name for name in names if name != "A/2/0"]
    done = runner.invoke(cli, ["evaluate", url, "--ground-truth", "cells", "--wells", "A/1,B/*", "--json"])
    scores = json.loads(done.stdout)
    assert (scores["f1"], list(scores["images"])) == (1.0, ["A/1/0", "A/1/1", "B/1/0", "B/1/1"])
    rows = tmp_path / "rows.csv"
    done = runner.invoke(cli, ["table", url, "--wells", "B/*", "--output", str(rows)])
    assert done.output.startswith(f"{len(rows.read_text().splitlines()) - 1} objects")
    picture = tmp_path / "plate.png"
    done = runner.invoke(cli, ["preview", url, "--wells", "A/1,B/1", "--output", str(picture)])
    assert done.exit_code == 0, done.output
    cells = {well: sum(told["images"][f"{well}/{field}"]["cells"] for field in "01") for well in ("A/1", "B/1")}
    assert picture.read_bytes() == plate_of_counts(cells, "cells in 'cells'")


def test_the_overview_has_a_field_for_each_well() -> None:
    """Wells with equal numbers of cells have equal colours; wells that are not named stay white."""
    with Image.open(io.BytesIO(plate_of_counts({"A/1": 0, "A/10": 8, "B/2": 8}, "cells"))) as drawn:
        picture = np.asarray(drawn.convert("RGB"))
    least, most = (np.round(255 * np.array(colormaps["YlGn"](end)[:3])) for end in (0.0, 1.0))
    none, eight = (int((picture == colour).all(axis=-1).sum()) for colour in (least, most))
    assert none > 1000
    assert eight == pytest.approx(2 * none, rel=0.2)


def test_a_field_that_fails_is_named(tmp_path: Path) -> None:
    url = str(tmp_path / "plate.zarr")
    names = made_plate(url)
    damage(f"{url}/A/2/1")
    shutil.rmtree(Path(url, "B/1"))
    result = run(url)
    assert sorted(result.failed) == ["A/2/1", "B/1"]
    assert "A/2/1" in result.failed["A/2/1"]
    assert list(result.images) == [name for name in names if name not in ("A/2/1", "B/1/0", "B/1/1")]
    with pytest.raises(RunError, match=r"All 1 images failed; B/1: .*does not exist"):
        run(url, wells="B/1")


@pytest.mark.parametrize("well", [{"images": []}, {}])
def test_a_well_that_lists_no_images_is_named(tmp_path: Path, well: dict[str, Any]) -> None:
    url = tmp_path / "p.zarr"
    made_plate(str(url))
    zarr.open_group(url / "A/2", mode="a").attrs["ome"] = {"version": "0.5", "well": well}
    result = cellscale.segment_plate(url, model=blobs_model(), backend="serial", settings=SETTINGS)
    assert list(result.images) == ["A/1/0", "A/1/1", "B/1/0", "B/1/1"]
    assert re.fullmatch(r".*A/2 is a well of a plate that lists no images\. .*", result.failed["A/2"])


def test_other_settings_are_refused_image_by_image(tmp_path: Path) -> None:
    url = str(tmp_path / "plate.zarr")
    made_plate(url)
    run(url, wells="A/1")
    result = cellscale.segment_plate(
        url, model=blobs_model(), backend="serial", settings=SETTINGS, tile_size=16, wells="A/1,A/2"
    )
    assert sorted(result.failed) == ["A/1/0", "A/1/1"]
    assert "already has a label layer 'cells'" in result.failed["A/1/0"]


def test_wells(tmp_path: Path) -> None:
    url = str(tmp_path / "plate.zarr")
    names = made_plate(url)
    assert list(cellscale.plate_images(url, wells="A/2,B/*")) == names[2:]
    assert list(cellscale.plate_images(f"{url}/A/1")) == ["0", "1"]
    assert list(cellscale.plate_images(f"{url}/A/1/0")) == [""]
    with pytest.raises(MissingError, match=r"No well .* matches 'C/\*'; it has A/1, A/2, B/1"):
        cellscale.plate_images(url, wells="A/1,C/*")
    with pytest.raises(InputError, match="is not a plate"):
        cellscale.plate_images(f"{url}/A/1/0", wells="A/1")


@pytest.mark.parametrize("path", ["../secret", "/etc", "A/../../x"])
def test_paths_stay_below_the_plate(tmp_path: Path, path: str) -> None:
    url = str(tmp_path / "plate.zarr")
    made_plate(url)
    document = json.loads(Path(url, "zarr.json").read_text())
    document["attributes"]["ome"]["plate"]["wells"][0]["path"] = path
    Path(url, "zarr.json").write_text(json.dumps(document))
    if path == "/etc":
        assert "etc" in cellscale.plate_images(url)
        return
    with pytest.raises(InputError, match="does not lead to a place below it"):
        cellscale.plate_images(url)


def test_wells_that_cannot_be_written(tmp_path: Path) -> None:
    for well in ("A", "A/1/2", "../1", ""):
        with pytest.raises(InputError, match="is not a valid name of a well"):
            write_plate(str(tmp_path / "p.zarr"), {well: ("0",)})
    with pytest.raises(InputError, match=r"'0\.3' cannot be written"):
        write_plate(str(tmp_path / "p.zarr"), {"A/1": ("0",)}, version="0.3")


def test_results_of_a_plate(tmp_path: Path) -> None:
    url = str(tmp_path / "plate.zarr")
    names = made_plate(url)
    result = run(url)
    scores = evaluate_plate(url, ground_truth="cells")
    assert (scores.total.f1, scores.total.frames, list(scores.images)) == (1.0, 6, names)
    output = tmp_path / "objects.csv"
    assert export_plate_table(url, str(output)) == result.cells
    lines = output.read_text().splitlines()
    assert lines[0].startswith('"image",')
    assert sorted({line.split(",")[0].strip('"') for line in lines[1:]}) == names
    assert measure_plate(url, layer="cells", overwrite=True, wells="A/*") == sum(
        result.images[name].cells for name in names[:4]
    )
    counts = plate_overview(url, output=str(tmp_path / "plate.png"))
    assert counts == {well: sum(result.images[f"{well}/{field}"].cells for field in "01") for well in WELLS}
    assert (tmp_path / "plate.png").read_bytes().startswith(b"\x89PNG")


def test_wells_without_the_layer_are_named_with_the_way_out(tmp_path: Path) -> None:
    """Nothing is done for any image then."""
    url, runner = tmp_path / "plate.zarr", CliRunner()
    for well in WELLS:
        cellscale.synthesize(f"{url}/{well}/0", shape=(1, SIDE, SIDE), cells=3)
    write_plate(url, dict.fromkeys(WELLS, ("0",)))
    shutil.rmtree(url / "A/2/0/labels")
    shutil.rmtree(url / "B/1")
    assert measure_plate(url, layer="truth", wells="A/1") == 3
    told = r"Cannot use 2 of 3 images of .*plate\.zarr: A/2/0, B/1\. .*choose others with --wells\. A/2/0: "
    commands: dict[str, list[str]] = {
        "measure": ["--overwrite"],
        "evaluate": ["--ground-truth", "truth"],
        "table": ["--output", str(tmp_path / "o.csv")],
        "preview": ["--output", str(tmp_path / "o.png")],
    }
    for command, given in commands.items():
        done = runner.invoke(cli, [command, str(url), "--layer", "truth", *given])
        assert isinstance(done.exception, MissingError)
        assert re.search(told, str(done.exception))
    for command, given in commands.items():
        done = runner.invoke(cli, [command, str(url), "--layer", "truth", "--wells", "A/1", *given])
        assert done.exit_code == 0, done.output
    cellscale.segment(url / "A/1/0", model=blobs_model(), backend="serial", settings=SETTINGS)
    with pytest.raises(ExistsError, match=r"Cannot use 1 of 1 images .*A/1/0.*has an object table already"):
        measure_plate(url, layer="cells", wells="A/1")
    assert export_plate_table(url, tmp_path / "o.csv", layer="truth", wells="A/1") == 3
    assert export_plate_ngio(url, layer="truth", wells="A/1") == 3
    with pytest.raises(MissingError, match=told):
        export_plate_ngio(url, layer="truth", overwrite=True)


def test_a_measurement_of_a_plate_continues_where_it_was_stopped(tmp_path: Path) -> None:
    url = tmp_path / "plate.zarr"
    for well in WELLS:
        cellscale.synthesize(f"{url}/{well}/0", shape=(2, SIDE, SIDE), cells=3)
    write_plate(url, dict.fromkeys(WELLS, ("0",)))
    assert cellscale.measure(f"{url}/A/1/0", layer="truth") == 6
    made = {path: path.stat().st_mtime_ns for path in url.rglob("*.parquet") if path.is_file()}
    assert made
    assert measure_plate(url, layer="truth") == 18
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert measure_plate(url, layer="truth") == 18
    with pytest.raises(ExistsError, match=r"Cannot use 3 of 3 images .* has an object table already"):
        measure_plate(url, layer="truth", frames=(0, 1))
    document = url / "A/2/0/zarr.json"
    described = json.loads(document.read_text())
    described["attributes"]["ome"]["omero"] = {"channels": [{"label": "GFP"}]}
    document.write_text(json.dumps(described))
    with pytest.raises(ExistsError, match=r"Cannot use 1 of 3 images .* A/2/0: .* has an object table already"):
        measure_plate(url, layer="truth")
    assert measure_plate(url, layer="truth", overwrite=True) == 18
    assert measure_plate(url, layer="truth") == 18


def test_no_feature_table_is_written_where_one_image_refuses_its_own(tmp_path: Path) -> None:
    url = tmp_path / "plate.zarr"
    for well, frames in zip(WELLS, (1, 1, 2), strict=True):
        cellscale.synthesize(f"{url}/{well}/0", shape=(frames, SIDE, SIDE), cells=3)
    write_plate(url, dict.fromkeys(WELLS, ("0",)))
    measure_plate(url, layer="truth")
    with pytest.raises(InputError, match=r"Cannot use 1 of 3 images .* B/1/0: Labels of .* occur in several frames"):
        export_plate_ngio(url, layer="truth", overwrite=True)
    assert not list(url.rglob("tables"))
    assert export_plate_ngio(url, layer="truth", wells="A/2") == 3
    with pytest.raises(ExistsError, match=r"Cannot use 1 of 2 images .* A/2/0: .* exists already\. Replace it with"):
        export_plate_ngio(url, layer="truth", wells="A/*")
    assert [path.parent.parent.name for path in url.rglob("tables")] == ["2"]
    assert export_plate_ngio(url, layer="truth", wells="A/*", overwrite=True) == 6


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate", ("--ground-truth-store", "x.zarr")),
        ("measure", ("--layer-store", "x.zarr")),
        ("preview", ("--frame", "0")),
        ("preview", ("--count", "4")),
        ("preview", ("--channel", "0")),
        ("preview", ("--slice", "0")),
        ("preview", ("--longest", "99")),
        ("preview", ("--ground-truth", "truth")),
        ("preview", ("--labels-store", "x.zarr")),
    ],
)
def test_options_that_a_plate_would_ignore_are_refused(tmp_path: Path, command: str, option: tuple[str, str]) -> None:
    url = str(tmp_path / "plate.zarr")
    for well in ("A/1", "A/2"):
        made_image(f"{url}/{well}/0", 0, "0.5")
    write_plate(url, {"A/1": ["0"], "A/2": ["0"]})
    done = CliRunner().invoke(cli, [command, url, "--layer", "truth", *option])
    assert done.exit_code == 2
    assert f"{option[0]} is for one image; omit it for a plate or collection." in done.output
    with pytest.raises(InputError, match="layer_store is for one image"):
        measure_plate(url, layer="truth", layer_store="x.zarr")


def test_a_picture_of_a_plate_takes_the_place_of_pictures_alone(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"raw\.tif is not a valid name of a picture; expected one that ends with \.png"
    ):
        plate_overview(tmp_path / "plate.zarr", output=tmp_path / "raw.tif")


def test_cells_are_counted_by_the_ends_of_the_tables(tmp_path: Path) -> None:
    url = tmp_path / "plate.zarr"
    made_plate(str(url))
    result = cellscale.segment_plate(url, model=blobs_model(), backend="serial", settings=SETTINGS, wells="A/1")
    tables = sorted(url.rglob("part-*.parquet"))
    assert len(tables) == 2
    for table in tables:
        content = table.read_bytes()
        footer = 8 + int.from_bytes(content[-8:-4], "little")
        table.write_bytes(bytes(len(content) - footer) + content[-footer:])
    counts = plate_overview(url, output=tmp_path / "plate.png", wells="A/1")
    assert counts == {"A/1": result.cells}
    tables[0].write_bytes(b"PAR1")
    with pytest.raises(cellscale.CellscaleError, match="Cannot read"):
        plate_overview(url, output=tmp_path / "plate.png", wells="A/1")


def test_commands_take_a_collection(tmp_path: Path) -> None:
    url, model = str(tmp_path / "c.zarr"), str(tmp_path / "model")
    cellscale.save_model(blobs_model(), model)
    for number in range(3):
        made_image(f"{url}/{number}", number, "0.5")
    attributes = {"ome": {"version": "0.5", "bioformats2raw.layout": 3}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    Path(url, "zarr.json").write_text(json.dumps(group))
    runner, trust = CliRunner(), ("--trust-model", "tests.blobs", "--set", "precision=fp32", "--serial")
    damage(f"{url}/1")
    done = runner.invoke(cli, ["--quiet", "segment", url, "--model", model, *trust])
    assert done.exit_code == 3
    assert "cells in 2 images" in done.output
    assert "cellscale: 1 failed: " in done.output
    done = runner.invoke(cli, ["preview", f"{url}/0", "--output", str(tmp_path / "one.png")])
    assert done.exit_code == 0, done.output
    done = runner.invoke(cli, ["segment", url, "--model", model, "--wells", "A/1", *trust])
    assert "is not a plate" in str(done.exception)
