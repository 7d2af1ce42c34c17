"""Ownership of a run: one driver at a time, and a separate folder for each attempt.

`.cellscale-NAME/plan.json` names the owner, the attempt and the plan; `.cellscale-NAME/ATTEMPT/` holds the attempt's
records and scratch objects. A driver takes over a run by writing the plan. Drivers with the same plan share an attempt,
since they write the same data. Any other plan gets another attempt, so that late tasks of an overtaken driver write to
a folder that nobody reads. Each process checks the plan before it writes a record, at most every few seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import reprlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellscale.errors import CellscaleError, ChangedError, DamagedError, InputError, OvertakenError
from cellscale.segmentation.plan import Planned
from cellscale.storage.folder import Folder
from cellscale.storage.recent import Recent
from cellscale.storage.together import both

PLAN = "plan.json"
CHANGED = "changed.json"
"""In an attempt's folder: what has changed in the run's input since its first read."""
RECORD_FORMAT = 3
"""Format of plans, records and scratch objects: counted up with each change after which a build cannot go on with the
run of an earlier one."""
_ATTEMPT = re.compile(r"[0-9a-f]{16}-[0-9a-f]{12}")
_ENTRIES = {"token": str, "attempt": str, "digest": str, "description": dict, "allow_failed_tiles": bool}
CHECK_PERIOD_S = 5.0
"""Least time between two checks of the plan by one process, s."""
RECENT_BYTES = 2**25
"""Most bytes of its own records and scratch objects that a process keeps: what it needs of them is not read back."""


class Throttle:
    """When something was done last in this process; in a copy in another process it has not been done."""

    def __init__(self) -> None:
        """Begin with something that is due."""
        self._last = -math.inf

    def __reduce__(self) -> tuple[type[Throttle], tuple[()]]:
        return Throttle, ()

    def due(self, period_s: float) -> bool:
        """Whether it was not done within a period; it counts as done then."""
        now = time.monotonic()
        due = now - self._last >= period_s
        self._last = now if due else self._last
        return due


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """A driver's claim on a run."""

    home: Folder
    """`.cellscale-NAME`."""
    attempt: str
    """Name of the attempt's folder."""
    token: str
    """Token of the driver."""
    dropped: tuple[str, ...] = ()
    """Attempts that this one has replaced."""
    throttle: Throttle = field(default_factory=Throttle, repr=False, compare=False)
    """Time of the last check by `check_if_due`."""
    recent: Recent = field(default_factory=lambda: Recent(RECENT_BYTES), repr=False, compare=False)
    """Files that this process has written into the attempt's folder."""

    @property
    def scratch(self) -> Folder:
        """The attempt's folder."""
        return dataclasses.replace(self.home.child(self.attempt), recent=self.recent)

    def check(self) -> None:
        """Raise OvertakenError if another driver has taken over: the later one continues, and cleans up at its end."""
        error = self.overtaken()
        if error is not None:
            raise error

    def check_if_due(self) -> None:
        """Check, unless this process has done so within the last seconds.

        Correctness does not depend on it: an overtaken driver writes the same objects as the owner, or writes into a
        folder that nobody reads.
        """
        if self.throttle.due(CHECK_PERIOD_S):
            self.check()

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise OvertakenError instead of an error that occurs while another driver owns the run; note a ChangedError.

        The other driver may have deleted objects that this one needs.
        """
        try:
            yield
        except OvertakenError:
            raise
        except CellscaleError as error:
            overtaken = self.overtaken()
            if overtaken is not None:
                raise overtaken from error
            if isinstance(error, ChangedError):
                # For most users the input will not be again as it was: with `--overwrite` the next command starts anew.
                self.scratch.write_json(CHANGED, str(error))
            raise

    def overtaken(self) -> OvertakenError | None:
        """The error of a driver that was overtaken; None for one that still owns the run."""
        found = self.home.read_json(PLAN)
        if isinstance(found, dict) and found.get("token") == self.token:
            return None
        if found is None:
            return OvertakenError(
                f"Another driver has taken over the run in {self.home.url} and finished it, or the folder was deleted: "
                f"its {PLAN} is gone. This one stops."
            )
        same = isinstance(found, dict) and found.get("attempt") == self.attempt
        labels = (
            "its labels are the same" if same else "it is another run of this layer, with the same or other settings"
        )
        return OvertakenError(
            f"Another driver has taken over the run in {self.home.url}, and continues it; {labels}. This one stops "
            "and leaves everything as it is."
        )

    def owns(self) -> bool:
        """Whether the plan still names this driver."""
        found = self.home.read_json(PLAN)
        return isinstance(found, dict) and found.get("token") == self.token

    def finish(self) -> None:
        """Delete the run's folder, its plan last, so that a driver that dies meanwhile is known to have finished.

        Nothing is deleted if another driver has taken over.
        """
        owns, remove = both(self.owns, self.scratch.removal)
        if not owns:
            return
        remove()
        if self.owns():
            self.home.tidy()
            self.home.delete(PLAN)
            self.home.remove_empty()

    def leave(self) -> bool:
        """Delete the data of an overtaken driver, unless the owner uses them; return whether they were deleted."""
        found = self.home.read_json(PLAN)
        if isinstance(found, dict) and found.get("attempt") == self.attempt:
            return False
        self.scratch.remove()
        self.home.remove_empty()
        return True


def attempts_in(home: Folder) -> list[str]:
    """Folders of attempts; nothing else in the run's folder is ever deleted."""
    return sorted(name for name in home.names() if _ATTEMPT.fullmatch(name))


def stored_plan(home: Folder) -> dict[str, Any] | None:
    """The plan of the run in a folder, or None where there is none.

    Raises
    ------
    DamagedError
        If it is damaged.
    InputError
        If a build of cellscale has written it whose records this one does not understand.
    """
    try:
        found = home.read_json(PLAN)
    except DamagedError as error:
        raise DamagedError(f"{error} Or start over with --overwrite.") from error
    if found is None:
        return None
    _check_format(found, home)
    if not isinstance(found, dict) or any(not isinstance(found.get(name), kind) for name, kind in _ENTRIES.items()):
        raise DamagedError(f"{home.url}/{PLAN} is damaged: it is not a plan. Start over with --overwrite.")
    if not _ATTEMPT.fullmatch(found["attempt"]):
        raise DamagedError(f"{home.url}/{PLAN} is damaged: {found['attempt']!r} is not an attempt's name.")
    return found


def _check_format(plan: Any, home: Folder) -> None:
    """Raise InputError for a plan whose records have another format."""
    known = plan.get("record_format") if isinstance(plan, dict) else None
    if not isinstance(plan, dict) or not isinstance(plan.get("digest"), str) or known == RECORD_FORMAT:
        return
    raise InputError(
        f"{home.url} holds an unfinished run of another build of cellscale, with records of format "
        f"{reprlib.repr(known)}; expected {RECORD_FORMAT}. Finish it with that build, or start over with --overwrite."
    )


def take_ownership(
    run: Planned, *, allow_failed_tiles: bool, attempt: str | None, attempts: Sequence[str]
) -> Ownership:
    """Become the run's owner.

    Parameters
    ----------
    run : Planned
        Its scratch is `.cellscale-NAME`.
    allow_failed_tiles : bool
        Whether records may be placeholders.
    attempt : str or None
        The attempt to resume; None starts a new one and deletes earlier ones.
    attempts : sequence of str
        Folders of the attempts there, listed before: what a driver writes that takes over after this one is never among
        them.
    """
    home, resumed = run.scratch, attempt is not None
    owner = Ownership(
        home=home, attempt=attempt or f"{run.digest[:16]}-{uuid.uuid4().hex[:12]}", token=uuid.uuid4().hex
    )
    plan = {"digest": run.digest, "description": run.description, "allow_failed_tiles": allow_failed_tiles}
    plan["record_format"] = RECORD_FORMAT
    before = () if resumed else tuple(attempts)
    home.write_json(PLAN, {**plan, "token": owner.token, "attempt": owner.attempt})
    # Taking over counts as the first check.
    owner.throttle.due(0.0)
    for other in before:
        home.child(other).remove()
    return dataclasses.replace(owner, dropped=before)
