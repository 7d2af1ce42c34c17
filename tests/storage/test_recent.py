"""Files that a process has written are read again without a request, and never after their deletion."""

from __future__ import annotations

import pickle
from pathlib import Path

from cellscale.storage.folder import Folder
from cellscale.storage.recent import Recent
from cellscale.storage.traffic import counting


def test_what_was_written_is_not_asked_for(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path), recent=Recent(100)).child("run")
    folder.write("step/0", b"0123456789")
    with counting() as traffic:
        assert folder.read("step/0") == b"0123456789"
        assert folder.read("step/0", start=2, stop=4) == b"23"
    assert not traffic.requests
    (tmp_path / "run/step/1").write_bytes(b"another's")
    assert folder.read("step/1") == b"another's"


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path / "run"), recent=Recent(100))
    for name in ("a/0", "a/1", "ab/0", "b"):
        folder.write(name, b"x")
    folder.delete("b")
    folder.remove("a")
    assert [folder.read(name) for name in ("a/0", "a/1", "b", "ab/0")] == [None, None, None, b"x"]
    folder.write("a/0", b"y")
    folder.remove()
    assert folder.read("a/0") is None
    assert folder.read("ab/0") is None


def test_no_more_is_kept_than_there_is_room_for() -> None:
    recent = Recent(10)
    recent.keep("a", b"12345")
    recent.keep("b", b"12345")
    assert recent.find("a")
    recent.keep("c", b"1")
    assert [recent.find(name) is not None for name in "abc"] == [True, False, True]
    recent.keep("d", b"12345678901")
    assert [recent.find(name) for name in "abcd"] == [None] * 4


def test_a_copy_in_another_process_keeps_nothing_of_it(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path), recent=Recent(100))
    folder.write("a", b"1")
    copy: Folder = pickle.loads(pickle.dumps(folder))
    (tmp_path / "a").write_bytes(b"2")
    assert copy.read("a") == b"2"
    assert folder.read("a") == b"1"
