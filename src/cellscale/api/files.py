"""Files and folders of other formats instead of an OME-Zarr image: they are imported first, once.

An image records the files from which it was imported, so that repeating the call continues with it.
"""

from __future__ import annotations

import dataclasses
import logging
import shlex

from cellscale import sources
from cellscale.api.data import import_images
from cellscale.api.request import SegmentationOptions
from cellscale.errors import ExistsError, InputError, SeveralImagesError
from cellscale.ngff.metadata import read_node
from cellscale.ngff.stores import Store
from cellscale.progress import Progress, silent
from cellscale.sources.stored import file_and_key
from cellscale.storage.urls import Location, address, check_apart, url_of

log = logging.getLogger("cellscale")


def _opened(path: str) -> tuple[tuple[sources.Source, ...], sources.Series]:
    """The images of a source, and the value of `series` for them: "all" if they are not one image."""
    try:
        return sources.open_sources(path), None
    except SeveralImagesError as error:
        log.debug("%s", error)
        return sources.open_sources(path, series="all"), "all"


def check_not_source(image: Location, command: str) -> None:
    """Raise InputError, with the commands to give, for a file or folder that has to be imported before a command."""
    path = url_of(image, "image")
    if not sources.is_source(path):
        return
    made, series = file_and_key(path)[0].with_suffix(".zarr"), _opened(path)[1]
    words = ["cellscale", "import", path, str(made), *(["--series", series] if isinstance(series, str) else [])]
    raise InputError(
        f"{path} is not OME-Zarr, and `{command}` reads OME-Zarr alone. Import it by `{shlex.join(words)}`, then "
        f"`cellscale {command} {shlex.quote(str(made))}`. `cellscale segment` imports it by itself."
    )


def several_images_in(path: str) -> bool:
    """Return whether a file or folder of another format holds more than one image."""
    return _opened(path)[1] == "all"


def import_one(
    image: Location, options: SegmentationOptions, *, collection: bool = False, on_progress: Progress = silent
) -> tuple[str, SegmentationOptions]:
    """Import a file or folder of another format into the output of a segmentation, unless it was imported before.

    Parameters
    ----------
    image : str or path
        URL of an OME-Zarr image, which is returned as it is, or a file or folder that `import_images` reads.
    options : SegmentationOptions
        `output` is the image or collection to make.
    collection : bool
        Whether several images may become a collection.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    tuple of str and SegmentationOptions
        URL of the OME-Zarr image or collection, and the options of its segmentation.

    Raises
    ------
    InputError
        If no output is named, or a source holds several images and may not become a collection.
    ExistsError
        If the output exists and was not imported from these files as they are now.
    CellscaleError
        As `import_images` does.
    """
    path = url_of(image, "image")
    if not sources.is_source(path):
        return path, options
    if options.output is None:
        raise InputError(f"{path} is not OME-Zarr. Name the OME-Zarr image to make of it, e.g. --output movie.zarr.")
    check_apart(path, options.output)
    found, series = _opened(path)
    if series == "all" and not collection:
        raise InputError(f"{path} holds {len(found)} images. Use segment_plate, which makes a collection of them.")
    origin = sources.origin_of(found, path, chosen=(series, None, None))
    if _is_new(options, origin, path):
        if series == "all":
            log.info("%s holds %d images; each becomes an image of the collection %s", path, len(found), options.output)
        import_images(
            path,
            options.output,
            series=series,
            origin=origin,
            ome_zarr_version=options.ome_zarr_version or "0.5",
            storage_options=options.storage_options,
            on_progress=on_progress,
        )
    return options.output, dataclasses.replace(options, output=None, ome_zarr_version=None)


def _is_new(options: SegmentationOptions, origin: dict[str, str], path: str) -> bool:
    """Whether there is nothing at the output; ExistsError for something that was not made of these files."""
    store = Store(url=address(options.output or ""), storage_options=dict(options.storage_options or {}))
    node = read_node(store)
    if node is None and not store.occupied():
        return True
    known = node.notes.get("origin") if node else None
    if known == origin:
        log.info("%s was imported from %s before", options.output, path)
        return False
    same = isinstance(known, dict) and known.get("name") == origin["name"]
    what = f"imported from {path}"
    reason = f"{what}, which has changed since then, or in part" if same else f"not {what}"
    raise ExistsError(
        f"{options.output} exists and was {reason}. Choose another output, or segment the existing image by its own "
        "URL."
    )
