"""Masks to import: the frame that each belongs to, and a check that their values number single cells.

Masks of classes (0 and 255, or background, cell and border) look like labels but are not: one number has many pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as equal_neighbours

from cellscale.errors import InputError
from cellscale.ngff.labels import as_labels
from cellscale.types import Calibration, Labels

Classes: TypeAlias = Literal["number", "keep"] | None
"""Handling of masks in which most numbers have several pieces: number each piece, keep the numbers, or refuse."""


class Planes(Protocol):
    """Source of planes by frame."""

    @property
    def path(self) -> str:
        """Path of the source, for messages."""
        ...

    @property
    def name(self) -> str:
        """Name of the image."""
        ...

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Lengths of t, c, z, y, x."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        ...

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that exist, ascending."""
        ...

    @property
    def numbered(self) -> bool:
        """Whether the frames carry numbers of their own."""
        ...

    @property
    def names(self) -> Mapping[str, int]:
        """Frames by name, or nothing."""
        ...

    @property
    def calibration(self) -> Calibration:
        """Physical sizes and channel names, as far as they are known."""
        ...

    @property
    def files(self) -> frozenset[str]:
        """Files that hold the planes."""
        ...

    def plane(self, t: int, c: int = 0, z: int = 0) -> NDArray[Any]:
        """Return one plane, (y, x)."""
        ...


def _by_name(images: Planes, labels: Planes) -> dict[int, int]:
    unmatched = [name for name in labels.names if name not in images.names]
    if unmatched:
        raise InputError(
            f"Mask {unmatched[0]!r} of {labels.path} has no image of this name in {images.path}. "
            "A mask has its image's name, with or without _mask, _masks, _label or _labels."
        )
    present = set(images.frames)
    return {images.names[name]: t for name, t in labels.names.items() if images.names[name] in present}


def pairs(images: Planes, labels: Planes) -> dict[int, int]:
    """Frames of the images that have labels, and the frames of these: by number, by name, or in order.

    Raises
    ------
    InputError
        If labels have no image, sizes differ, a file is both, or labels and images cannot be matched.
    """
    common = sorted(images.files & labels.files)
    if common:
        raise InputError(
            f"{common[0]} is both image and mask. In a folder that holds both, masks are named like their "
            "images: a.tif and a_mask.tif."
        )
    if labels.shape[2:] != images.shape[2:] or labels.shape[1] != 1:
        raise InputError(
            f"Labels {labels.path} are {labels.shape} (t, c, z, y, x), images {images.path} are {images.shape}; "
            "expected the same slices, rows and columns, and one channel of labels."
        )
    if labels.numbered:
        present = set(images.frames)
        alone = [t for t in labels.frames if t not in present]
        if alone:
            raise InputError(f"Frame {alone[0]} of {labels.path} has no image in {images.path}.")
        return {t: t for t in labels.frames}
    if labels.names and images.names:
        return _by_name(images, labels)
    if len(labels.frames) != len(images.frames):
        raise InputError(
            f"{labels.path} has {len(labels.frames)} frames, {images.path} has {len(images.frames)}; expected the same "
            "number. Name the frames in a file NAME.frames.txt in the folder of the labels, one number on each line."
        )
    return dict(zip(images.frames, labels.frames, strict=True))


def instance_labels(plane: NDArray[Any], t: int, path: str) -> Labels:
    """A plane of instance labels as uint32; InputError, naming frame and value, for anything else."""
    where = f"Frame {t} of {path}"
    if plane.dtype.kind == "f":
        fractions = plane[plane % 1 != 0]
        value = fractions.flat[0] if fractions.size else plane.max()
        raise InputError(
            f"{where}: value {value} is {plane.dtype}; labels are integers, 0 for background. Save them as integers."
        )
    return as_labels(plane, where)


def numbered_pieces(labels: Labels) -> Labels:
    """Number the connected pieces of each label from 1, through sides and corners."""
    return np.asarray(equal_neighbours(labels, background=0, connectivity=2), np.uint32)


def _pieces(labels: Labels) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels of a plane, and the number of connected pieces of each."""
    numbered = numbered_pieces(labels)
    of = np.zeros(int(numbered.max()) + 1, np.uint32)
    of[numbered] = labels  # every pixel of a piece writes the same number
    return np.unique(of[1:], return_counts=True)


def check_labels(labels: Planes, frames: Iterable[int], classes: Classes) -> None:
    """Read and check all labels once, before anything is replaced.

    Parameters
    ----------
    labels : Planes
        Masks.
    frames : iterable of int
        Their frames that will be imported.
    classes : "number", "keep" or None
        None: refuse masks in which more than half of the numbers have several pieces.

    Raises
    ------
    InputError
        If they are not whole numbers from 0 to 2³² − 1, or number classes.
    """
    numbers = scattered = 0
    worst = (0, 0, 0)
    for t in frames:
        for z in range(labels.shape[2]):
            plane = instance_labels(labels.plane(t, 0, z), t, labels.path)
            if classes is not None:
                continue
            found, count = _pieces(plane)
            numbers, scattered = numbers + len(found), scattered + int((count > 1).sum())
            if len(found):
                most = int(count.argmax())
                worst = max(worst, (int(count[most]), int(found[most]), t))
    if 2 * scattered > numbers:
        pieces, value, t = worst
        raise InputError(
            f"{labels.path} does not number single cells: frame {t} has {pieces} separate pieces of label {value}. Use "
            "--classes number to make each piece a cell, or --classes keep if they belong together."
        )
