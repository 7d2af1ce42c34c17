"""The commands as a user types them: in processes of their own where the process matters, else in this one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import tifffile

from cellscale.cli.main import main
from cellscale.cli.terminal import Shown, log
from cellscale.models.model import save_model
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.types import Box
from tests.blobs import blobs_model, blurred_noise

ROOT = Path(__file__).parents[1]
TRUST = ("--trust-model", "tests.blobs")
"""Options for models of the method in `tests/blobs.py`."""
PATH = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
Here: TypeAlias = Callable[..., tuple[int, str, str]]


def cellscale(*words: Any, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "cellscale", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a movie with truth and a model."""
    folder = tmp_path_factory.mktemp("work")
    pixels = blurred_noise((5, 160, 200))
    truth = (pixels > 3500).astype(np.uint16) * np.arange(1, 6, dtype=np.uint16)[:, None, None]
    tifffile.imwrite(folder / "frames.tif", pixels)
    tifffile.imwrite(folder / "masks.tif", truth)
    save_model(blobs_model(), str(folder / "model"))
    cellscale(
        "import",
        folder / "frames.tif",
        folder / "movie.zarr",
        "--masks",
        folder / "masks.tif",
        "--classes",
        "keep",
        "--pixel-size",
        0.5,
    )
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """Run a command in this process, which keeps its own signals, log and environment; status, output and messages."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    handler, level = signal.getsignal(signal.SIGTERM), log.level

    def run(*words: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cellscale", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, handler)
    log.setLevel(level)


def test_help_loads_no_library_that_takes_seconds() -> None:
    """The commands import what they need when they run."""
    code = (
        "import sys, cellscale.cli.main; print(*{'torch', 'ray', 'zarr', 'dask', 'xarray', 'numba'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split() == []


def test_import_segment_evaluate(work: Path) -> None:
    movie = work / "movie.zarr"
    report = json.loads(
        cellscale("segment", movie, "--model", work / "model", *TRUST, "--tile-size", 64, "--serial", "--json").stdout
    )
    assert report["planes"] == 5
    assert report["cells"] > 10
    cellscale("evaluate", movie, "--frames", "1:3", "--output", work / "scores.json")
    scores = json.loads((work / "scores.json").read_text())
    assert scores["frames"] == 2
    assert 0 < scores["dice"] <= 1


def test_plan_tells_what_segment_does_and_writes_nothing(work: Path, here: Here) -> None:
    words = (
        "--model",
        work / "model",
        *TRUST,
        "--tile-size",
        64,
        "--set",
        "window_size=64",
        "--set",
        "task_px=20000",
        "--json",
    )
    before = snapshot(work)
    told = json.loads(here("plan", work / "movie.zarr", *words, "--price", "put=2000000,get=0")[1])
    assert snapshot(work) == before
    done = json.loads(here("segment", work / "movie.zarr", *words, "--layer", "planned", "--serial")[1])
    assert told["tasks"] == done["tasks"]
    assert {name: entry["PUT"] for name, entry in told["io"].items()} == {
        name: entry["PUT"] for name, entry in done["io"].items()
    }
    assert told["price"] == 2 * told["io"]["total"]["PUT"]
    assert (told["planes"], told["windows"], told["tiles"]) == (5, 5 * 12, 5 * 12)
    assert told["halo_cost"] == pytest.approx((72 / 64) ** 2)
    core = 5 * 160 * 200 * 2
    assert told["bytes"]["read_intensity"] == told["bytes"]["read_decode"] == core < told["bytes"]["read_predict"]
    assert told["bytes"]["output_uncompressed"] == 2 * core
    assert told["label_dtype"] == "uint32"
    assert 2**26 < told["peak_worker_bytes"] < 2**33
    assert all(seconds > 0 for seconds in told["worker_seconds"].values())


def test_failed_tiles_end_with_status_3(work: Path, tmp_path: Path, here: Here) -> None:
    shutil.copytree(work / "movie.zarr", tmp_path / "movie.zarr")
    next(path for path in (tmp_path / "movie.zarr/0/c/2").rglob("0") if path.is_file()).write_bytes(b"damaged")
    words = ("segment", tmp_path / "movie.zarr", "--model", work / "model", *TRUST, "--layer", "holed", "--serial")
    status, _, refused = here(*words)
    assert status == 2
    assert "frame 2, slice 0, tile 0" in refused
    assert "Traceback" not in refused
    status, published, _ = here(*words, "--allow-failed-tiles", "--report", tmp_path / "told", "--json")
    assert status == 3
    assert [hole["frame"] for hole in json.loads(published)["failed_regions"]] == [2]
    assert "Failed regions" in (tmp_path / "told/report.html").read_text()


def test_a_channel_that_nobody_chose_is_named(work: Path, tmp_path: Path, here: Here) -> None:
    np.save(tmp_path / "two.npy", np.zeros((2, 40, 40), np.uint8))
    two = tmp_path / "two.zarr"
    assert here("import", tmp_path / "two.npy", two, "--axes", "cyx")[0] == 0
    words = ("segment", two, "--model", work / "model", *TRUST, "--serial")
    assert "channel 0 of 2; choose with --channels" in here(*words, "--layer", "first")[2]
    assert "--channels" not in here(*words, "--layer", "second", "--channels", 1)[2]


def test_methods_are_listed_with_their_settings(here: Here) -> None:
    found = {method["name"]: method for method in json.loads(here("methods", "--json")[1])}
    assert {"unet-ronneberger", "unet2", "unet3", "focal", "dwm", "saw"} <= set(found)
    assert found["saw"]["settings"]["unet.width"] >= 1


def test_training_from_the_command_line(work: Path) -> None:
    words = ("train", "saw", work / "movie.zarr", "--frames", "0:3", "--validation-frames", "3:4", "--serial")
    small = ("--set", "unet.width=2", "--set", "depth=1", "--set", "crop=32", "--set", "loader_workers=0")
    cellscale(*words, *small, "--steps", 3, "--max-train-frames", 2, "--output", work / "trained")
    described = json.loads((work / "trained" / "model.json").read_text())
    assert described["training"]["frames"] == 2
    assert described["method"] == "saw"
    assert described["settings"]["unet.width"] == 2
    assert {"loss.png", "history.csv", "weights.safetensors"} <= {path.name for path in (work / "trained").iterdir()}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


REFUSED = {
    "unknown method": (("train", "sow", "{movie}", "--output", "{work}/x"), "'saw'"),
    "unknown setting": (
        ("train", "saw", "{movie}", "--output", "{work}/x", "--set", "widht=3"),
        "'width'",
    ),
    "wrong type of setting": (("train", "saw", "{movie}", "--output", "{work}/x", "--set", "width=wide"), "width"),
    "frames outside the image": (("segment", "{movie}", "--model", "{work}/model", *TRUST, "--frames", "2:9"), "0:5"),
    "frames that are no range": (("segment", "{movie}", "--model", "{work}/model", *TRUST, "--frames", "a:b"), "a:b"),
    "no such image": (("segment", "{work}/none.zarr", "--model", "{work}/model", *TRUST), "none.zarr"),
    "a TIFF in the place of an image": (
        ("preview", "{work}/frames.tif", "--output", "{work}/x.png"),
        "`cellscale import`",
    ),
    "a folder in the place of an image": (("preview", "{work}", "--output", "{work}/x.png"), "`cellscale import`"),
    "no such model": (("segment", "{movie}", "--model", "{work}/none"), "none"),
    "no such label layer": (("evaluate", "{movie}", "--layer", "celsl", "--frames", "0:1"), "truth"),
    "an existing layer": (("segment", "{movie}", "--model", "{work}/model", *TRUST, "--layer", "truth"), "--overwrite"),
    "scores over a document of the image": (
        ("evaluate", "{movie}", "--layer", "truth", "--output", "{movie}/zarr.json"),
        "lies in the input",
    ),
    "scores that cannot be written": (
        ("evaluate", "{movie}", "--layer", "truth", "--output", "/proc/scores.json"),
        "/proc",
    ),
    "a picture in the image": (("preview", "{movie}", "--output", "{movie}/x.png"), "lies in"),
    "scores over a file that is none": (
        ("evaluate", "{movie}", "--layer", "truth", "--output", "{work}/frames.tif"),
        "ends with .json",
    ),
    "a picture over a file that is none": (("preview", "{movie}", "--output", "{work}/frames.tif"), "ends with .png"),
    "a table over a document of the image": (("table", "{movie}", "--output", "{movie}/zarr.json"), "lies in"),
    "a report in the image": (
        ("segment", "{movie}", "--model", "{work}/model", *TRUST, "--layer", "new", "--report", "{movie}/0"),
        "lies in the input",
    ),
    "a model in an image that it is validated on": (
        ("train", "saw", "{movie}", "--validation", "{work}/other.zarr", "--output", "{work}/other.zarr/model"),
        "lies in the input",
    ),
    "maps in the image": (
        ("predict-maps", "{movie}", "--model", "{work}/model", *TRUST, "--output", "{movie}/maps"),
        "lies in the input",
    ),
    "a prepared image in the image": (("prepare", "{movie}", "{movie}/prepared"), "lies in the input"),
    "an existing destination": (("import", "{work}/frames.tif", "{movie}"), "--overwrite"),
    "another number of channels": (("segment", "{movie}", "--model", "{work}/two", *TRUST), "2 channel"),
    "a store that cannot be written": (
        ("segment", "{movie}", "--model", "{work}/model", *TRUST, "--output", "/proc/nothing.zarr"),
        "/proc/nothing.zarr",
    ),
    "more training frames than there are": (
        ("train", "saw", "{movie}", "--output", "{work}/x", "--max-train-frames", "9"),
        "Choose 1 to 5",
    ),
    "no training frames with labels": (
        ("train", "saw", "{movie}", "--output", "{work}/x", "--layer", "truht"),
        "'truth'",
    ),
    "frames that are learned from and held out": (
        ("train", "saw", "{movie}", "--output", "{work}/x", "--frames", "0:3", "--validation-frames", "2:4"),
        "Frame 2",
    ),
    "no steps": (("train", "saw", "{movie}", "--output", "{work}/x", "--steps", "-5"), "steps"),
    "a model folder that cannot be written": (("train", "saw", "{movie}", "--output", "/proc/model"), "/proc/model"),
    "storage options that are no JSON": (
        ("segment", "{movie}", "--model", "{work}/model", *TRUST, "--storage-options", "bad"),
        "JSON",
    ),
    "another NGFF version than the store's": (
        ("segment", "{movie}", "--model", "{work}/model", *TRUST, "--layer", "new", "--ome-zarr-version", "0.4"),
        "0.5",
    ),
    "labels that would replace an image": (
        ("import", "{work}/frames.tif", "{movie}", "--masks", "{work}/negative.npy", "--overwrite"),
        "-3",
    ),
    "labels with floats": (("import", "{work}/frames.tif", "{work}/x.zarr", "--masks", "{work}/floats.npy"), "float"),
    "negative labels": (("import", "{work}/frames.tif", "{work}/x.zarr", "--masks", "{work}/negative.npy"), "-3"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_bad_input_is_one_line_status_2_and_changes_nothing(work: Path, case: str, here: Here) -> None:
    if not (work / "two").exists():
        save_model(blobs_model(channels=2), str(work / "two"))
        np.save(work / "floats.npy", np.full((5, 160, 200), 0.5))
        np.save(work / "negative.npy", np.full((5, 160, 200), -3))
    words, hint = REFUSED[case]
    before = snapshot(work)
    serial = ("--serial",) if words[0] in ("segment", "train") else ()
    filled = [word.format(movie=work / "movie.zarr", work=work) for word in words]
    status, _, told = here(*filled, *serial)
    assert status == 2, told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if "error" in line.lower()]) == 1
    assert hint in told
    assert snapshot(work) == before


def test_a_killed_driver_resumes_and_says_how_much_was_reused(work: Path) -> None:
    movie = work / "movie.zarr"
    words = [
        "--model",
        str(work / "model"),
        *TRUST,
        "--tile-size",
        "50",
        "--set",
        "window_size=64",
        "--set",
        "task_px=20000",
    ]
    cellscale("segment", movie, *words, "--layer", "undisturbed", "--serial")
    command = [sys.executable, "-m", "cellscale", "segment", str(movie), *words, "--layer", "killed"]
    driver = subprocess.Popen([*command, "--serial"], env={**os.environ, "PYTHONPATH": PATH}, stderr=subprocess.DEVNULL)
    scratch = movie / ".cellscale-killed"
    while driver.poll() is None and not list(scratch.rglob("predict/*0")):
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert "killed" not in list_labels(str(movie))
    again = cellscale("segment", movie, *words, "--layer", "killed", "--serial")
    assert "tasks reused" in again.stderr
    box = Box.of(open_image(str(movie)).levels[0].shape)
    layers = [open_labels(str(movie), name) for name in ("undisturbed", "killed")]
    assert all(np.array_equal(layers[0].read(box, t=t), layers[1].read(box, t=t)) for t in range(5))


@pytest.mark.parametrize(("total", "lines"), [(3, 3), (10, 10), (12, 10), (999, 10)])
def test_off_a_terminal_a_step_has_ten_lines_at_most(caplog: pytest.LogCaptureFixture, total: int, lines: int) -> None:
    shown = Shown()
    with caplog.at_level(logging.INFO, "cellscale"):
        for done in range(total + 1):
            shown("import", done, total)
    assert len(caplog.messages) == lines
    assert caplog.messages[-1] == f"import: {total} of {total} done"


@pytest.mark.parametrize(
    ("sent", "status", "backend"),
    [
        (signal.SIGINT, 130, ["--serial"]),
        (signal.SIGTERM, 143, ["--serial"]),
        pytest.param(signal.SIGTERM, 143, [], marks=pytest.mark.slow, id="SIGTERM on Ray"),
    ],
)
def test_a_signal_stops_cleanly_and_the_message_says_how_to_resume(
    work: Path, sent: signal.Signals, status: int, backend: list[str]
) -> None:
    movie, layer = work / "movie.zarr", f"stopped-{status}-{len(backend)}"
    words = [
        "--model",
        str(work / "model"),
        *TRUST,
        "--tile-size",
        "50",
        "--set",
        "window_size=64",
        "--set",
        "task_px=20000",
    ]
    command = [sys.executable, "-m", "cellscale", "segment", str(movie), *words, "--layer", layer]
    # A shell gives its background jobs an ignored SIGINT, which children inherit.
    driver = subprocess.Popen(
        [*command, *backend],
        env={**os.environ, "PYTHONPATH": PATH},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    scratch = movie / f".cellscale-{layer}"
    while driver.poll() is None and not list(scratch.rglob("predict/*0")):
        time.sleep(0.01)
    driver.send_signal(sent)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == status
    assert said.splitlines()[-1].startswith("cellscale: stopped. Repeat the command")
    assert "Traceback" not in said
    assert layer not in list_labels(str(movie))
    assert "tasks reused" in cellscale("segment", movie, *words, "--layer", layer, "--serial").stderr


def test_importing_the_package_is_quick_and_loads_nothing_heavy() -> None:
    code = "import sys, cellscale; print([m for m in ('torch', 'ray', 'numba', 'zarr') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_segmentation_starts_without_libraries_that_it_does_not_need() -> None:
    code = "import sys, cellscale.api.segmentation; print(*{'dask', 'xarray'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split() == []


@pytest.mark.parametrize(("chosen", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_of_torch_wait_without_spinning_unless_told(chosen: dict[str, str], expected: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = "import os, cellscale; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=others | chosen)
    assert done.stdout.split() == [expected]
