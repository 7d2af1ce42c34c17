"""The page that explains the house agrees with the house."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cellscale"


def test_the_tree_on_the_page_is_the_real_one() -> None:
    drawn = set(re.findall(r"^[├└]── (\S+)$", (ROOT / "ARCHITECTURE.md").read_text(), re.M))
    real = {path.name for path in PACKAGE.glob("*.py")}
    real |= {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert drawn == real


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
