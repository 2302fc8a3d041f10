"""`outrider-latency`: the least time to the last answer of the present sessions, with shares of radio cells to match.

Two strategies are compared by the end that they predict. In turns: batches and the one draft length of objective
`latency` (shared/planning/latency), each batch complete before it is verified. Or each session as soon as its draft is
there, with the length that ends it soonest, which is better where links or devices and not the verifier decide.
Batches close as those of `outrider` do.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from shared.planning.latency.cohort import Cohort
from shared.planning.latency.latency_solver import solve
from shared.planning.policies.outrider import Outrider
from shared.planning.policy import Plan, median_length
from shared.planning.problem import PackedServer, PaddedServer, Server, User, verify_ms
from shared.planning.solvers.solve import Infeasible
from shared.planning.strategies.user_arrays import users_of
from shared.planning.views import SessionView

MAX_DRAFT: Final = 10  # l of the hetero-edge paper
STEPS: Final = 6  # of lengths and passes in turn


class _Serving(NamedTuple):
    """A strategy: batches of user indices, a length for each user, members to wait for, its end."""

    batches: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    min_ready: tuple[int, ...]
    latency_ms: float
    round_ms: float


class OutriderLatency(Outrider):
    """Serves a cohort so that its last answer comes as early as possible."""

    trees = False

    def __init__(self) -> None:
        super().__init__()
        self.name = "outrider-latency"

    def plan(
        self, sessions: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """The strategy with the earlier predicted end, for the sessions that can draft; None without any."""
        able = [view for view in sessions if view.can_draft and view.remaining > 0]
        if not able:
            return None
        users, outputs = users_of(able), tuple(view.remaining for view in able)
        candidates = [each_alone(users, outputs, server), *in_turns(users, outputs, server, max_rows)]
        best = min(candidates, key=lambda each: each.latency_ms)
        ids = [view.session for view in able]
        emitted = sum(user.emitted(length) for user, length in zip(users, best.lengths, strict=True))
        busy_ms = sum(verify_ms(server, *_of(batch, users, best.lengths)) for batch in best.batches)
        return Plan(
            batches=tuple(tuple(ids[m] for m in batch) for batch in best.batches),
            lengths=dict(zip(ids, best.lengths, strict=True)),
            newcomer_length=median_length(best.lengths),
            min_ready=best.min_ready,
            max_rows=max_rows,
            cycle_ms=best.round_ms,
            tokens_per_s=1e3 * emitted / best.round_ms,
            busy=min(1.0, busy_ms / best.round_ms),
        )


def each_alone(users: Sequence[User], outputs: Sequence[int], server: Server) -> _Serving:
    """Every session as soon as it can be verified, in passes with those who are there as well.

    Of its round a user spends the share of a pass in passes, so that n, the sum of these shares, is a pass's rows; a
    draft finds a pass under way, of which half is left on average, as often as the verifier is busy.
    """
    everybody, lengths = np.arange(len(users)), np.arange(1, MAX_DRAFT + 1)
    alpha = np.array([user.alpha for user in users])[:, None]
    rounds = np.ceil(np.array(outputs)[:, None] * (1 - alpha) / (1 - alpha ** (lengths + 1)))  # [M, lengths]
    away_ms = np.array([[user.ready_ms(int(length)) for length in lengths] for user in users])
    prefix = np.array([user.prefix for user in users])
    best, rows, wait_ms = np.full(len(users), MAX_DRAFT // 2), float(len(users)), 0.0
    for _ in range(STEPS):
        drafted = rows * float(np.mean(best))
        pass_ms = float(
            server.verify_ms(rows, int(best.max()), drafted, int(prefix.max()), rows * float(prefix.mean()))
        )
        round_ms = away_ms[everybody, best - 1] + pass_ms
        rows = max(1.0, float(np.minimum(1.0, pass_ms / round_ms).sum()))
        wait_ms = pass_ms * (1 + min(1.0, float((pass_ms / round_ms).sum())) / 2)
        best = np.argmin(rounds * (away_ms + wait_ms), axis=1) + 1
    round_ms = away_ms[everybody, best - 1] + wait_ms
    ends_ms = rounds[everybody, best - 1] * round_ms
    one = (tuple(range(len(users))),)
    return _Serving(one, tuple(best.tolist()), (1,), float(ends_ms.max()), float(round_ms.mean()))


def in_turns(
    users: Sequence[User], outputs: tuple[int, ...], server: Server, max_rows: int
) -> list[_Serving]:
    """The plan of objective `latency`, if there is one of batches that may be staged."""
    if not isinstance(server, PaddedServer | PackedServer):
        return []
    try:
        found = solve(Cohort(tuple(users), outputs, server, None, max_draft=MAX_DRAFT))
    except Infeasible:
        return []
    sizes = tuple(len(batch) for batch in found.batches)
    if max(sizes) > max_rows:
        return []
    lengths = (found.draft_length,) * len(users)
    return [_Serving(found.batches, lengths, sizes, found.latency_ms, found.period_ms)]


def _of(batch: Sequence[int], users: Sequence[User], lengths: Sequence[int]) -> tuple[list[User], list[int]]:
    return [users[m] for m in batch], [lengths[m] for m in batch]


def make(k: int, batches: int) -> OutriderLatency:
    """Make the policy, for the registry."""
    return OutriderLatency()
