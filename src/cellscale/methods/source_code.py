"""Digest of the source of a method from outside the package: changed code is another method.

The package's own methods are identified by its version. For other methods, the digest covers their module and its
imports from the same place: its own package, or modules that are neither in the standard library nor installed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import marshal
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def source_digest(method: Any) -> str | None:
    """Return the SHA-256 of a method's source, or None for a method of the package.

    Parameters
    ----------
    method : Method
        Its classes and all modules that they import, at any depth, are read.
    """
    kinds = [kind for kind in type(method).__mro__ if not _ours(kind.__module__) and kind is not object]
    if not kinds:
        return None
    found: dict[str, bytes] = {}
    for kind in kinds:
        path = _file(kind.__module__)
        if path is None:
            found[f"{kind.__module__}.{kind.__qualname__}"] = _code(kind)
        else:
            _collect(kind.__module__, path, kind.__module__.partition(".")[0], found)
    total = hashlib.sha256()
    for name, content in sorted(found.items()):
        total.update(f"{name} {len(content)} ".encode() + content)
    return total.hexdigest()


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "cellscale" or module in sys.builtin_module_names


def _file(module: str) -> Path | None:
    """The file of a module, or None for one that is built in, typed in or not there."""
    try:
        loaded = sys.modules.get(module)
        spec = loaded.__spec__ if loaded else importlib.util.find_spec(module)
        name = getattr(loaded, "__file__", None) or (spec.origin if spec else None)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(name).resolve() if name and Path(name).is_file() else None


def _collect(module: str, path: Path, package: str, found: dict[str, bytes]) -> None:
    """Add the content of a module's file, and of what it imports from the same place."""
    if module in found:
        return
    found[module] = path.read_bytes()
    if path.suffix != ".py":
        return
    parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for name in sorted(set(_imports(found[module], parent))):
        inner = None if _ours(name) else _file(name)
        if inner is not None and (name.partition(".")[0] == package or not _installed(inner)):
            _collect(name, inner, package, found)


def _installed(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _INSTALLED)


def _imports(source: bytes, parent: str) -> Iterator[str]:
    """Names of modules that a source may import, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            base = parent.split(".")[: len(parent.split(".")) + 1 - node.level] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield stem
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def _code(kind: type) -> bytes:
    """The source of a class that was typed in, or its compiled functions if the source cannot be read."""
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        codes = [getattr(value, "__code__", None) for _, value in sorted(vars(kind).items())]
        return b"".join(marshal.dumps(code) for code in codes if isinstance(code, CodeType))
