"""The seam between scheduling and its decisions: a policy is a pure object and time is an argument.

The scheduler and the simulator call the same object. `now` is seconds on the caller's loop clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.planning.cohort import Cohort
from shared.planning.views import SessionView, VerifierView


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to stage now (one batch, in this order), or nothing and when to ask again.

    `lane`: whose batch it is. `alone`: no prefill chunks ride along. wait_until: ask again then at the latest
    (None: at the next event).
    """

    rows: tuple[str, ...] = ()
    lane: int = 0
    alone: bool = False
    wait_until: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a planner decided: batches in cycle order and each session's draft length."""

    batches: tuple[tuple[str, ...], ...]
    lengths: dict[str, int]


class Policy(Protocol):
    """Who is verified next, and how far each session drafts.

    name: as in the registry. k: the draft length it was made with, 0 when it never drafts. lanes: batches in
    its cycle, 1 for policies without one.
    """

    name: str
    k: int
    lanes: int

    def plan(self, cohort: Sequence[SessionView], profile: Any) -> Plan | None:
        """May be slow; runs beside serving. None: this policy decides everything as it goes."""
        ...

    def select(self, cohort: Cohort, verifier: VerifierView, plan: Plan | None, now: float) -> Selection:
        """The next batch for this verifier, from its whole cohort.

        Only `ready` sessions may be selected, and `prefill` ones by a policy that wants their chunks alone;
        otherwise the scheduler lets chunks ride along by itself. Asked again at once after each batch, until
        it selects nothing or enough batches are staged ahead.
        """
        ...

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """Tokens the session's device drafts next; 0 = none. Only asked when it can draft."""
        ...
