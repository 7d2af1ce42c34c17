"""A multiscale: what images, label layers and images that are being made have in common.

It holds the URL, options and parsed metadata, and nothing open: it is picklable and means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from cellscale.errors import InputError
from cellscale.ngff import array_io
from cellscale.ngff.metadata import (
    Level,
    Node,
    checked_version,
    entries_of,
    items_of,
    multiscale_document,
    parse_axes,
    parse_datasets,
    parse_level,
    read_node,
)
from cellscale.ngff.pyramids import levels_together, size_of
from cellscale.ngff.stores import Store
from cellscale.storage.together import together
from cellscale.types import Box


@dataclass(frozen=True, kw_only=True)
class Multiscale:
    """A group of arrays of the same pixels at several resolutions."""

    url: str
    """URL of the multiscale's group."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """Options for fsspec."""
    version: str
    """NGFF version: 0.4 or 0.5."""
    axes: tuple[str, ...]
    """Any order of t, c, z, y, x, as stored; y and x are always there."""
    units: tuple[str | None, ...]
    """Unit of each axis, None where it is not given."""
    levels: tuple[Level, ...]
    """Levels from the finest."""
    dtype: np.dtype[Any]
    """Type of the finest level, in the machine's byte order."""

    @property
    def store(self) -> Store:
        """Store of the group."""
        return Store(url=self.url, storage_options=self.storage_options)

    def size(self, axis: str, level: int = 0) -> int:
        """Length of an axis; 1 for a missing axis."""
        return size_of(self.axes, self.levels[level], axis)

    def plane_shape(self, level: int = 0) -> tuple[int, int]:
        """Height and width of a level, px."""
        return self.size("y", level), self.size("x", level)

    @property
    def levels_together(self) -> int:
        """Number of levels of labels that can be written from one box of the publication grid at a time."""
        return levels_together(self.axes, self.levels, self.version)

    def index(
        self, box: Box, *, t: int, c: int | slice = 0, z: int | Literal["max"] = 0, level: int = 0
    ) -> array_io.Index:
        """The index of a box in the array of a level; "max" stands for all slices, a range of channels is not checked.

        Raises
        ------
        MissingError
            For a level, frame, channel or slice that does not exist.
        InputError
            For a box that leaves the level.
        """
        array_io.check_range("Level", level, len(self.levels), url=self.url)
        for what, place, axis in (("Frame", t, "t"), ("Channel", c, "c"), ("Slice", z, "z")):
            if isinstance(place, int):
                array_io.check_range(what, place, self.size(axis, level), url=self.url)
        array_io.check_box(box, self.plane_shape(level), self.url)
        channels = c if isinstance(c, slice) else slice(c, c + 1)
        slices = slice(0, self.size("z", level)) if z == "max" else slice(z, z + 1)
        return array_io.index_of(self.axes, box, t=t, z=slices, c=channels)

    def is_current(self) -> bool:
        """Whether the document of its group still names its finest array: after a replacement it names another.

        Coarser levels may be such as nobody reads, see `level_choice.from_level`.
        """
        node = read_node(self.store, self.version)
        described = items_of(node.ome.get("multiscales")) if node is not None else []
        datasets = parse_datasets(entries_of(described[0]), self.url) if described else []
        return any(dataset["path"] == self.levels[0].path for dataset in datasets)

    def document(self, name: str) -> dict[str, Any]:
        """The entry of `multiscales` that describes it."""
        version = {"version": self.version} if self.version == "0.4" else {}
        return multiscale_document(name, self.axes, self.units, self.levels) | version

    def created(self, *, new: bool = False) -> tuple[Level, ...]:
        """Create the arrays of all levels, unless the same attempt has created them before; return them as opened.

        `new`: whether it is known that there are none.
        """
        return tuple(together([partial(self._created, level, new) for level in self.levels]))

    def _created(self, level: Level, new: bool) -> Level:
        settings = array_io.array_settings(self.axes, level.shape, self.dtype, self.version)
        return replace(level, document=self.store.create_array(level.path, new=new, **settings))


def common(multiscale: Multiscale) -> dict[str, Any]:
    """The fields of a multiscale by name, without those of an image, a layer or a writer."""
    return {part.name: getattr(multiscale, part.name) for part in fields(Multiscale)}


def read_multiscale(store: Store, node: Node) -> Multiscale:
    """Read the metadata of a multiscale group and of its arrays; no pixel is read.

    Raises
    ------
    InputError
        If the documents contradict the format or one another.
    MissingError
        If an array is missing.
    """
    version = checked_version(node, store.url)
    multiscales = node.ome["multiscales"]
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], Mapping):
        raise InputError(f"{store.url} has empty `multiscales`: the group describes no image.")
    axes, units = parse_axes(multiscales[0], store.url)
    shapes, dtypes = [], []
    datasets = parse_datasets(multiscales[0], store.url)
    paths = [str(dataset["path"]) for dataset in datasets]
    documents = together([partial(store.array_document, path, node.zarr_format) for path in paths])
    for dataset, document in zip(datasets, documents, strict=True):
        with store.array(str(dataset["path"]), document=document) as array:
            shapes.append(tuple(array.shape))
            dtypes.append(np.dtype(array.dtype).newbyteorder("="))
        if len(shapes[-1]) != len(axes):
            raise InputError(
                f"Array {dataset['path']!r} of {store.url} has {len(shapes[-1])} dimensions; "
                f"the image's axes are {', '.join(axes)}."
            )
    levels = tuple(
        parse_level(multiscales[0], dataset, shape=shape, first=shapes[0], document=document, url=store.url)
        for dataset, shape, document in zip(datasets, shapes, documents, strict=True)
    )
    return Multiscale(
        url=store.url,
        storage_options=store.storage_options,
        version=version,
        axes=axes,
        units=units,
        levels=levels,
        dtype=dtypes[0],
    )
