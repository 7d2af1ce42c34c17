"""Origin of an imported image: the files it was read from, by which a later command recognizes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cellscale.sources.frames import Source
from cellscale.sources.stored import file_and_key


def origin_of(images: Sequence[Source], path: str, *, chosen: Sequence[Any]) -> dict[str, str]:
    """Describe the files from which images were read, without the folders of this machine.

    Files are compared by name, size and time of change: reading all pixels again would take as long as the import.

    Parameters
    ----------
    images : sequence of Source
        The images, as they were opened.
    path : str
        Path that was opened.
    chosen : sequence
        Options that chose a part of the pixels, or gave them another meaning.

    Returns
    -------
    dict of str to str
        `name` of the file or folder, and the SHA-256 `digest` of its files and of `chosen`.
    """
    files = {file_and_key(name)[0] for image in images for name in image.files}
    known = [(file.name, file.stat()) for file in sorted(files) if file.exists()]
    found = [(name, status.st_size, status.st_mtime_ns) for name, status in known]
    place, key = file_and_key(path)
    text = json.dumps([found, key, list(chosen)])
    return {"name": place.resolve().name, "digest": hashlib.sha256(text.encode()).hexdigest()}
