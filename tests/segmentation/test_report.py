"""The report's page shows whatever names people have given, and nothing of them is markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

import cellscale
from cellscale.errors import DamagedError
from cellscale.segmentation.report import Report
from tests.blobs import blobs_model, blurred_noise
from tests.ngff.pictures import make

HOSTILE = "<script>alert(1)</script>\" onload='x' &amp;"


class Tags(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(name for name, _ in attrs)}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_text_on_the_page(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", blurred_noise((1, 60, 60)), "cyx", channels=[HOSTILE])
    settings = {"channels": (HOSTILE,)}
    cellscale.segment(
        image.url, model=blobs_model(), report=str(tmp_path / "r"), settings=settings, tile_size=64, backend="serial"
    )
    page = Tags()
    page.feed((tmp_path / "r" / "report.html").read_text())
    assert not page.found & {"script", "onload", "img", "a"}
    assert "<script>alert(1)</script>" in page.text
    assert HOSTILE in json.loads((tmp_path / "r" / "report.json").read_text())["settings"]["channels"]


DAMAGED: tuple[object, ...] = (
    *([], "text", 5, {"reused": []}, {"cells": "many"}, {"seams": []}, {"reached": "x"}),
    *({"failed_tiles": 5}, {"failed_tiles": [5]}, {"failed_regions": [{"frame": 1}]}),
)


@pytest.mark.parametrize("stored", DAMAGED)
def test_a_stored_report_of_another_kind_is_damaged(stored: object) -> None:
    with pytest.raises(DamagedError, match=r"^here/report\.json is damaged: "):
        Report.from_dict(stored, "here/report.json")


def test_a_stored_report_is_read_back_without_entries_of_other_builds() -> None:
    report = Report(reused={"predict": 2}, cells=7, seams={"share": 0.5})
    assert Report.from_dict({**report.to_dict(), "later": 1}, "") == report
    assert Report.from_dict({}, "") == Report()
