"""Frames in time: which exist, where they lie, and what they are called."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError, MissingError
from cellscale.sources.stored import Stored, from_array, read_npy, read_npz
from cellscale.sources.tiffs import from_tiff

TIFFS = (".tif", ".tiff")
MASK = re.compile(r"[_\-. ]?(cp_masks|masks?|labels?|seg)$", re.IGNORECASE)
"""The end of a mask's name, without its suffix."""
_CTC = re.compile(r"(?:man_seg|man_track|mask|t)(\d{3,})$")
_FRAMES = ".frames.txt"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Frames that exist elsewhere; nothing stays open between two planes."""

    path: str
    shape: tuple[int, int, int, int, int]
    """Lengths of t, c, z, y, x."""
    dtype: np.dtype[Any]
    frames: tuple[int, ...]
    """The frames that exist, rising; the others are empty."""
    numbered: bool = False
    """Whether the frames carry numbers of their own, by which labels find their image."""
    names: Mapping[str, int] = field(default_factory=dict)
    """Frames by the names of their files, without the ending of masks; those that `frames` left out, too."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel, where the file says so, µm."""
    read: Callable[[int, int, int], NDArray[Any]]
    """(position in `frames`, channel, slice) → plane."""

    def plane(self, t: int, c: int = 0, z: int = 0) -> NDArray[Any]:
        """Return one plane, (y, x); zeros for a frame that does not exist.

        Raises
        ------
        MissingError
            For an index outside of the shape.
        InputError
            For a plane of another size than the first.
        StoreError
            For a file that cannot be read.
        """
        for what, index, size in zip(("Frame", "Channel", "Slice"), (t, c, z), self.shape, strict=False):
            if not 0 <= index < size:
                raise MissingError(f"{what} {index} of {self.path} does not exist; it has {size}, numbered from 0.")
        if t not in self.frames:
            return np.zeros(self.shape[3:], self.dtype)
        plane = self.read(self.frames.index(t), c, z)
        if plane.shape != self.shape[3:]:
            raise InputError(f"Frame {t} of {self.path} has {plane.shape} px; the first has {self.shape[3:]}.")
        return plane


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which img2 comes before img10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _numbers(path: Path, count: int) -> tuple[int, ...] | None:
    """Frame numbers of a stack's pages, one on each line of NAME.frames.txt beside it; None without this file."""
    listed = path.with_suffix(_FRAMES)
    if not listed.is_file():
        return None
    try:
        numbers = tuple(int(line) for line in listed.read_text().split())
    except ValueError as error:
        raise InputError(f"{listed}: expected one frame number on each line ({error}).") from error
    if len(numbers) != count:
        raise InputError(f"{listed} names {len(numbers)} frames; {path} has {count} pages.")
    return numbers


def _rising(numbers: Sequence[int], path: str) -> list[int]:
    """Order in which the numbers rise; InputError for one that is there twice, or negative."""
    order = sorted(range(len(numbers)), key=lambda i: numbers[i])
    twice = [numbers[a] for a, b in itertools.pairwise(order) if numbers[a] == numbers[b]]
    if twice or min(numbers) < 0:
        raise InputError(f"{path}: frame number {twice[0] if twice else min(numbers)} is there twice or negative.")
    return order


def _read_stack(stored: Stored, order: tuple[int, ...], t: int, c: int, z: int) -> NDArray[Any]:
    return stored.plane(order[t], c, z)


def _stack(stored: Stored, numbers: tuple[int, ...] | None) -> Source:
    """One array whose t axis is time."""
    count = stored.size("t")
    frames = tuple(range(count)) if numbers is None else numbers
    order = tuple(_rising(frames, stored.path))
    return Source(
        path=stored.path,
        shape=(max(frames) + 1, stored.size("c"), stored.size("z"), stored.size("y"), stored.size("x")),
        dtype=stored.dtype.newbyteorder("="),
        frames=tuple(frames[i] for i in order),
        numbered=numbers is not None,
        pixel_size_um=stored.pixel_size_um,
        read=partial(_read_stack, stored, order),
    )


def _read_file(files: tuple[str, ...], axes: str | None, t: int, c: int, z: int) -> NDArray[Any]:
    return _one_frame(files[t], axes).plane(0, c, z)


def _one_frame(path: str, axes: str | None) -> Stored:
    stored = from_tiff(path, axes)
    if stored.size("t") > 1:
        raise InputError(
            f"{path} has {stored.size('t')} pages, but in a folder each file is one frame. If the pages are slices or "
            "channels, say so with --axes zyx or cyx."
        )
    return stored


def _tiffs(folder: Path, labels: bool) -> list[Path]:
    """The images of a folder in natural order, or its masks; of an annotation folder 01_GT or 01_ST, its SEG's."""
    inner = [folder / name for name in ("SEG", "TRA") if (folder / name).is_dir()]
    found = [path for path in folder.iterdir() if path.suffix.lower() in TIFFS and not path.name.startswith(".")]
    if not found and inner:
        return _tiffs(inner[0], labels)
    if not found:
        raise MissingError(f"{folder} holds no TIFF files (*.tif, *.tiff).")
    stems = {path.stem for path in found}
    masks = [path for path in found if MASK.search(path.stem)]
    mixed = any(MASK.sub("", path.stem) in stems for path in masks)
    chosen = [path for path in found if (path in masks) == labels] if mixed else found
    return sorted(chosen, key=lambda path: natural(path.name))


def _folder(folder: Path, axes: str | None, labels: bool) -> Source:
    """Files that are one frame each."""
    files = _tiffs(folder, labels)
    if len(files) == 1:
        stack = _opened(str(files[0]), axes, labels)
        if len(stack.frames) > 1:
            return stack
    axes = axes.lower().replace("t", "") if axes else None
    found = [_CTC.match(path.stem) for path in files]
    numbered = all(found)
    frames = [int(match[1]) for match in found if match] if numbered else list(range(len(files)))
    order = _rising(frames, str(folder))
    first = _one_frame(str(files[0]), axes)
    return Source(
        path=str(folder),
        shape=(max(frames) + 1, first.size("c"), first.size("z"), first.size("y"), first.size("x")),
        dtype=first.dtype,
        frames=tuple(frames[i] for i in order),
        numbered=numbered,
        names={MASK.sub("", files[i].stem): frames[i] for i in order},
        pixel_size_um=first.pixel_size_um,
        read=partial(_read_file, tuple(str(files[i]) for i in order), axes),
    )


def _cropped(source: Source, frames: tuple[int | None, int | None] | None, labels: bool) -> Source:
    """The source with only a half-open range of frames, the first of which becomes 0."""
    if frames is None or (labels and source.names and not source.numbered):
        return source
    count = source.shape[0]
    start, stop = frames[0] or 0, count if frames[1] is None else frames[1]
    if labels and source.numbered:
        stop = max(min(stop, count), start + 1)
    elif not 0 <= start < stop <= count:
        raise MissingError(
            f"Frames {start}:{stop} of {source.path}: it has frames 0:{count}. Frame ranges are half-open."
        )
    skipped = sum(t < start for t in source.frames)
    return replace(
        source,
        shape=(stop - start, *source.shape[1:]),
        frames=tuple(t - start for t in source.frames if start <= t < stop),
        names={name: t - start for name, t in source.names.items()},
        read=partial(_read_later, source.read, skipped),
    )


def _read_later(read: Callable[[int, int, int], NDArray[Any]], skipped: int, t: int, c: int, z: int) -> NDArray[Any]:
    return read(t + skipped, c, z)


def _opened(path: str, axes: str | None, labels: bool) -> Source:
    name, _, key = path.partition("::")
    place = Path(name).expanduser()
    if not place.exists():
        raise MissingError(f"{name} does not exist. Give a TIFF file, a folder of TIFFs, an npz or an npy file.")
    if place.is_dir():
        return _folder(place, axes, labels)
    kind = place.suffix.lower()
    if kind in TIFFS:
        stored = from_tiff(str(place), axes)
        return _stack(stored, _numbers(place, stored.size("t")))
    if kind == ".npz":
        return _stack(from_array(read_npz(str(place), key, labels), axes, path), None)
    if kind == ".npy":
        return _stack(from_array(read_npy(str(place)), axes, path), None)
    raise InputError(f"{name} is no source of images; expected {', '.join(TIFFS)}, .npz, .npy or a folder of TIFFs.")


def open_source(
    path: str,
    *,
    axes: str | None = None,
    frames: tuple[int | None, int | None] | None = None,
    labels: bool = False,
) -> Source:
    """Open images, or masks, that are no OME-Zarr.

    Parameters
    ----------
    path : str
        A TIFF stack (with NAME.frames.txt beside it, its pages lie at the frames that this file lists, one number on
        each line); a folder of TIFFs, each one frame, sorted naturally; a Cell Tracking Challenge folder such as 01,
        01_ST or 01_GT/SEG; an npz, its key after `::`; an npy.
    axes : str, optional
        What the stored dimensions are, in their order. None: what the file says; else three dimensions are t, y, x.
    frames : tuple of int, optional
        Half-open range of frames; the first becomes 0.
    labels : bool
        Read masks: from a folder with both the files named *_mask and the like, from an npz `masks`.

    Returns
    -------
    Source
        Its planes are read one at a time.

    Raises
    ------
    MissingError
        If file, key or frames do not exist.
    InputError
        If axes or frame numbers do not fit.
    StoreError
        If a file is damaged.
    """
    source = _cropped(_opened(path, axes, labels), frames, labels)
    if source.dtype.kind not in "uifb":
        raise InputError(f"{path} has pixels of type {source.dtype}; expected integers, floats or booleans.")
    if 0 in source.shape:
        raise InputError(f"{path} has no pixels: its shape is {source.shape} (t, c, z, y, x).")
    return source
