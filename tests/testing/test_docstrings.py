"""The examples in the docstrings of `cellscale.testing` run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cellscale.testing

MODULES = [module.name for module in pkgutil.walk_packages(cellscale.testing.__path__, "cellscale.testing.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_the_modules_have_examples() -> None:
    with_examples = [name for name in MODULES if ">>> " in (importlib.import_module(name).__doc__ or "")]
    assert {f"cellscale.testing.{name}" for name in ("cases", "conformance", "strategies")} <= set(with_examples)
