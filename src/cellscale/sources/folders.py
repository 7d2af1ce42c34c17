"""Folders of image files: tell images from masks, and match masks with images."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cellscale.errors import InputError, MissingError
from cellscale.sources.pictures import PICTURES

log = logging.getLogger("cellscale")

TIFFS = (".tif", ".tiff", ".btf", ".tf8")
CTC = re.compile(r"(?:man_seg|man_track|mask|t)(\d{3,})$")
"""Names of the Cell Tracking Challenge: a frame of an image, or its masks."""
_CTC_SLICE = re.compile(r"man_seg_(\d{3,})_(\d{3,})$")
_SUFFIX = re.compile(r"(\.ome)?\.[a-z0-9]+$", re.IGNORECASE)
_MASK_WORDS = frozenset(
    {"mask", "masks", "msk", "msks", "label", "labels", "lbl", "lbls", "labeled", "labelled"}
    | {"seg", "segs", "segmentation", "segmentations", "gt", "groundtruth", "truth"}
    | {"annotation", "annotations", "annotated", "instance", "instances", "manual"}
)
_IMAGE_WORDS = frozenset({"im", "img", "imgs", "image", "images", "raw", "input", "original", "frame", "frames"})
_FILLERS = frozenset({"cp", "ground", "man"})
"""Words that stand before a word for masks: cp_masks, ground_truth, man_seg."""


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which img2 comes before img10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def stem_of(path: Path) -> str:
    """The name of a file without .tif, .ome.tif or another ending."""
    return _SUFFIX.sub("", path.name)


def _words(path: Path) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", stem_of(path))


def is_mask(path: Path) -> bool:
    """Whether a word of the name says that the file holds masks."""
    return any(word.lower() in _MASK_WORDS for word in _words(path))


def _key(path: Path) -> str:
    """Key that image and mask share: the name's words without those for images and masks, or a CTC frame."""
    stem, words = stem_of(path), _words(path)
    numbered = CTC.match(stem)
    if numbered:
        return numbered[1]
    dropped = _IMAGE_WORDS | _MASK_WORDS | (_FILLERS if is_mask(path) else frozenset())
    return "_".join(word for word in words if word.lower() not in dropped) or stem


def keys(files: Sequence[Path]) -> list[str]:
    """Keys that match masks with images, one for each file; the whole name where several would be equal."""
    found = [_key(path) for path in files]
    count = Counter(found)
    return [key if count[key] == 1 else stem_of(path) for key, path in zip(found, files, strict=True)]


def _chosen(found: Sequence[Path], folder: Path, labels: bool) -> list[Path]:
    """The images, or the masks, of a folder that holds both; all files where it does not."""
    masks = [path for path in found if is_mask(path)]
    images = [path for path in found if not is_mask(path)]
    if masks and set(keys(images)) & set(keys(masks)):
        return masks if labels else images
    if masks and images and not labels:
        raise InputError(
            f"{folder} holds {images[0].name} and {masks[0].name}, which is named like a mask, but no mask has the "
            "name of an image. Name them alike, e.g. a.tif and a_mask.tif, or put the masks into a folder of their own."
        )
    return list(found)


def check_one_kind(files: Sequence[Path]) -> None:
    """Refuse files of which each second one has the name of another and one word more: they are no frames of a movie.

    Such are masks whose word nobody knows, outlines, or a second channel.

    Raises
    ------
    InputError
        Naming two of them.
    """
    kinds: dict[tuple[str, ...], dict[tuple[str, ...], Path]] = {}
    for path in files:
        words = _words(path)
        numbers = tuple(word for word in words if word.isdigit())
        kinds.setdefault(tuple(word for word in words if not word.isdigit()), {})[numbers] = path
    for short, plain in kinds.items():
        for long, other in kinds.items():
            more = [word for i, word in enumerate(long) if long[:i] + long[i + 1 :] == short]
            if more and len(plain) > 1 and plain.keys() == other.keys():
                first = next(iter(plain))
                raise InputError(
                    f"{plain[first].parent} holds {plain[first].name} and {other[first].name}, and so on: files with "
                    f"the word {more[0]!r} and without it are not frames of one movie. Move those with it into a "
                    "folder of their own, or name them like a_mask.tif if they are masks; --series all makes an image "
                    "of its own of each file."
                )


def _files(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Files with one of these endings that are not hidden, in natural order."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in endings and not path.name.startswith(".")]
    return sorted((path for path in files if not path.is_dir()), key=lambda path: natural(path.name))


def _candidates(folder: Path) -> list[Path]:
    """Image files of a folder, in natural order; pictures in a folder of TIFFs only if they are masks of these."""
    stacks, pictures = _files(folder, TIFFS), _files(folder, PICTURES)
    known = set(keys(stacks))
    return stacks + [path for path in pictures if not stacks or (is_mask(path) and _key(path) in known)]


_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Documents of a Zarr store."""


def _is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((folder / name).exists() for name in _ZARR)


def holds_images(folder: Path) -> bool:
    """Whether a folder is not a Zarr store and has image files."""
    return not _is_zarr(folder) and bool(_candidates(folder))


def image_files(folder: Path, labels: bool) -> list[Path]:
    """The images of a folder in natural order, or its masks; of an annotation folder 01_GT or 01_ST, its SEG's.

    Raises
    ------
    MissingError
        If there are none.
    InputError
        For a Zarr store; if images and masks cannot be told apart, or masks annotate single slices.
    """
    found = _candidates(folder)
    left = [path.name for path in _files(folder, PICTURES) if path not in found]
    if left:
        log.warning(
            "%s holds TIFFs, so that %d of its PNG and JPEG files, such as %s, are not read", folder, len(left), left[0]
        )
    annotations = [folder / name for name in ("SEG", "TRA") if (folder / name).is_dir()]
    if not found and annotations:
        return image_files(annotations[0], labels)
    if not found and _is_zarr(folder):
        raise InputError(f"{folder} is a Zarr store already and needs no import: give it to `cellscale segment`.")
    if not found:
        inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and _candidates(path)]
        where = f" The folders {', '.join(inner[:5])} in it do: give one of them." if inner else ""
        raise MissingError(f"{folder} holds no images (*.tif, *.tiff, *.png, *.jpg).{where}")
    sliced = next((match for match in (_CTC_SLICE.match(stem_of(path)) for path in found) if match), None)
    if sliced:
        raise InputError(
            f"{folder} annotates single slices, such as slice {int(sliced[2])} of frame {int(sliced[1])}; a label "
            "layer holds whole frames. Import the silver truth (…_ST), or a folder with one image and one mask for "
            "each slice."
        )
    return _chosen(found, folder, labels)
