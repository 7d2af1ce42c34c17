"""The page about tests says what is so: its code runs, and it lists all checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cellscale.testing.conformance import CHECKS

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


def test_the_code_of_the_page_runs() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python.*?\n(.*?)^```", PAGE, re.M | re.S):
        exec(block, names)
    names["test_separating_twice_changes_nothing"]()
    assert names["truth"].max() > 0
    assert names["maps"].keys() == {"cell", "touching"}


def test_the_page_lists_every_check() -> None:
    listed = re.findall(r"^\| `([a-z ]+)` \| [^|]+ \| [^|]+ \|$", PAGE, re.M)
    assert sorted({name.partition(",")[0] for name in CHECKS}) == sorted(listed)
