"""The seam between scheduling and its decisions: a policy is a pure object and time is an argument.

The scheduler and the simulator call the same object. `now` is seconds on the caller's loop clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.planning.problem import Server
from shared.planning.session_index import SessionIndex
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
    """What a planner decided, and what it expects of it.

    batches: sessions in cycle order. lengths: of each one's draft. least: how many of a batch have to be ready before
    it closes, where it need not wait for all; most: rows of a pass at most. cycle_ms: from one verification of a
    session to its next, on average; tokens_per_s: of all sessions together; busy: the verifier's share of the time.
    probes: lengths at which sessions at k = 0 are to be tried while little is known of them. newcomer: length of a
    session that came after the plan.
    """

    batches: tuple[tuple[str, ...], ...]
    lengths: Mapping[str, int]
    min_ready: tuple[int, ...]
    max_rows: int
    cycle_ms: float
    tokens_per_s: float
    busy: float
    probes: Mapping[str, int] = field(default_factory=dict)
    newcomer_length: int = 0

    def length(self, session: str) -> int:
        """Of its draft."""
        return self.lengths.get(session, self.newcomer_length)


def median_length(lengths: Sequence[int]) -> int:
    """The median of at least one length, one of them."""
    return sorted(lengths)[len(lengths) // 2]


class Policy(Protocol):
    """Who is verified next, and how far each session drafts.

    name: as in the registry. k: the draft length it was made with, 0 when it never drafts or a plan says. lanes:
    batches in its cycle until a plan says, 1 for policies without one. plans: whether `plan` is to be asked at all.
    """

    name: str
    k: int
    lanes: int
    plans: bool

    def plan(
        self, sessions: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """May be slow; runs beside serving. last: the plan in force, of much the same sessions. None: no plan."""
        ...

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The next batch for this verifier, from its whole cohort.

        Only `ready` sessions may be selected, and `prefill` ones by a policy that wants their chunks alone;
        otherwise the scheduler lets chunks ride along by itself. Asked again at once after each batch, until
        it selects nothing or enough batches are staged ahead.
        """
        ...

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """Tokens the session's device drafts next; 0 = none. Only asked when it can draft."""
        ...
