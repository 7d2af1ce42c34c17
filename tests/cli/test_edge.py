"""The edge of the command line: one line for an error, no secret in anything that is printed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

import cellscale
from cellscale.cli.main import main
from cellscale.cli.terminal import LONGEST_LINE, one_line, out, redacted_output
from tests.blobs import blurred_noise
from tests.endpoints import web_server
from tests.ngff.pictures import make


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cellscale", "--quiet", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    "text", ['{"key": "SECR3T",}', '["SECR3T"]', '[["SECR3T", 1]]', '"SECR3T"', "SECR3T", "[" * 100_000, "9" * 5000]
)
def test_storage_options_that_are_not_an_object_are_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert run(monkeypatch, "preview", "m.zarr", "--storage-options", '{"anon": true}', "--storage-options", text) == 2
    printed = capsys.readouterr()
    assert "value 2 is not " in printed.err
    assert "SECR3T" not in printed.err + printed.out
    assert len(printed.err) < 600


def test_a_password_is_in_no_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "preview", "http://me:PASSW0RD@127.0.0.1:9/m.zarr") == 2
    printed = capsys.readouterr()
    assert "http://***@127.0.0.1:9/m.zarr" in printed.err
    assert run(monkeypatch, "preview", "m.zarr", "http://me:PASSW0RD@127.0.0.1:9/m.zarr") == 2
    printed_words = capsys.readouterr()
    assert "unexpected extra argument" in printed_words.err
    assert "PASSW0RD" not in printed.err + printed.out + printed_words.err + printed_words.out


def test_a_prepared_image_does_not_hold_the_password_of_its_source(tmp_path: Path) -> None:
    make(tmp_path / "web" / "movie.zarr", blurred_noise((1, 60, 60)), "tyx")
    with web_server(tmp_path / "web") as server:
        url = f"{server.replace('://', '://me:PASSW0RD@')}/movie.zarr"
        made = cellscale.prepare(url, str(tmp_path / "prepared.zarr"), median_px=3, backend="serial")
    document = (Path(made) / "zarr.json").read_text()
    assert "://***@127.0.0.1" in document
    assert "PASSW0RD" not in document


def test_results_and_logs_are_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    with redacted_output():
        out.print("http://me:PASSW0RD@host/m.zarr")
        handler = logging.StreamHandler(sys.stderr)
        handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "slow: %s", ("http://me:PASSW0RD@host",), None))
    assert capsys.readouterr() == ("http://***@host/m.zarr\n", "slow: http://***@host\n")


def test_an_error_is_one_line_that_steers_no_terminal() -> None:
    assert one_line("a\n  b\x1b[2J\u202ec é") == r"a b\x1b[2J\u202ec é"
    assert len(one_line("x" * 10**6)) == LONGEST_LINE


@pytest.mark.parametrize(
    ("prices", "named"),
    [("put", "'put' is not a valid price"), ("put=5,get=-1", "'get=-1' is not"), ("post=1", "kind of requests 'POST'")],
)
def test_a_price_that_is_none_is_named_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prices: str, named: str
) -> None:
    assert run(monkeypatch, "plan", "missing.zarr", "--model", "nuclei", "--price", prices) == 2
    assert named in capsys.readouterr().err
