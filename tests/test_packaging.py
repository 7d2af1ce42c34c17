"""The wheel holds what the package needs, and works where nothing else of the clone is."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy of the sources."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    words = ["wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(clone / "dist"), str(clone)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (made,) = (clone / "dist").glob("cellscale-*-py3-none-any.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with the installed wheel."""
    folder = wheel.parents[1] / "installed"
    words = ["install", "--no-deps", "--no-index", "--quiet", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return folder


def run(installed: Path, *words: str) -> str:
    """Output of a command of the installed program, away from the clone."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    program = [sys.executable, str(installed / "bin" / "cellscale"), *words]
    done = subprocess.run(program, cwd=installed.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_all_files_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("cellscale/")}
    package = ROOT / "src" / "cellscale"
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert packed == {f"cellscale/{path.relative_to(package).as_posix()}" for path in files}


def test_the_doctor_runs_from_the_wheel(installed: Path) -> None:
    found = {finding["check"]: finding for finding in json.loads(run(installed, "doctor", "--json"))}
    assert {finding["status"] for finding in found.values()} <= {"ok", "note"}
    assert f"cellscale {PROJECT['version']}" in found["versions"]["text"]
    assert [model["name"] for model in json.loads(run(installed, "models", "--json"))] == ["nuclei"]


def test_pictures_of_the_readme_have_whole_addresses() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures
    assert all(address.startswith("https://") for address in pictures)


def test_every_extra_that_a_message_names_exists() -> None:
    texts = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"cellscale\[(\w+)\]", text)}
    extras = PROJECT["optional-dependencies"]
    assert named <= set(extras)
    assert all(extras.values())
    assert all(f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"] for minor in (11, 12, 13))
    assert importlib.metadata.version("cellscale") == PROJECT["version"]
