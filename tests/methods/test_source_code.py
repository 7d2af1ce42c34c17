"""The source of a method of one's own: every file that it is made of, and nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellscale.methods import METHODS, load_method
from cellscale.methods.source_code import source_digest

METHOD = """
import json
import numpy as np
from dataclasses import dataclass
from cellscale.methods.border_weights import UNET_RONNEBERGER
from . import levels
from .more.deep import LEVEL

@dataclass(frozen=True, kw_only=True)
class Mine(type(UNET_RONNEBERGER)):
    def decode(self, prediction, valid, /):
        import helper_of_mine
        return super().decode(prediction, valid)

MINE = Mine()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "mine_for_a_test"
    (folder / "more").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "method.py": METHOD,
        "levels.py": "LEVEL = 1",
        "more/__init__.py": "",
        "more/deep.py": "LEVEL = 2",
        "aside.py": "LEVEL = 3",
    }.items():
        (folder / name).write_text(text)
    (tmp_path / "helper_of_mine.py").write_text("VALUE = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.startswith(("mine_for_a_test", "helper_of_mine"))]:
        del sys.modules[name]


def digest() -> str | None:
    return source_digest(load_method("mine_for_a_test.method:MINE"))


@pytest.mark.parametrize("name", ["method.py", "levels.py", "more/deep.py", "../helper_of_mine.py"])
def test_each_file_of_a_method_counts(package: Path, name: str) -> None:
    before = digest()
    assert before == digest()
    path = package / name
    path.write_text(path.read_text() + "\n# mended\n")
    assert digest() != before


def test_files_that_it_does_not_import_do_not_count(package: Path) -> None:
    before = digest()
    (package / "aside.py").write_text("LEVEL = 4")
    assert digest() == before


def test_the_methods_of_the_package_are_named_by_its_version() -> None:
    assert {source_digest(load_method(name)) for name in METHODS} == {None}


def test_a_class_that_was_typed_in_counts_by_its_code() -> None:
    def typed(body: str) -> Any:
        names: dict[str, Any] = {"__name__": "typed_in_for_a_test"}
        exec(f"class Mine:\n    def decode(self): return {body}", names)
        return names["Mine"]()

    assert source_digest(typed("1")) == source_digest(typed("1"))
    assert source_digest(typed("1")) != source_digest(typed("2"))
