"""The examples in the docstrings of the public names run, in an order in which a user would try them."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cellscale
from cellscale.api import plate_results
from cellscale.settings import files

ORDER = (
    "synthesize",
    "import_images",
    "open_image",
    "open_labels",
    "list_methods",
    "list_models",
    "train",
    "load_model",
    "save_model",
    "calibrate",
    "plan",
    "segment",
    "prepare",
    "write_plate",
    "plate_images",
    "segment_plate",
    "upsample_labels",
    "predict_maps",
    "evaluate",
    "measure",
    "export_table",
    "export_ngio",
    "scene",
    "preview",
    "view",
    "segment_array",
    "save_image",
    "save_labels",
    "track",
    "evaluate_tracks",
    "export_ctc",
    "export_geff",
    "draw_lineage",
)
"""Later examples use what earlier ones have written."""
ALSO: dict[str, list[Callable[..., object]]] = {
    "plan": [cellscale.Forecast.price],
    "export_ngio": [
        plate_results.evaluate_plate,
        plate_results.measure_plate,
        plate_results.export_plate_table,
        plate_results.export_plate_ngio,
    ],
    "segment_array": [cellscale.Model.segment],
}
"""Examples of other functions and methods that run after those of a public name."""
NOT_RUN = {"demo": "minutes", "doctor": "starts a Ray", "view_in_napari": "needs a screen"}


def run(example: object, name: str) -> tuple[int, str]:
    """Number of examples that ran, and what differed."""
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for found in doctest.DocTestFinder(recurse=False).find(example, name, globs={}):
        runner.run(found, out=told.append)
    return runner.tries, "".join(told)


def test_every_public_function_has_an_example() -> None:
    functions = {name for name in cellscale.__all__ if callable(getattr(cellscale, name)) and name[0].islower()}
    assert functions == {*ORDER, *NOT_RUN}
    assert all(">>> " in (getattr(cellscale, name).__doc__ or "") for name in functions)


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example"])
    failures = {}
    for place in ORDER:
        for example in (getattr(cellscale, place), *ALSO.get(place, ())):
            name = getattr(example, "__qualname__", place)
            tries, told = run(example, name)
            assert tries, name
            failures[name] = told
    assert not any(failures.values()), "\n".join(failures.values())
    assert run(files.assignments, "assignments")[1] == ""
