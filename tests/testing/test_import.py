"""`cellscale.testing` says what is missing where its optional dependencies are."""

from __future__ import annotations

import importlib
import sys

import pytest

from cellscale.errors import MissingError


@pytest.mark.parametrize("name", ["hypothesis", "pytest"])
def test_a_missing_dependency_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cellscale.testing", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingError, match=rf"needs {name}, which cannot be imported\. pip install 'cellscale\[testing\]'"
    ):
        importlib.import_module("cellscale.testing")
