"""What neuroglancer and napari are told to show."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.parse
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from cellscale.errors import InputError, MissingError
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import publish_labels, stage_labels
from cellscale.viewers.http_server import serving
from cellscale.viewers.neuroglancer import view
from cellscale.viewers.neuroglancer_state import HOSTED, contrast, link, state
from cellscale.viewers.scenes import scene
from tests.ngff.pictures import make, noise


def labelled(path: Path, *names: str) -> str:
    image = make(path, noise(2, 3, 40, 60), "tcyx", pixel_size_um=(0.5, 0.25), frame_interval_s=60)
    for name in names:
        layer = stage_labels(image, name, planes_z=1, metadata={"frames": [1]})
        write_frame(layer, np.ones((40, 60), np.uint32), t=1)
        publish_labels(layer)
    return image.url


def test_a_scene_has_all_layers_and_begins_where_labels_are(tmp_path: Path) -> None:
    shown = scene(labelled(tmp_path / "i.zarr", "cells", "truth"))
    assert [layer.name for layer in shown.labels] == ["truth", "cells"]
    assert (shown.t, shown.z) == (1, 0)
    assert [layer.name for layer in scene(shown.image.url, layers=["cells"], frame=0).labels] == ["cells"]
    with pytest.raises(MissingError, match="Frame 2"):
        scene(shown.image.url, frame=2)
    with pytest.raises(MissingError, match="'cells'"):
        scene(shown.image.url, layers=["cels"])


def test_layers_of_another_store(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 60), "yx")
    layer = stage_labels(image, "cells", output=str(tmp_path / "o.zarr"), planes_z=1)
    publish_labels(layer)
    shown = scene(image.url, labels_store=str(tmp_path / "o.zarr"))
    with view(shown) as page:
        image_address, labels_address = page.stores.values()
    assert image_address.rsplit("/", 1)[0] == labels_address.rsplit("/", 1)[0] != ""


def is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 60), "yx")
    with contextlib.ExitStack() as servers:
        # The port before the one that is taken must be free, or its number is in the message.
        ports = (urlsplit(servers.enter_context(serving({}))).port or 0 for _ in range(20))
        taken = next(port for port in ports if is_free(port - 1))
        with pytest.raises(InputError, match=f"port {taken}: .* the next one must be free"):
            view(image.url, port=taken - 1)


@pytest.mark.parametrize("port", [-1, 65535, 65536, 70000])
def test_a_port_that_does_not_exist_is_refused(tmp_path: Path, port: int) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 60), "yx")
    with pytest.raises(InputError, match=r"Port -?\d+ is not valid; expected 1 to 65535"):
        view(image.url, port=port)


def test_the_state(tmp_path: Path) -> None:
    shown = scene(labelled(tmp_path / "i.zarr", "cells"))
    addresses = {shown.image.url: "http://here/a", shown.labels[0].url: "http://here/a/labels/cells"}
    found = state(shown.image, shown.labels, addresses, t=1)
    assert found["dimensions"] == {"x": (0.25e-6, "m"), "y": (0.5e-6, "m"), "t": (60, "s")}
    assert found["position"] == [30, 20, 1.5]
    kinds = [(layer["type"], layer["name"], layer["source"]) for layer in found["layers"]]
    images = [("image", f"image {c}", "http://here/a/|zarr:") for c in range(3)]
    assert kinds == [*images, ("segmentation", "cells", "http://here/a/labels/cells/|zarr:")]
    assert [layer["localPosition"] for layer in found["layers"][:3]] == [[0], [1], [2]]
    carried = json.loads(urllib.parse.unquote(link(found).removeprefix(f"{HOSTED}#!")))
    assert carried == json.loads(json.dumps(found))


def test_contrast_comes_from_the_frame(tmp_path: Path) -> None:
    pixels = np.zeros((2, 50, 50), np.uint16)
    pixels[1] = np.arange(2500).reshape(50, 50)
    image = make(tmp_path / "i.zarr", pixels, "tyx")
    ((low, high),) = contrast(image, 1)
    assert low == pytest.approx(24.99)
    assert high == pytest.approx(2486.5, abs=1)
    low, high = contrast(image, 0)[0]
    assert low < high


def test_a_store_on_the_web_gets_a_link_and_no_server(tmp_path: Path) -> None:
    shown = scene(labelled(tmp_path / "i.zarr", "cells"))
    with serving({"web": shown.image.store}) as server, view(f"{server}/web") as page:
        assert not page.here
        assert page.url.startswith(f"{HOSTED}#!")
        assert f"{server}/web/labels/cells/|zarr:" in urllib.parse.unquote(page.url)
