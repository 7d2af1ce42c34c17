"""A label layer that can be painted in a viewer: frames are read when shown, and kept in memory when painted.

The original layer does not change. The corrected frames are written as a separate layer, which lists them as annotated,
so that a training uses only these.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import ExistsError, InputError
from cellscale.ngff.frame_ranges import annotated
from cellscale.ngff.image import NgffImage
from cellscale.ngff.import_planes import write_layer
from cellscale.ngff.labels import LabelLayer, list_labels, open_labels
from cellscale.progress import Progress, silent
from cellscale.sources.frames import Source
from cellscale.sources.stored import read_npz
from cellscale.types import Box, Labels

Place: TypeAlias = tuple[int, int]
"""Frame and slice of a plane."""
_SAVES = 5
"""Tries to save, each with the frames that others have saved before it."""
_SHOWN = 8
"""Planes without a correction that are kept in memory."""


@dataclass(kw_only=True)
class Correction:
    """An array of the axes of t, z, y and x that the image has: read and written as NumPy's, one plane at a time."""

    image: NgffImage
    layer: LabelLayer
    """The layer to correct; it does not change."""
    name: str
    """Name of the layer that gets the corrected frames."""
    earlier: LabelLayer | None = None
    """The layer of this name, if there is one: the frames that it has are shown, and kept."""
    correct: set[int] = field(default_factory=set)
    """Frames that were marked as correct without changes."""
    _painted: dict[Place, Labels] = field(default_factory=dict)
    _shown: dict[Place, Labels] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of the array, in the order of t, z, y, x."""
        return tuple(axis for axis in "tzyx" if axis in self.image.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(self.image.size(axis) for axis in self.axes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def dtype(self) -> np.dtype[np.uint32]:
        """Type of the labels."""
        return np.dtype(np.uint32)

    @cached_property
    def _kept(self) -> frozenset[int]:
        """Frames of the earlier correction."""
        return frozenset() if self.earlier is None else frozenset(annotated(self.earlier, range(self.image.size("t"))))

    def _stored(self, place: Place) -> Labels:
        """A plane as it was before this correction, (y, x)."""
        t, z = place
        source = self.earlier if self.earlier is not None and t in self._kept else self.layer
        return source.read(Box.of(source.plane_shape()), t=t, z=z)

    def plane(self, place: Place) -> Labels:
        """A plane as it is now, (y, x)."""
        if place in self._painted:
            return self._painted[place]
        if place not in self._shown:
            while len(self._shown) >= _SHOWN:
                del self._shown[next(iter(self._shown))]
            self._shown[place] = self._stored(place)
        return self._shown[place]

    def _to_paint(self, place: Place) -> Labels:
        if place not in self._painted:
            self._painted[place] = self.plane(place).copy()
            self._shown.pop(place, None)
        return self._painted[place]

    def _index(self, key: Any) -> tuple[Any, ...]:
        """An index of all axes: whole numbers, slices and arrays of whole numbers."""
        parts = key if isinstance(key, tuple) else (key,)
        at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
        rest = parts[at + 1 :]
        filled = (*parts[:at], *[slice(None)] * (self.ndim - at - len(rest)), *rest)
        if len(filled) != self.ndim or any(isinstance(part, np.ndarray) and part.dtype == bool for part in filled):
            raise IndexError(f"{key!r} is not an index of an array of {self.ndim} axes that can be painted.")
        return filled

    def _places(self, leading: Sequence[Any]) -> tuple[list[Place], tuple[int, ...]]:
        """Planes that the index of the axes before y and x names, and their arrangement."""
        axes, chosen, arranged = self.axes[:-2], [], []
        for axis, part in zip(axes, leading, strict=True):
            numbers = np.arange(self.image.size(axis))[part]
            arranged += list(numbers.shape)
            chosen.append(np.atleast_1d(numbers))
        grid = np.meshgrid(*chosen, indexing="ij") if chosen else []
        by_axis = dict(zip(axes, (part.ravel() for part in grid), strict=True))
        count = grid[0].size if grid else 1
        t, z = (by_axis.get(axis, np.zeros(count, int)) for axis in "tz")
        return [(int(a), int(b)) for a, b in zip(t, z, strict=True)], tuple(arranged)

    def _points(self, index: Sequence[Any]) -> list[tuple[Place, NDArray[np.bool_], tuple[NDArray[Any], NDArray[Any]]]]:
        """Planes that single pixels lie in, which of the pixels these are, and their rows and columns."""
        arrays = np.broadcast_arrays(*(np.asarray(part) for part in index))
        by_axis = {axis: part % self.image.size(axis) for axis, part in zip(self.axes, arrays, strict=True)}
        nothing = np.zeros(arrays[0].shape, int)
        t, z = by_axis.get("t", nothing), by_axis.get("z", nothing)
        found = []
        for a, b in sorted(set(zip(t.ravel().tolist(), z.ravel().tolist(), strict=True))):
            here = (t == a) & (z == b)
            found.append(((a, b), here, (by_axis["y"][here], by_axis["x"][here])))
        return found

    def __getitem__(self, key: Any) -> NDArray[np.uint32]:
        """Labels, as an array of NumPy gives them."""
        index = self._index(key)
        if not any(isinstance(part, slice) for part in index):
            pixels = np.zeros(np.broadcast_shapes(*(np.shape(part) for part in index)), np.uint32)
            for place, here, inside in self._points(index):
                pixels[here] = self.plane(place)[inside]
            return pixels
        places, arranged = self._places(index[:-2])
        planes = np.stack([self.plane(place)[index[-2:]] for place in places])
        return planes.reshape(*arranged, *planes.shape[1:])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Paint labels; the planes are kept until they are saved."""
        index = self._index(key)
        if not any(isinstance(part, slice) for part in index):
            values = np.broadcast_to(value, np.broadcast_shapes(*(np.shape(part) for part in index)))
            for place, here, inside in self._points(index):
                self._to_paint(place)[inside] = values[here]
            return
        places, arranged = self._places(index[:-2])
        one = self.plane(places[0])[index[-2:]].shape
        values = np.broadcast_to(value, (*arranged, *one)).reshape(len(places), *one)
        for place, painted in zip(places, values, strict=True):
            self._to_paint(place)[index[-2:]] = painted

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All labels in memory."""
        return self[...].astype(dtype or self.dtype)

    def frames(self) -> list[int]:
        """The frames that are annotated: painted ones that differ from before, correct ones, and earlier ones."""
        changed = {t for (t, z), plane in self._painted.items() if not np.array_equal(plane, self._stored((t, z)))}
        return sorted(changed | self.correct | self._kept)

    def keep(self, path: Path) -> None:
        """Write the painted planes that are not saved into an npz file on this machine; no store is read.

        Parameters
        ----------
        path : Path
            The file: `planes`, uint32 (n, y, x), with their `frames` and `slices`, and the `correct` frames.
        """
        frames, slices = np.array(list(self._painted), np.int64).reshape(-1, 2).T
        planes = np.array(list(self._painted.values()), np.uint32).reshape(-1, *self.shape[-2:])
        correct = np.array(sorted(self.correct), np.int64)
        np.savez_compressed(path, planes=planes, frames=frames, slices=slices, correct=correct)

    def restore(self, path: Path) -> None:
        """Paint what `keep` has written.

        Raises
        ------
        StoreError
            If the file cannot be read.
        InputError
            If it is another file, or was painted on an image of another size.
        """
        names = ("planes", "frames", "slices", "correct")
        planes, frames, slices, correct = (read_npz(str(path), name, labels=False)[1] for name in names)
        inside = all(
            ((numbers >= 0) & (numbers < self.image.size(axis))).all()
            for axis, numbers in (("t", frames), ("t", correct), ("z", slices))
        )
        if planes.shape != (len(frames), *self.shape[-2:]) or len(frames) != len(slices) or not inside:
            raise InputError(f"{path} was painted on an image of another size than {self.image.url}. Choose its image.")
        for t, z, plane in zip(frames.tolist(), slices.tolist(), planes.astype(np.uint32), strict=True):
            self._painted[(t, z)] = plane
        self.correct |= set(correct.tolist())

    def save(self, *, on_progress: Progress = silent) -> str | None:
        """Write the annotated frames as a layer, which appears when it is complete.

        Returns
        -------
        str or None
            URL of the layer; None if there is no such frame, and nothing was written.

        Raises
        ------
        StoreError
            If the store cannot be written; the corrections stay in memory.
        ExistsError
            If others save frames of this layer again and again meanwhile; the same.
        """
        for _ in range(_SAVES - 1):
            # A save of another process after this look is not replaced: its frames are read, and kept, by the next try.
            with contextlib.suppress(ExistsError):
                return self._saved(on_progress)
        return self._saved(on_progress)

    def _saved(self, on_progress: Progress) -> str | None:
        """Write the annotated frames, those of the latest save of other processes included."""
        self._look_again()
        frames = self.frames()
        if not frames:
            return None
        planes = Source(
            path=f"corrected frames of {self.layer.url}",
            name=self.name,
            shape=(len(frames), 1, *(self.image.size(axis) for axis in "zyx")),  # type: ignore[arg-type]
            dtype=self.dtype,
            frames=tuple(range(len(frames))),
            read=lambda t, c, z: self.plane((frames[t], z)),
        )
        made = write_layer(
            self.image,
            planes,
            self.name,
            written=frames,
            annotated=frames,
            overwrite=self.earlier is not None,
            replaces=self.earlier.attempt if self.earlier else None,
            on_progress=on_progress,
        )
        self._look_again()
        return made.url

    def _look_again(self) -> None:
        """Open the corrected layer again: other processes may have added frames to it meanwhile."""
        self.earlier = _earlier(self.image, self.name)
        self.__dict__.pop("_kept", None)
        self._shown.clear()


def correction_of(image: NgffImage, layer: LabelLayer, name: str | None = None) -> Correction:
    """Start to correct a layer, or continue an earlier correction that was saved.

    Parameters
    ----------
    image : NgffImage
        The image.
    layer : LabelLayer
        The layer that is corrected.
    name : str, optional
        Name of the layer that gets the corrected frames; None: that of the layer with `-corrected`.

    Raises
    ------
    InputError
        If the layer has another size than the image, or the other layer of this name does not name its annotated
        frames.
    """
    name = name or f"{layer.name}-corrected"
    sizes: list[Mapping[str, int]] = [{axis: found.size(axis) for axis in "tzyx"} for found in (image, layer)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"Layer {layer.name!r} is {tuple(sizes[1].values())} (t, z, y, x), {image.url} is "
            f"{tuple(sizes[0].values())}; a layer is corrected at the size of its image. Make one with "
            "`cellscale upsample-labels` if it is coarser."
        )
    if name == layer.name:
        raise InputError(f"The corrected frames of layer {name!r} need another name; expected e.g. --save-as {name}-2.")
    return Correction(image=image, layer=layer, name=name, earlier=_earlier(image, name))


def _earlier(image: NgffImage, name: str) -> LabelLayer | None:
    """The corrected layer as it was saved before, if it was."""
    if name not in list_labels(image.url, storage_options=image.storage_options):
        return None
    earlier = open_labels(image.url, name, storage_options=image.storage_options)
    if "frames" not in earlier.metadata:
        raise InputError(
            f"Layer {name!r} of {image.url} does not name its annotated frames, so corrected ones cannot be added to "
            "it. Choose another name with --save-as."
        )
    return earlier
