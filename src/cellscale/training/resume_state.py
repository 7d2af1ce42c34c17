"""The folder of a training: its resume state, its curve, and the model at the end."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cellscale.errors import DamagedError, ExistsError, InputError, RunError
from cellscale.models.model import DESCRIPTION, restore, tensors
from cellscale.storage.documents import parsed
from cellscale.storage.folder import Folder
from cellscale.training.history import History
from cellscale.training.loop import State

STATE, CLAIM = "state.pt", "training.json"
"""Files of an unfinished training: its state and its claim; they are deleted when the model is complete."""
DAMAGE = (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError)
"""Errors raised for an incomplete training state."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The claim of a training on a folder; the later of two trainings owns the folder."""

    folder: Folder
    owner: str
    """Token of this training."""

    def check(self) -> Mapping[str, Any]:
        """Return the content of the claim; RunError if another training owns the folder now."""
        held = _claim_in(self.folder.read(CLAIM))
        if held.get("owner") != self.owner:
            raise RunError(
                f"Another training has taken over {self.folder.url}, or has ended there. This one stops and leaves "
                "everything as it is."
            )
        return held

    @property
    def open(self) -> bool:
        """Whether the training has not ended: its claim is deleted when its model is complete."""
        return self.folder.exists(CLAIM)

    def keep(self, state: bytes) -> None:
        """Write the state of the training; it replaces an older one."""
        begun = self.check().get("begun")
        self.folder.write(STATE, state)
        if not begun:
            before, after = ({"owner": self.owner, "begun": begun} for begun in (False, True))
            self.folder.update(CLAIM, lambda now: json.dumps(after).encode() if _claim_in(now) == before else None)

    def kept(self) -> Interrupted | None:
        """Read the state written by this training, or by the one that it resumes; None without one."""
        begun = _claim_in(self.folder.read(CLAIM)).get("begun", False)
        content = self.folder.read(STATE) if begun else None
        return None if content is None else unpacked(content, self.folder.url)

    @contextlib.contextmanager
    def given_up_on_error(self) -> Iterator[None]:
        """Withdraw the claim after an error, unless there is a state to continue from."""
        try:
            yield
        except BaseException:
            mine = {"owner": self.owner, "begun": False}
            self.folder.update(CLAIM, lambda now: b"" if now is not None and _claim_in(now) == mine else None)
            raise

    def release(self) -> None:
        """Mark the model as complete; delete the files of the unfinished training."""
        self.folder.delete(CLAIM)
        self.folder.delete(STATE)


def claim(folder: Folder, *, resume: bool, overwrite: bool) -> Claim:
    """Claim a folder for a training, unless it holds data that are to be neither continued nor replaced.

    Nothing is deleted yet: an overwritten unfinished training is replaced by the first state of the new one, a model by
    the new model.

    Raises
    ------
    ExistsError
        If there is a model or an unfinished training.
    """
    made, begun = Claim(folder=folder, owner=uuid.uuid4().hex), folder.exists(STATE)
    model = folder.exists(DESCRIPTION)
    if not overwrite and not resume and (model or begun):
        if begun:
            raise _unfinished(folder)
        raise ExistsError(f"{folder.url} holds a model. Choose another folder, or replace it with --overwrite.")
    if resume and model and not begun and not made.open:
        return made

    def changed(content: bytes | None) -> bytes | None:
        held = _claim_in(content)
        if held.get("owner") == made.owner:
            return None
        if content is not None and not resume and not overwrite:
            raise _unfinished(folder)
        return json.dumps({"owner": made.owner, "begun": resume and held.get("begun", begun)}).encode()

    folder.update(CLAIM, changed)
    return made


def _unfinished(folder: Folder) -> ExistsError:
    return ExistsError(
        f"{folder.url} holds an unfinished training. Continue it with --resume, or start over with --overwrite; if two "
        "run at once, the later one takes over the folder."
    )


def _claim_in(content: bytes | None) -> dict[str, Any]:
    """Content of a claim; nothing for one that is damaged."""
    try:
        found = parsed(content or b"{}", "the claim")
    except DamagedError:
        return {}
    return found if isinstance(found, dict) else {}


def packed(
    description: Mapping[str, Any],
    fitted: Mapping[str, Any],
    state: State,
    networks: Mapping[str, nn.Module],
    history: History,
) -> bytes:
    """Serialise the resume state of a training: its arguments, fitted settings, state, tensors and curve."""
    content = io.BytesIO()
    held = {
        "description": json.dumps(description, sort_keys=True),
        "fitted": json.dumps(fitted),
        "state": vars(state),
        "networks": tensors(networks),
        "history": vars(history),
    }
    torch.save(held, content)
    return content.getvalue()


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """An unfinished training, read back."""

    description: Mapping[str, Any]
    fitted: Mapping[str, Any]
    state: State
    networks: Mapping[str, torch.Tensor]
    history: History

    def continue_with(self, description: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> None:
        """Put the tensors into the networks.

        Raises
        ------
        InputError
            If the training that asks is another one; names what differs.
        """
        asked = json.loads(json.dumps(description))
        changes = changes_between(self.description, asked, {*asked, *self.description})
        if changes:
            raise InputError(f"The unfinished training was another one ({changes}). Start over with --overwrite.")
        restore(networks, self.networks)


def changes_between(then: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> str:
    """Return the settings of a training that differ from the current ones as text; empty if none does."""
    return "; ".join(
        f"{name}: {then.get(name)!r} then, {now.get(name)!r} now"
        for name in sorted(names)
        if then.get(name) != now.get(name)
    )


def unpacked(content: bytes, url: str) -> Interrupted:
    """Read the result of `packed`.

    Raises
    ------
    DamagedError
        If the file in the folder `url` is damaged.
    """
    try:
        held = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        return Interrupted(
            description=json.loads(held["description"]),
            fitted=json.loads(held["fitted"]),
            state=State(**held["state"]),
            networks=held["networks"],
            history=History(**held["history"]),
        )
    except DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise DamagedError(
            f"{url}/{STATE} is damaged: {type(error).__name__}: {reason}. Start over with --overwrite."
        ) from error
