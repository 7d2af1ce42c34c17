"""JSON that every reader accepts."""

import json
import math

import numpy as np

from cellscale.storage.folder import Folder
from cellscale.storage.json_text import json_text


def refuse(word: str) -> None:
    raise AssertionError(word)


def test_numbers_that_json_does_not_have_become_null() -> None:
    value = {
        "a": [math.nan, 1.5, (math.inf, {"b": -math.inf})],
        "c": np.float64("nan"),
        "d": "NaN",
        "e": 2**70,
        "f": True,
    }
    read = json.loads(json_text(value, indent=1), parse_constant=refuse)
    assert read == {"a": [None, 1.5, [None, {"b": None}]], "c": None, "d": "NaN", "e": 2**70, "f": True}


def test_files_have_them_too(tmp_path) -> None:
    Folder(url=str(tmp_path)).write_json("a.json", {"seg": math.nan})
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse) == {"seg": None}
