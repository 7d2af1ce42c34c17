"""The documentation says what is so: its commands parse, its examples run, its site builds."""

from __future__ import annotations

import itertools
import json
import operator
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cellscale.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXECUTED = ("tutorial.md", "measuring.md")
"""Pages whose blocks are run one after the other; a block with a title is for the reader alone."""
NOTEBOOKS = {
    "examples/intensity.ipynb": "assert min(inside) > 2 * max(outside), (inside, outside)\nassert len(each) == 6",
    "docs/first_steps.ipynb": "assert labels[0].max() > 8\nassert after.seg > before.seg + 0.1, (before, after)",
}
"""Notebooks, and what must hold at their end."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block that has no title."""
    return re.findall(r"^ *```(sh|python)\n(.*?)^ *```", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[str]:
    """The lines that call cellscale, in blocks of all titles, without comments."""
    found = re.findall(r"^ *```sh.*?\n(.*?)^ *```", page.read_text(), re.M | re.S)
    lines = [line.split(" #")[0].strip() for text in found for line in text.replace("\\\n", " ").splitlines()]
    return [line[line.index("cellscale ") :] for line in lines if re.search(r"(^|-- )cellscale ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for line in commands(page):
        name, *words = shlex.split(re.sub(r"\bN\b", "1", line))[1:]
        command = cli.commands[name]
        try:
            command.make_context(name, list(words), parent=click.Context(cli, obj=False)).close()
        except click.UsageError as error:
            raise AssertionError(f"{page.name}: {line}: {error.format_message()}") from error


def test_the_pages_have_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 20


def test_every_command_is_on_the_page_of_commands() -> None:
    listed = set(re.findall(r"^\| `([\w-]+)", (ROOT / "docs" / "commands.md").read_text(), re.M))
    assert listed == set(cli.commands)


def test_the_tests_that_the_pages_name_exist() -> None:
    known = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    for page in PAGES:
        assert set(re.findall(r"`(test_\w+)`", page.read_text())) <= known, page.name
        named = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text())
        assert all((ROOT / path).exists() for path in named), page.name


def test_every_promise_names_the_tests_that_hold_it() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    tables = [
        table for table in re.findall(r"(?:^\|.*\n)+", page, re.M) if table.partition("\n")[0].endswith("| test |")
    ]
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert len(tables) == 4
    assert len(rows) > 50
    assert [row for row in rows if not re.search(r"`test_\w+`[^|]*\|$", row)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EXECUTED)
def test_examples_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "cellscale"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cellscale "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    for language, group in itertools.groupby(blocks(ROOT / "docs" / name), key=operator.itemgetter(0)):
        text = "".join(block for _, block in group)
        words = ["sh", "-ec", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
    assert (tmp_path / "movie.zarr" / "labels" / "cells" / "objects.parquet").exists()


@pytest.mark.parametrize(("notebook", "claims"), NOTEBOOKS.items())
def test_notebooks_run(tmp_path: Path, notebook: str, claims: str) -> None:
    cells = json.loads((ROOT / notebook).read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code") + f"\n{claims}"
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    for module in ("mkdocs", "mkdocs_jupyter"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'cellscale[docs]'")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "image/png" in (tmp_path / "site" / "first_steps" / "index.html").read_text()
    assert "Upsample a label layer that was segmented" in (tmp_path / "site" / "reference" / "index.html").read_text()
