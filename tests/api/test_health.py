"""The findings of the doctor, and other small commands."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.table import Table

import cellscale
from cellscale.api import health
from cellscale.cli.main import cli
from cellscale.cli.terminal import out
from tests.ngff.pictures import make, noise


def test_a_healthy_store(cluster: None, tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(2, 40, 60), "tyx")
    before = sorted(tmp_path.rglob("*"))
    found = {finding.check: finding for finding in cellscale.doctor(image.url)}
    assert {finding.status for finding in found.values()} <= {"ok", "note"}
    assert "2 × 40 × 60 (t, y, x)" in found["image"].text
    assert np.__version__ in found["versions"].text
    assert "2 processors" in found["Ray"].text
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_wrong_is_told_with_status_2(cluster: None) -> None:
    done = CliRunner().invoke(cli, ["doctor", "/proc/none.zarr", "--json"])
    assert done.exit_code == 2, done.exception
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert found["image"]["status"] == found["write test"]["status"] == "failed"
    assert "/proc/none.zarr does not exist" in found["image"]["text"]


def test_brackets_are_printed() -> None:
    table = Table("what was found")
    table.add_row("pip install 'cellscale[napari]'")
    with out.capture() as caught:
        out.print("run[red].zarr", table)
    assert "run[red].zarr" in caught.get()
    assert "cellscale[napari]" in caught.get()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell]).stdout
    assert "_CELLSCALE_COMPLETE" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n", "-c", script], check=True, capture_output=True)


def test_completion_knows_the_commands() -> None:
    words = {"COMP_WORDS": "cellscale pre", "COMP_CWORD": "1", "_CELLSCALE_COMPLETE": "bash_complete"}
    code = "import sys; from cellscale.cli.main import main; sys.argv = ['cellscale']; main()"
    done = subprocess.run([sys.executable, "-c", code], env={**words}, capture_output=True, text=True, check=False)
    assert "plain,preview" in done.stdout


@pytest.mark.parametrize("check", ["versions", "GPU", "optional packages"])
def test_a_check_that_fails_in_any_way_is_a_finding(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise importlib.metadata.PackageNotFoundError("torch")

    place, name = {
        "versions": (importlib.metadata, "version"),
        "GPU": (health, "device_here"),
        "optional packages": (importlib.util, "find_spec"),
    }[check]
    monkeypatch.setattr(place, name, broken)
    monkeypatch.setattr(health, "_ray", lambda address: "not asked")
    found = {finding.check: finding for finding in cellscale.doctor()}
    assert found[check].status == "failed"
    assert found[check].text == "PackageNotFoundError: No package metadata was found for torch"
    assert found["Ray"].status == "ok"
