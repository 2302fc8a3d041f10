"""`dip-sd`: the paper's policy. Batches and lengths are planned jointly and served in a fixed cycle.

A batch is verified when it is its turn and all its members are ready. Solver `auto` plans: exactly for few users, and
with our solver for more. Our plans are never worse than those of the paper's solver and take milliseconds, not minutes.
"""

from collections.abc import Sequence
from typing import Final

from shared.planning.objective import Objective
from shared.planning.policies.closing import close_in_turn
from shared.planning.policy import Plan, Selection, median_length
from shared.planning.problem import LengthBounds, Problem, Server, expected_tokens
from shared.planning.session_index import SessionIndex
from shared.planning.solvers.solve import Infeasible, solve
from shared.planning.strategies.user_arrays import users_of
from shared.planning.views import SessionView, VerifierView

MAX_DRAFT: Final = 20  # L_max of the paper
UNPLANNED_K: Final = 2  # while there is no plan


class DipSd:
    """Every session that can draft does, with its planned length. The others are in every batch."""

    name = "dip-sd"
    k = 0
    lanes = 1
    plans = True
    trees = False

    def plan(
        self, sessions: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """Batches and lengths of solver `auto` for the sessions that can draft; None without any."""
        able = [view for view in sessions if view.can_draft]
        if not able:
            return None
        problem = Problem(tuple(users_of(able)), server, LengthBounds(MAX_DRAFT, min_draft=1))
        try:
            cycle_plan, _ = solve(problem, Objective())
        except Infeasible:
            return None
        ids = [view.session for view in able]
        batches = tuple(tuple(ids[m] for m in batch) for batch in cycle_plan.split.batches)
        cycle_ms = cycle_plan.cycle_ms / (1 - server.prompts.share)  # everything waits while a prompt is read
        return Plan(
            batches=batches,
            lengths=dict(zip(ids, cycle_plan.split.lengths, strict=True)),
            newcomer_length=median_length(cycle_plan.split.lengths),
            min_ready=tuple(len(batch) for batch in batches),
            max_rows=max_rows,
            cycle_ms=cycle_ms,
            tokens_per_s=1e3 * expected_tokens(problem, cycle_plan.split) / cycle_ms,
            busy=cycle_plan.busy_ms / cycle_ms + server.prompts.share,
        )

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The batch whose turn it is, once all its members are ready."""
        return close_in_turn(sessions, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """The planned draft length; UNPLANNED_K without a plan."""
        return plan.length(session.session) if plan else UNPLANNED_K


def make(k: int, batches: int) -> DipSd:
    """Make the policy, for the registry."""
    return DipSd()
