"""Public text is plain technical English: words that only this project used do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cellscale.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/**/*.md", "clusters/**/*.*", "examples/**/*.*", "src/cellscale/models/shipped/**/*.md")
HISTORY = {"CHANGELOG.md"}
"""Describes changes in the words of their time."""
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
"""Names in code are not prose."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A piece of public text."""

    place: str
    kind: str
    """docstring, message, help or page."""
    words: str


@dataclass(frozen=True, kw_only=True)
class House:
    """A word or phrase that readers stumble over."""

    pattern: str
    better: str
    kinds: frozenset[str] = frozenset({"docstring", "message", "help", "page"})
    allowed: dict[str, str] | None = None
    """Paths in which it is the field's own term, and why."""


DOCSTRING, MESSAGE = frozenset({"docstring"}), frozenset({"message"})
HOUSE_WORDS = [
    House(
        pattern=r"\A(?:What|Of|How|Where|Which|Why|Whose)\b|(?<= : )[^\n]*\n\s+(?:What|Of|How|Whose)\b",
        better="begin with a verb in the imperative or a noun phrase",
        kinds=DOCSTRING,
    ),
    House(pattern=r"\b(?:is|are) no (?!longer|more|less)", better="is not a valid X; expected …", kinds=MESSAGE),
    House(pattern=r"(?i)where (?:it|they|none|nothing) (?:is|are) (?:left out|given)", better="[default: …]"),
    House(pattern=r"(?i)\bso (?:many|much|few)\b", better="this number of"),
    House(pattern=r"(?i)\btells\b", better="reports, shows, estimates"),
    House(pattern=r"(?i)\bcom(?:es|ing|e) along\b", better="is included"),
    House(pattern=r"(?i)\bgo(?:es)? on from\b", better="resumes from, continues from"),
    House(pattern=r"(?i)\bbeside\b", better="next to; compared with; in addition to"),
    House(pattern=r"(?i)\bsurveys?\b", better="intensity statistics"),
    House(
        pattern=r"(?i)\bstrips?\b",
        better="row group",
        allowed={"src/cellscale/sources/tiff_pages.py": "TIFF stores images in strips"},
    ),
    House(pattern=r"(?i)\bunit(?:e|es|ed|ing)\b", better="merge"),
    House(pattern=r"(?i)\bjudg(?:e|es|ed|ing)\b", better="decide, evaluate"),
    House(pattern=r"(?i)(?<!point-)\bspread(?:s|ing)?\b", better="evenly spaced; propagate; standard deviation"),
    House(pattern=r"(?i)\bgiv(?:e|es|en|ing) back\b", better="return, release"),
    House(pattern=r"(?i)\bfates?\b", better="outcome"),
    House(pattern=r"(?i)\bplayers?\b", better="update, network"),
    House(pattern=r"(?i)\bthe words of a command", better="options of"),
    House(pattern=r"(?i)\bquarantin\w*", better="failed tiles"),
    House(pattern=r"(?i)(?<!images/)\brims?\b", better="boundary pixels; border band"),
    House(pattern=r"(?i)\bsilent holes?\b|\bholes? in the layer\b", better="failed region"),
    House(pattern=r"(?i)\bhangs? together\b", better="are connected"),
    House(pattern=r"(?i)\bas ever\b|\ball the same\b|\bhalf-made\b", better="say it directly"),
    House(pattern=r"(?i)\bheld against\b", better="compared with"),
    House(pattern=r"(?i)\bstrangers?\b", better="of unknown origin; other programs"),
    House(pattern=r"(?i)\blearn(?:s|ed)? from\b.*\bframes\b", better="trained on"),
    House(pattern=r"(?i)\bhow far\b.*\blooks?\b|\blooks? \w+ px far\b", better="reach; radius of the receptive field"),
    House(pattern=r"(?i)\bwhat (?:is|was) (?:there|made|written|done|asked for)\b", better="name the thing"),
    House(pattern=r"(?i)\bwhat becomes of\b|\bwhat became of\b", better="outcome"),
    House(pattern=r"(?i)\bput(?:s|ting)? together\b", better="join, assemble, merge"),
    House(pattern=r"(?i)\bin the place of\b", better="instead of"),
]


def _constants(node: ast.AST) -> str:
    return " ".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def _source_texts() -> Iterator[Text]:
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]):
        place = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield Text(place=f"{place}:{node.lineno}", kind="docstring", words=_constants(node))
            if isinstance(node, ast.Raise) and node.exc is not None:
                yield Text(place=f"{place}:{node.lineno}", kind="message", words=_constants(node.exc))
            if isinstance(node, ast.Call):  # messages that are logged, shown as a status, or raised elsewhere
                for argument in node.args:
                    if (words := _constants(argument)).count(" ") > 2:
                        yield Text(place=f"{place}:{node.lineno}", kind="message", words=words)
            if (
                isinstance(node, ast.Return)
                and node.value is not None
                and (words := _constants(node.value)).count(" ") > 2
            ):
                yield Text(place=f"{place}:{node.lineno}", kind="message", words=words)


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            yield from _commands(part, (*path, name))


def _help_texts() -> Iterator[Text]:
    for path in _commands(cli):
        shown = CliRunner().invoke(cli, [*path, "--help"], terminal_width=10_000)
        assert shown.exit_code == 0, shown.output
        yield Text(place=f"cellscale {' '.join(path)} --help", kind="help", words=shown.output)


def _pages() -> Iterator[Text]:
    paths = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    for path in sorted(path for path in paths if path.is_file() and path.name not in HISTORY):
        for number, line in enumerate(CODE.sub("", path.read_text()).splitlines(), 1):
            yield Text(place=f"{path.relative_to(ROOT)}:{number}", kind="page", words=line)


@pytest.fixture(scope="module")
def texts() -> list[Text]:
    found = [*_source_texts(), *_help_texts(), *_pages()]
    assert {text.kind for text in found} == {"docstring", "message", "help", "page"}
    return [Text(place=text.place, kind=text.kind, words=CODE.sub("", text.words)) for text in found]


@pytest.mark.parametrize("house", HOUSE_WORDS, ids=lambda house: house.pattern)
def test_public_text_has_no_house_words(texts: list[Text], house: House) -> None:
    pattern = re.compile(house.pattern)
    found = [
        f"{text.place}: {text.words[max(0, match.start() - 40) : match.end() + 40]!r}"
        for text in texts
        if text.kind in house.kinds and text.place.split(":")[0] not in (house.allowed or {})
        for match in pattern.finditer(text.words.strip())
    ]
    assert not found, f"Better: {house.better}.\n" + "\n".join(found)
