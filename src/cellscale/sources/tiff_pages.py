"""Planes of a TIFF series, each read from its page's own file, which is opened for one plane.

A series may span several files and lack pages. No page is read beyond the end of its file, and every error that
tifffile reports is raised.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellscale.errors import CellscaleError, StoreError
from cellscale.sources.stored import Index, Reader

_FAILURES = (
    OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError,
    struct.error, tifffile.TiffFileError,
)  # fmt: skip
"""Exceptions of tifffile and its decoders for bytes that do not match the file's tags."""
_HEADERS = ("shaped", "ome", "imagej", "mmstack", "ndtiff", "scanimage")

_CONTRADICTION = re.compile(r"OME series (?!is missing|failed to read)")
"""Warnings that mean errors; missing files of a set are found by their pages."""

Page: TypeAlias = tuple[str, int]
"""A page's file and the offset of its directory."""


@dataclass(frozen=True, kw_only=True)
class OpenTiff:
    """A TIFF file, open for one use."""

    path: str
    tiff: Any
    headers: bool = True
    """Whether descriptions of the pages are used."""
    complaints: list[str] = field(default_factory=list)
    """Errors that tifffile logged but did not raise."""


@contextlib.contextmanager
def _collected() -> Iterator[list[str]]:
    """Collect the errors that tifffile logs inside the context; nothing that it logs is printed."""
    found: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        text = re.sub(r"<tifffile[^>]*> ", "", record.getMessage())
        if record.levelno >= logging.ERROR or _CONTRADICTION.match(text):
            found.append(text)
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield found
    finally:
        logger.removeFilter(keep)


@contextlib.contextmanager
def opened(path: str, *, headers: bool = True) -> Iterator[OpenTiff]:
    """Open a file for one use; errors of the decoders become StoreErrors.

    Parameters
    ----------
    path : str
        A TIFF file.
    headers : bool
        Use OME-XML, ImageJ and other descriptions of the pages; False: pages in file order.
    """
    flags: dict[str, Any] = {} if headers else {f"is_{kind}": False for kind in _HEADERS}
    try:
        with _collected() as complaints, tifffile.TiffFile(path, **flags) as tiff:
            yield OpenTiff(path=path, tiff=tiff, headers=headers, complaints=complaints)
    except CellscaleError:
        raise
    except _FAILURES as error:
        raise StoreError(f"Cannot read {path} as TIFF: {error}. Check that the file is whole.") from error


def check_end(tiff: Any, path: str) -> None:
    """Raise StoreError if the list of pages points beyond the end of the file."""
    at = tiff.pages.next_page_offset
    if not at or at < 0:
        return
    tiff.filehandle.seek(at)
    found = tiff.filehandle.read(tiff.tiff.offsetsize)
    whole = len(found) == tiff.tiff.offsetsize
    if not whole or struct.unpack(tiff.tiff.offsetformat, found)[0] >= tiff.filehandle.size:
        raise StoreError(
            f"{path} is cut off after page {len(tiff.pages) - 1}: more pages should follow. Copy it again."
        )


def _check_extent(page: Any, size: int) -> None:
    """Raise StoreError for a page with pixels beyond the end of its file, or strips that were never written."""
    where = f"Page {page.index} of {page.parent.filehandle.path}"
    fragments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if any(offset + count > size for offset, count in fragments):
        raise StoreError(f"{where} lies partly beyond the end of the file: it is cut off. Copy it again.")
    # Tiles without bytes are how sparse pyramids are stored; a strip without bytes was never written.
    if not page.keyframe.is_tiled and any(not count for _, count in fragments):
        raise StoreError(f"{where} has pixels that were never written. Save the file again.")


def leading_shape(series: Any) -> tuple[int, ...] | None:
    """Shape of a series over its pages; None where pages are not its last axes."""
    inner = tuple(series.keyframe.shape)
    shape = tuple(series.shape)
    return shape[: len(shape) - len(inner)] if shape[len(shape) - len(inner) :] == inner else None


def _read_page(pages: tuple[Page | None, ...], leading: tuple[int, ...], index: Index) -> NDArray[Any]:
    places = [place for place in index[: len(leading)] if isinstance(place, int)]
    page = pages[int(np.ravel_multi_index(places, leading)) if leading else 0]
    if page is None:
        raise StoreError(f"Plane {places} of {next(p[0] for p in pages if p)} does not exist.")
    path, offset = page
    with opened(path) as file:
        file.tiff.filehandle.seek(offset)
        found = tifffile.TiffPage(file.tiff, 0)
        _check_extent(found, file.tiff.filehandle.size)
        return np.asarray(found.asarray()[index[len(leading) :]])


def _read_mapped(path: str, offset: int, shape: tuple[int, ...], dtype: str, index: Index) -> NDArray[Any]:
    """Read from uncompressed pixels that lie in one fragment."""
    try:
        return np.array(np.memmap(path, dtype, "r", offset, shape)[index])
    except (OSError, ValueError) as error:
        raise StoreError(f"Cannot read {path}: {error}. Check that the file is whole.") from error


def _read_whole(path: str, headers: bool, number: int, index: Index) -> NDArray[Any]:
    with opened(path, headers=headers) as file:
        return np.asarray(file.tiff.series[number].asarray()[index])


def pages_of(series: Any) -> tuple[Page | None, ...]:
    """Pages of a series in the order of its planes; None for missing ones."""
    return tuple(None if page is None else (page.parent.filehandle.path, page.offset) for page in series.pages)


def reader(file: OpenTiff, series: Any, axes: str) -> Reader:
    """Return the cheapest way to read one plane: from the mapped file, page by page, or from the whole series.

    Parameters
    ----------
    file : OpenTiff
        The file.
    series : tifffile.TiffPageSeries
        One of its series.
    axes : str
        Names of the series' axes.

    Raises
    ------
    StoreError
        If pixels are missing.
    """
    shape, leading = tuple(series.shape), leading_shape(series)
    if series.dataoffset is not None and not series.is_multifile:
        end = series.dataoffset + math.prod(shape) * np.dtype(series.dtype).itemsize
        if end > file.tiff.filehandle.size:
            raise StoreError(f"{file.path} is cut off: {end} bytes expected. Copy it again.")
        dtype = np.dtype(series.dtype).newbyteorder(file.tiff.byteorder).str
        return partial(_read_mapped, file.path, series.dataoffset, shape, dtype)
    for page in series.pages:
        if page is not None and page.parent is file.tiff:
            _check_extent(page, file.tiff.filehandle.size)
    if leading is not None and not set("yx") & set(axes[: len(leading)]):
        return partial(_read_page, pages_of(series), leading)
    if None in pages_of(series):
        raise StoreError(f"{file.path} lacks pages, and its axes {axes} do not follow them.")
    return partial(_read_whole, file.path, file.headers, file.tiff.series.index(series))
