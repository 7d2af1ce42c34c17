"""Two writers at one place: what the other one has made meanwhile stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cellscale
from cellscale.errors import ExistsError
from cellscale.ngff import label_layer
from cellscale.ngff.label_list import change_names
from cellscale.ngff.labels import list_labels, remove_labels
from cellscale.ngff.writer import create_image
from tests.ngff.pictures import layer, make, noise


def _labelled(url: str, value: int, **options: Any) -> None:
    labels = np.full((20, 20), value, np.uint32)
    cellscale.save_labels(labels, url, "cells", axes="yx", **options)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_that_must_not_be_replaced_keeps_its_layers(tmp_path: Path, version: str) -> None:
    """An attempt begins, another one overwrites it and saves a layer, and the first one ends."""
    place = str(tmp_path / "i.zarr")
    writer = create_image(place, shape_tczyx=(1, 1, 1, 20, 20), dtype="u2", axes="yx", version=version)
    image = make(place, noise(20, 20), "yx", version=version, overwrite=True)
    _labelled(place, 7)
    with pytest.raises(ExistsError, match="was written by another process meanwhile"):
        writer.finish()
    writer.remove()
    assert list_labels(place) == ("cells",)
    assert cellscale.open_labels(place, "cells").values.max() == 7
    assert cellscale.open_image(place).url == image.url


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_layer_that_is_published_during_a_removal_stays(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run publishes the same name when it has just left the list."""
    place, unlisted = str(tmp_path / "i.zarr"), change_names
    make(place, noise(20, 20), "yx", version=version)
    _labelled(place, 7)

    def met(*args: Any, **options: Any) -> None:
        unlisted(*args, **options)
        monkeypatch.undo()
        _labelled(place, 9, overwrite=True)

    monkeypatch.setattr(label_layer, "change_names", met)
    remove_labels(place, "cells")
    assert list_labels(place) == ("cells",)
    assert cellscale.open_labels(place, "cells").values.max() == 9
    assert len([*Path(place, "labels", "cells").glob("*0")]) == 1, "the old arrays are gone"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_layer_of_another_program_is_removed_with_its_arrays(tmp_path: Path, version: str) -> None:
    """Its files that are not Zarr's stay."""
    image = make(tmp_path / "i.zarr", noise(20, 20), "yx", version=version)
    layer(image, "cells", np.ones((1, 20, 20), np.uint32))
    group = tmp_path / "i.zarr" / "labels" / "cells"
    document = group / ("zarr.json" if version == "0.5" else ".zattrs")
    document.write_text(document.read_text().replace('"attempt"', '"by"'))
    (group / "README").write_text("mine")
    remove_labels(image.url, "cells")
    assert list_labels(image.url) == ()
    assert [path.name for path in group.iterdir()] == ["README"]
