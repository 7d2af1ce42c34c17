"""The folder of a training: the state of an unfinished one, its curve, and the model at the end."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cellscale.errors import DamagedError, ExistsError, InputError
from cellscale.models.model import DESCRIPTION, restore, tensors
from cellscale.storage.folder import Folder
from cellscale.training.history import History
from cellscale.training.loop import State

STATE = "state.pt"
"""File of an unfinished training; it goes when the model is there."""
DAMAGE = (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError)
"""What torch and we raise at a state that is not whole."""


def claim(folder: Folder, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds something which nobody asked to continue or replace.

    Raises
    ------
    ExistsError
        Where a model or an unfinished training is.
    """
    if overwrite:
        folder.delete(DESCRIPTION)
        folder.delete(STATE)
    elif folder.exists(DESCRIPTION) and not resume:
        raise ExistsError(f"{folder.url} holds a model. Choose another folder, or replace it with --overwrite.")
    elif folder.exists(STATE) and not resume:
        raise ExistsError(
            f"{folder.url} holds an unfinished training. Continue it with --resume, or start anew with --overwrite."
        )
    folder.write("claim", b"")
    folder.delete("claim")


def packed(
    description: Mapping[str, Any],
    fitted: Mapping[str, Any],
    state: State,
    networks: Mapping[str, nn.Module],
    history: History,
) -> bytes:
    """All that an interrupted training needs: what it was asked for, fitted settings, state, tensors and curve."""
    content = io.BytesIO()
    held = {
        "description": json.dumps(description, sort_keys=True),
        "fitted": json.dumps(fitted),
        "state": vars(state),
        "networks": tensors(networks),
        "history": {"every": history.every, "rows": history.rows, "pending": history.pending},
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
            raise InputError(f"The unfinished training was another one ({changes}). Start anew with --overwrite.")
        restore(networks, self.networks)


def changes_between(then: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> str:
    """Say which of these settings of a training differ from what is asked for now; nothing if none does."""
    return "; ".join(
        f"{name}: {then.get(name)!r} then, {now.get(name)!r} now"
        for name in sorted(names)
        if then.get(name) != now.get(name)
    )


def unpacked(content: bytes, url: str) -> Interrupted:
    """Read what `packed` wrote.

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
            f"{url}/{STATE} is damaged: {type(error).__name__}: {reason}. Start anew with --overwrite."
        ) from error
