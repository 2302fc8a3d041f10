"""Draft lengths token by token, for given batches: fast, and good where a plan is nearly optimal.

All changes by one token are scored exactly and at once: of one user, of one user and the opposite of another, of a
batch, and of all users. The best change is made, until none improves the plan.
"""

from functools import lru_cache

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan

MAX_STEPS = 30
MIN_GAIN = 1e-12  # of a step, relative


def adjust_lengths(arrays: ProblemArrays, plan: ScoredPlan) -> ScoredPlan:
    """A plan with the same batches that is at least as good."""
    batches = Batches.of(arrays, plan.split.batches)
    min_draft, max_draft = arrays.bounds.min_draft, arrays.bounds.max_draft
    changes = _changes(len(arrays), tuple(batches.starts.tolist()))
    lengths, score = np.array(plan.split.lengths)[batches.members], plan.score
    for _ in range(MAX_STEPS):
        tried = np.clip(lengths + changes, min_draft, max_draft)
        scores = _scores(arrays, batches, tried)
        best = int(scores.argmax())
        if scores[best] <= score + MIN_GAIN * abs(score):
            break
        lengths, score = tried[best], float(scores[best])
    of_users = np.empty(len(arrays), dtype=np.int64)
    of_users[batches.members] = lengths
    return ScoredPlan.of(arrays, Split(plan.split.batches, tuple(of_users.tolist())))


@lru_cache(maxsize=64)
def _changes(users: int, starts: tuple[int, ...]) -> Ints:
    """Changes of all lengths [changes, members], members in the order of the batches."""
    one = np.eye(users, dtype=np.int64)
    batch = np.add.reduceat(one, starts, axis=0)
    more = np.concatenate([one, batch, np.ones((1, users), dtype=np.int64)])
    pairs = (one[:, None] - one).reshape(-1, users)
    twos = (batch[:, None] - batch).reshape(-1, users)
    return np.unique(np.concatenate([more, -more, pairs, twos]), axis=0)


def _scores(arrays: ProblemArrays, batches: Batches, lengths: Ints) -> Floats:
    """The scores of plans with these lengths [X, members]."""
    members, starts = batches.members, batches.starts
    level = (
        np.add.reduceat(lengths * batches.count, starts, axis=1)
        if arrays.packed
        else np.maximum.reduceat(lengths, starts, axis=1)
    )
    verify = np.asarray(
        arrays.server.verify_ms(batches.users, level, level, batches.prefix, batches.prefixes)
    )
    loops = lengths * arrays.draft_ms[members] + arrays.comm_ms[members] + verify[:, batches.owner]
    value = (arrays.value[members, lengths] * batches.count).sum(axis=1)
    return arrays.scores(value, verify.sum(axis=1), loops.max(axis=1))
