"""The seam between scheduling and its decisions: a policy is a pure object and time is an argument.

The scheduler and the simulator call the same object. `now` is seconds on the caller's loop clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Phase = Literal["prefill", "drafting", "ready", "verifying"]


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session as a policy sees it.

    phase: prefill (its cache is being built), drafting (its device has the move), ready (its row may be
    staged), verifying (staged, no verdict yet). `since` is when that phase began; `drafted` the tokens in
    hand when ready. can_draft: a live device that has caught up. `joined` orders sessions by arrival.
    """

    session: str
    joined: int
    phase: Phase
    since: float
    length: int
    remaining: int  # tokens it may still emit
    drafted: int
    can_draft: bool
    device: str
    alpha: float  # estimate
    draft_s_per_token: float  # estimate, of its device
    link_s: float  # estimate, verdict to device and draft back


@dataclass(frozen=True, slots=True)
class VerifierView:
    """A verifier as a policy sees it: staged batches without a verdict yet, and the rows in them."""

    name: str
    in_flight: int
    rows_in_flight: int
    expected_free: float


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to stage now (one batch, in this order), or none and when to ask again (None: at the next event)."""

    rows: tuple[str, ...] = ()
    wait_until: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a planner decided: batches in cycle order and each session's draft length. Planning proper refines this."""

    batches: tuple[tuple[str, ...], ...]
    lengths: dict[str, int]


class Policy(Protocol):
    """Who is verified next, and how far each session drafts."""

    name: str

    def plan(self, cohort: Sequence[SessionView], profile: Any) -> Plan | None:
        """May be slow; runs beside serving. None: this policy decides everything as it goes."""
        ...

    def select(
        self, cohort: Sequence[SessionView], verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The next batch for this verifier, from its whole cohort. Only `ready` sessions may be selected."""
        ...

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """Tokens the session's device drafts next; 0 = none. Only asked when it can draft."""
        ...
