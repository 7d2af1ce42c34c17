"""Names of layers and paths in documents lead to a child and nowhere else."""

from __future__ import annotations

import pytest

from cellscale.errors import InputError
from cellscale.ngff.names import MAX_BYTES, check_layer_name, child_path


@pytest.mark.parametrize(
    "name", ["cells", "truth-full", "a b", "Zellen (2)", "ü-µ", "日本", "0", "x.y", "a[1]", "{a}", "a" * MAX_BYTES]
)
def test_names_that_are_one_component_of_a_path_are_taken(name: str) -> None:
    assert check_layer_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("truth/0", "it has '/' in it"),
        ("/a", "it has '/' in it"),
        ("a\\b", "it has"),
        ("c*", r"it has '\*' in it"),
        ("a?", "it has"),
        ("a:b", "it has ':' in it"),
        ("a\nb", "it has"),
        ("a\x00", "it has"),
        ("\udcff", "it has"),
        ("%2e%2e", "it has '%' in it"),
        ("\u202ecells", "it has"),
        ("ce\u200blls", "it has"),
        ("cafe\u0301", "take it for 'café'"),
        (".", "Zarr keeps such names"),
        ("..", "Zarr keeps such names"),
        (".zattrs", "Zarr keeps such names"),
        ("zarr.json", "Zarr keeps such names"),
        ("__x", "Zarr keeps such names"),
        ("a" * (MAX_BYTES + 1), f"it has {MAX_BYTES + 1} bytes"),
        ("µ" * 65, "it has 130 bytes"),
        (" a", "begins or ends with a space"),
        ("a.", "ends with a dot"),
        ("CON", "Windows keeps such names"),
        ("aux.txt", "Windows keeps such names"),
        ("com1", "Windows keeps such names"),
    ],
)
def test_other_names_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"is not a valid name of a label layer: .*{reason}"):
        check_layer_name(name)


def test_paths_of_documents_are_tidied() -> None:
    assert [child_path(path, "u") for path in ("0", "A/1/0", "./0", "/s0/", "scale0/image", "a..b")] == [
        "0",
        "A/1/0",
        "0",
        "s0",
        "scale0/image",
        "a..b",
    ]


@pytest.mark.parametrize("path", ["", ".", "/", "..", "../x", "a/../../x", "..\\x", "s3://x/y", "a::b", 3, None, ["0"]])
def test_paths_that_lead_elsewhere_are_refused(path: object) -> None:
    with pytest.raises(InputError, match="which does not lead to a place below it"):
        child_path(path, "u")
