"""The page that explains the house agrees with the house."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cellscale"


def test_the_tree_on_the_page_is_the_real_one() -> None:
    drawn = set(re.findall(r"^[├└]── (\S+)$", (ROOT / "ARCHITECTURE.md").read_text(), re.M))
    real = {path.name for path in PACKAGE.glob("*.py*")}
    real |= {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert drawn == real


def test_every_folder_has_one_row() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    assert sorted(rows) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("title", ["From `--tile-size` to the shard", "From a label image to the loss"])
def test_a_walk_through_the_code_names_real_functions_and_is_short(title: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().partition(f"### {title}\n")[2].partition("\n##")[0]
    names = re.findall(r"`([\w.]+)`", text)
    assert 2 < len(names) <= 12
    for name in names:
        module, found = _module_of(f"cellscale.{name}")
        for part in found:
            assert hasattr(module, part) or part in getattr(module, "__annotations__", {}), name
            module = getattr(module, part, None)


def _module_of(name: str) -> tuple[object, list[str]]:
    """The module that a dotted name begins with, and the attributes that follow."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        place = PACKAGE.parent.joinpath(*parts[:end])
        if place.is_dir() or place.with_suffix(".py").exists():
            return importlib.import_module(".".join(parts[:end])), parts[end:]
    raise AssertionError(name)


def test_no_file_outgrows_the_house() -> None:
    lengths = {path.name: path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_public_name_is_documented_and_loads() -> None:
    import cellscale

    for name in cellscale.__all__:
        assert getattr(cellscale, name).__doc__ or name == "__version__"


def test_functions_are_short() -> None:
    """No function over 60 lines without its docstring, and nine of ten under 30."""
    lengths = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                lengths.append(body[-1].end_lineno - body[0].lineno + 1)
    assert max(lengths) <= 60
    assert sorted(lengths)[int(0.9 * len(lengths))] < 30


def test_no_file_is_unpickled() -> None:
    """`torch.load` reads weights only, `numpy.load` no objects; ruff's S301 looks for the rest."""
    for path in PACKAGE.rglob("*.py"):
        for call in re.findall(r"\b(?:torch|np)\.load\((?:[^()]|\([^()]*\))*\)", path.read_text()):
            assert "weights_only=True" in call or "allow_pickle=False" in call, f"{path.name}: {call}"
