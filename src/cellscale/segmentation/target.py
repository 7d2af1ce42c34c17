"""Target of a run, and checks of existing data there: a layer, an unfinished run, or this run after its end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from cellscale.errors import DamagedError, ExistsError, InputError
from cellscale.ngff.label_list import names_of
from cellscale.ngff.labels import LabelLayer, check_free, check_target, list_labels, open_labels, place_of
from cellscale.ngff.metadata import read_node
from cellscale.segmentation.ownership import CHANGED, attempts_in, stored_plan
from cellscale.segmentation.plan import Planned, differences
from cellscale.storage.folder import Folder
from cellscale.storage.together import together


@dataclass(frozen=True, kw_only=True)
class Target:
    """Place of the labels."""

    store: str
    """URL of the image that gets the layer, or of another store."""
    name: str
    output: str | None = None
    """The other store, or None: the image's own."""
    version: str | None = None
    """NGFF version of another store; None: the image's."""
    overwrite: bool = False
    allow_failed_tiles: bool = False
    """Publish a layer although work items failed; they are background, and named in its metadata and report."""
    report: Folder | None = None
    """Additional place of the report; the only one if nothing is published."""

    @property
    def layer(self) -> str:
        """URL of the layer."""
        return f"{self.store.rstrip('/')}/labels/{self.name}"


def _earlier(run: Planned, target: Target) -> dict[str, Any] | None:
    """The plan of an unfinished run that this one resumes, or None.

    Raises
    ------
    InputError
        If the unfinished run has other settings, or makes placeholders unasked, and `overwrite` is not set.
        Also if another build of cellscale has begun it whose records this one does not understand.
    DamagedError
        If its plan is damaged, and `overwrite` is not set.
    """
    try:
        old = stored_plan(run.scratch)
    except (DamagedError, InputError):
        if not target.overwrite:
            raise
        return None
    if old is None:
        return None
    fits = old["digest"] == run.digest
    if fits and (target.allow_failed_tiles or not old["allow_failed_tiles"]):
        # An image that has changed will not come back for most users: then `overwrite` means another attempt.
        again = target.overwrite and run.scratch.child(old["attempt"]).exists(CHANGED)
        return None if again else old
    if target.overwrite:
        return None
    if fits:
        raise InputError(
            f"{run.scratch.url} holds an unfinished run of layer {target.name!r} in which tiles may fail. "
            "Finish it with --allow-failed-tiles, or use --overwrite to drop it."
        )
    changed = "; ".join(differences(old["description"], run.description))
    raise InputError(
        f"{run.scratch.url} holds an unfinished run of layer {target.name!r} with other settings: {changed}. "
        "Repeat its command to finish it, or use --overwrite to drop it."
    )


def _published(run: Planned, target: Target) -> LabelLayer | None:
    """The listed layer of the target's name, or None."""
    options = run.image.storage_options
    if target.output is None:
        listed: Collection[str] = names_of(read_node(run.image.store.child("labels"), run.image.version))
    else:
        listed = list_labels(target.store, storage_options=options)
    if target.name not in listed:
        return None
    return open_labels(target.store, target.name, storage_options=options)


class EarlierData(NamedTuple):
    """Earlier data at a target."""

    attempt: str | None
    """The attempt that is resumed; None: a new one begins."""
    published: LabelLayer | None
    """Its layer, if only cleaning up is left to do."""
    attempts: list[str]
    """Folders of all attempts."""


def found_at(run: Planned, target: Target) -> EarlierData:
    """Look for earlier data at a target; requests that do not depend on one another are made at once.

    Raises
    ------
    ExistsError
        If a layer of the name is listed that is not this attempt's, and `overwrite` is not set.
    """
    check_target(run.image, target.name, output=target.output, version=target.version)
    place = partial(place_of, run.image, target.name, output=target.output, version=target.version)
    looks: list[Callable[[], Any]] = [partial(look, run, target) for look in (_earlier, _published)]
    looks += [partial(attempts_in, run.scratch), *([] if target.overwrite else [place])]
    old, published, attempts, *there = together(looks)
    attempt = old["attempt"] if old else None
    if published is None:
        for one in there:
            check_free(one, attempt)
        return EarlierData(attempt, None, attempts)
    finished = old is not None and published.attempt == attempt
    if finished and not target.overwrite:
        return EarlierData(attempt, published, attempts)
    if not target.overwrite:
        raise ExistsError(
            f"{target.store} already has a label layer {target.name!r}. Choose another --layer, or use --overwrite."
        )
    return EarlierData(None if finished else attempt, None, attempts)
