"""The interface of a policy: a pure object that decides for the scheduler. Time is an argument.

The scheduler and the simulator call the same object. `now` is in seconds on the caller's loop clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.planning.problem import Server
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to stage now as one batch, in this order; without rows: when to ask again.

    lane: the lane that the batch belongs to. alone: no prefill chunks are added. wait_until: the latest time to ask
    again (None: at the next event).
    """

    rows: tuple[str, ...] = ()
    lane: int = 0
    alone: bool = False
    wait_until: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan for serving, and the performance it predicts.

    batches: sessions of each batch or lane, in cycle order. lengths: draft length of each session. min_ready: members
    of each lane that must be ready before it closes. max_rows: rows of a pass at most. cycle_ms: mean time from one
    verification of a session to its next. tokens_per_s: of all sessions together. busy: the verifier's share of the
    time. probes: draft lengths for sessions at k = 0 while little is known of their α. newcomer_length: draft length
    of a session that joined after the plan.
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
        """The draft length of a session."""
        return self.lengths.get(session, self.newcomer_length)


def median_length(lengths: Sequence[int]) -> int:
    """The upper median of some lengths. There must be at least one."""
    return sorted(lengths)[len(lengths) // 2]


class Policy(Protocol):
    """Decides who is verified next and how far each session drafts.

    name: as in the registry. k: the fixed draft length; 0 if the policy never drafts or follows a plan. lanes: batches
    in the cycle until there is a plan; 1 for policies without a cycle. plans: whether `plan` may be called. trees:
    whether sessions of a verifier with stages to fill may be kept there, and go on with draft trees.
    """

    name: str
    k: int
    lanes: int
    plans: bool
    trees: bool

    def plan(
        self, sessions: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """Make a plan for these sessions, or return None.

        May be slow: it runs in a thread beside serving. max_rows: of a batch. last: the plan in force.
        """
        ...

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The next batch for this verifier, chosen from all of its sessions.

        Only `ready` sessions may be selected, and `prefill` sessions by a policy that sets `alone`. Otherwise the
        scheduler adds prefill chunks by itself. It asks again after each batch, until nothing is selected or enough
        batches are staged.
        """
        ...

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """Tokens that the session's device drafts next; 0 = none. Called only for sessions that can draft."""
        ...
