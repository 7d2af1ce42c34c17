"""Open files and folders as one image or all images that they contain; incomplete frames are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError, MissingError, SeveralImagesError
from cellscale.sources.folders import CTC, TIFFS, check_one_kind, holds_images, image_files, keys, stem_of
from cellscale.sources.frames import Source, cropped, rising, stack
from cellscale.sources.microscope_files import is_microscope_file, microscope_images
from cellscale.sources.pictures import PICTURES, picture_images
from cellscale.sources.stored import Stored, file_and_key, from_array, listed, read_npy, read_npz
from cellscale.sources.tiffs import tiff_images
from cellscale.storage.pixel_types import pixel_type
from cellscale.storage.urls import is_local

_FRAMES = ".frames.txt"
_ARRAYS = (".npz", ".npy")
_NAMED = 8
"""Greatest number of images named in a message."""

Series: TypeAlias = int | Literal["all"] | None
"""Choice of images from a source that contains several: one by its number, or all."""


def _numbers(path: Path, count: int) -> tuple[int, ...] | None:
    """Frame numbers of a stack's pages, one on each line of NAME.frames.txt; None without this file."""
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


def _read_file(files: tuple[Stored, ...], t: int, c: int, z: int) -> NDArray[Any]:
    return files[t].plane(0, c, z)


def _file_images(path: Path, axes: Sequence[str]) -> tuple[Stored, ...]:
    read = picture_images if path.suffix.lower() in PICTURES else tiff_images
    return read(str(path), axes)


def _images_of(files: Sequence[Path], axes: Sequence[str]) -> list[tuple[Path, tuple[Stored, ...]]]:
    """The images of each file; a set of files that one image spans counts once, under its first file."""
    covered: set[Path] = set()
    found = []
    for path in files:
        if path.resolve() in covered:
            continue
        images = _file_images(path, axes)
        covered |= {Path(name).resolve() for image in images for name in image.files}
        found.append((path, images))
    return found


def _frame_of(path: Path, images: tuple[Stored, ...], volume: bool) -> Stored:
    """The only frame of a file; pages are slices where a volume is meant."""
    if volume and len(images) == 1 and images[0].axes == "tyx":
        return replace(images[0], axes="zyx")
    if len(images) > 1 or images[0].size("t") > 1:
        pages = f"{len(images)} images" if len(images) > 1 else f"{images[0].size('t')} pages"
        raise SeveralImagesError(
            f"{path} has {pages}, but in a folder each file is one frame. If the pages are slices or channels, use "
            "--axes zyx or cyx; --series all makes a separate image of each file."
        )
    return images[0]


def _check_alike(files: Sequence[Stored], labels: bool) -> None:
    """Raise InputError for a file that cannot be a frame of the same image as the first; masks may differ in type."""
    first = files[0]
    for of, axis in (("slices", "z"), ("channels", "c")):
        other = next((file for file in files if file.size(axis) != first.size(axis)), None)
        if other is not None:
            raise SeveralImagesError(
                f"{other.path} has {other.size(axis)} {of}, {first.path} has {first.size(axis)}; the frames of one "
                "image must have the same number. Use --series all to make a separate image of each file."
            )
    sizes = {(file.size("y"), file.size("x")): file for file in reversed(files)}
    if len(sizes) > 1:
        (height, width), other = next((size, file) for size, file in sizes.items() if file.path != first.path)
        raise SeveralImagesError(
            f"{Path(first.path).parent} holds images of {len(sizes)} sizes: {Path(first.path).name} has "
            f"{first.size('y')} × {first.size('x')} px, {Path(other.path).name} has {height} × {width} px. Use "
            "--series all to make a separate image of each file."
        )
    other = next((file for file in files if file.dtype != first.dtype), None)
    if other is not None and not labels:
        raise InputError(
            f"{other.path} is {other.dtype}, {first.path} is {first.dtype}; the frames of one image have one type, and "
            "masks are named like a_mask.tif. Use --series all to make a separate image of each file."
        )


def _folder_stack(folder: Path, files: Sequence[Path], axes: Sequence[str], labels: bool) -> Source:
    """Files that are one frame each; or one stack, in one file or in the files of a set."""
    found = _images_of(files, [one.replace("t", "") for one in axes] if len(files) > 1 else axes)
    if len(found) == 1 and (len(files) > 1 or any(image.size("t") > 1 for image in found[0][1])):
        return _only(_stacks(found[0][0], found[0][1]), str(folder))
    files = [path for path, _ in found]
    check_one_kind(files)
    matches = [CTC.match(stem_of(path)) for path in files]
    numbered = all(matches)
    stored = [_frame_of(path, images, numbered and not axes) for path, images in found]
    _check_alike(stored, labels)
    frames = [int(match[1]) for match in matches if match] if numbered else list(range(len(files)))
    order = rising(frames, str(folder))
    first, named = stored[0], keys(files)
    return Source(
        path=str(folder),
        name=folder.resolve().name,
        shape=(max(frames) + 1, first.size("c"), first.size("z"), first.size("y"), first.size("x")),
        dtype=np.result_type(*(file.dtype for file in stored)),
        frames=tuple(frames[i] for i in order),
        numbered=numbered,
        names={named[i]: frames[i] for i in order},
        calibration=first.calibration,
        incomplete={frames[i]: lack for i in order for lack in stored[i].incomplete.values()},
        files=frozenset(name for file in stored for name in file.files or (file.path,)),
        read=partial(_read_file, tuple(stored[i] for i in order)),
    )


def _stacks(path: Path, images: Sequence[Stored]) -> list[Source]:
    """The images of a file; frame numbers of a list next to it are those of its only image."""
    numbers = _numbers(path, images[0].size("t")) if len(images) == 1 else None
    return [stack(image, numbers) for image in images]


def _only(found: Sequence[Source], path: str) -> Source:
    """The only image; InputError that names them where there are several."""
    if len(found) == 1:
        return found[0]
    shown = [f"{i} {source.name!r} ({' × '.join(map(str, source.shape))})" for i, source in enumerate(found[:_NAMED])]
    more = ", …" if len(found) > _NAMED else ""
    raise SeveralImagesError(
        f"{path} holds {len(found)} images (t × c × z × y × x): {', '.join(shown)}{more}. Use --series N for one "
        "of them, or --series all for a collection of all."
    )


def is_source(path: str) -> bool:
    """Whether a path leads to images that `open_sources` reads: a file of a known kind, or a folder of such files."""
    place, _ = file_and_key(path)
    if place.is_dir():
        return holds_images(place)
    return place.is_file() and (place.suffix.lower() in (*TIFFS, *PICTURES, *_ARRAYS) or is_microscope_file(place))


def _opened(path: str, axes: Sequence[str], labels: bool, each: bool) -> list[Source]:
    if not is_local(path):
        raise InputError(f"{path} is not on this machine; images to import are. Download it first.")
    place, key = file_and_key(path)
    if not place.exists():
        raise MissingError(f"{place} does not exist. Give a TIFF file, a folder of images, an npz or an npy file.")
    if key and place.suffix.lower() != ".npz":
        raise InputError(
            f"{path}: a key after '::' chooses an array of an npz file, and {place} is not one. Omit '::{key}'."
        )
    if place.is_dir():
        files = image_files(place, labels)
        if not each:
            return [_folder_stack(place, files, axes, labels)]
        named = dict(zip(files, keys(files), strict=True))
        found = _images_of(files, axes)
        return [replace(one, key=named[file]) for file, images in found for one in _stacks(file, images)]
    kind = place.suffix.lower()
    if kind in (*TIFFS, *PICTURES):
        return _stacks(place, _file_images(place, axes))
    if kind == ".npz":
        chosen, array = read_npz(str(place), key, labels)
        return [stack(from_array(array, axes, f"{place}::{chosen}"))]
    if kind == ".npy":
        return [stack(from_array(read_npy(str(place)), axes, path))]
    if is_microscope_file(place):
        return _stacks(place, microscope_images(str(place), axes))
    raise InputError(
        f"{place} is not a source of images; expected .tif, .tiff, .png, .jpg, .npz, .npy, a folder of "
        "images, or a file of a microscope such as .nd2, .lif or .czi."
    )


def _checked(source: Source, shift: int) -> Source:
    """The source, if all its frames are whole and its pixels are numbers."""
    pixel_type(source.dtype, source.path)
    if 0 in source.shape:
        raise InputError(f"{source.path} has no pixels: its shape is {source.shape} (t, c, z, y, x).")
    if source.incomplete:
        t, lack = next(iter(source.incomplete.items()))
        raise InputError(
            f"Frame {t + shift} of {source.path} is incomplete: {lack}. Complete it, or import the frames before it or "
            "after it with --frames A:B."
        )
    return source


def open_sources(
    path: str,
    *,
    axes: str | None = None,
    frames: tuple[int | None, int | None] | None = None,
    labels: bool = False,
    series: Series = None,
) -> tuple[Source, ...]:
    """Open images, or masks, that are not OME-Zarr.

    Parameters
    ----------
    path : str
        A TIFF stack (its pages lie at the frames that NAME.frames.txt in the same folder lists, one number on each
        line, where it exists); a set of OME-TIFF files, by any of them; a folder of TIFFs, each one frame, sorted
        naturally, or of PNG and JPEG files; a Cell Tracking Challenge folder such as 01, 01_ST or 01_GT/SEG; an npz,
        its key after `::`; an npy.
    axes : str, optional
        Names of the stored dimensions in their order; masks may lack the channels. None: from the file, else three
        dimensions are t, y, x.
    frames : tuple of int, optional
        Half-open range of frames; the first becomes 0.
    labels : bool
        Read masks: from a folder with both the files named *_mask and the like, from an npz `masks`.
    series : int or "all", optional
        Which images: None for the only one, the frames of a folder being one image; "all" for all, each file of a
        folder being an image of its own; a number for one of these.

    Returns
    -------
    tuple of Source
        One, unless `series` is "all"; their planes are read one at a time.

    Raises
    ------
    MissingError
        If file, key, frames or series do not exist, or none of the frames has an image.
    SeveralImagesError
        If there are several images and `series` is None.
    InputError
        If frames are incomplete, or axes or frame numbers do not fit.
    StoreError
        If a file is damaged.
    """
    given = [axes.lower()] if axes else []
    if axes and labels and "c" in given[0]:
        given.insert(0, given[0].replace("c", ""))
    found = _opened(path, given, labels, each=series is not None)
    if series is None:
        found = [_only(found, path)]
    elif series != "all":
        if not 0 <= series < len(found):
            raise MissingError(f"Series {series} of {path} does not exist; it has {len(found)}, numbered from 0.")
        found = [found[series]]
    first = (frames[0] or 0) if frames else 0
    chosen = [cropped(source, frames, labels) for source in found]
    for whole, source in zip(found, chosen, strict=True):
        if not source.frames and not labels and 0 not in source.shape:
            raise MissingError(
                f"None of the chosen frames of {source.path} exists; those that exist are "
                f"{listed(whole.frames) or 'none'}. Choose frames among these."
            )
    return tuple(_checked(source, first) for source in chosen)


def open_source(
    path: str,
    *,
    axes: str | None = None,
    frames: tuple[int | None, int | None] | None = None,
    labels: bool = False,
    series: int | None = None,
) -> Source:
    """Open one image, or its masks; see `open_sources`.

    Parameters
    ----------
    path : str
        A file or folder.
    axes : str, optional
        Names of the stored dimensions.
    frames : tuple of int, optional
        Half-open range of frames.
    labels : bool
        Read masks.
    series : int, optional
        Number of the image; None: the only one.

    Returns
    -------
    Source
        The image.
    """
    (source,) = open_sources(path, axes=axes, frames=frames, labels=labels, series=series)
    return source
