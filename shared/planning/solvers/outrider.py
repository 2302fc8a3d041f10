"""Our solver: the joint dynamic programme, then local search, then exact lengths.

From N = 1 on, with l = 0 where it may be. Warm, it starts from the batches in force and moves changed users only.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays import Arrays
from shared.planning.solvers.caps import cap_range
from shared.planning.solvers.joint import Partition, partitions, promising_caps
from shared.planning.solvers.lengths import best_lengths
from shared.planning.solvers.neighbours import SHORTER, improve, relength
from shared.planning.solvers.nudge import nudge
from shared.planning.solvers.plan import Plan
from shared.planning.solvers.portion import Portion
from shared.planning.solvers.scan import scan
from shared.planning.solvers.types import Members

CAPS = range(8, 25)  # looked at first, over all that are promising; fewer for many users
CAP_USERS = 160  # of them all
NEARBY = np.array([0.96, 1.0])
NEARER = 4  # plans that are then asked for with shorter loops
TRULY = 10
LOOKS = 3
SCANNED = range(2, 11)  # partitions of a look whose lengths are scanned; fewer for many users
SCANNED_USERS = 20_000  # of them all
FEW = 8  # users: plans so small cost little to search longer
IMPROVED = 1, 4  # plans that are searched around: with more users, with few
ROUNDS = 8  # of local search
WARM_ROUNDS = 2
WIDE = np.array([0.7, 0.8, 0.88, 0.94, 1.0, 1.06, 1.14, 1.25, 1.4])  # caps of a scan, of a cap
PLAIN_CAPS = 16
ALONE = 64  # more users are not all tried alone
NUDGED_USERS = 32  # up to whom lengths are looked at token by token at the end


def solve(arrays: Arrays) -> Plan | None:
    """A plan from nothing; None where nothing that was found fits into memory and bounds."""
    portion = Portion.of(arrays)
    plan = _solve(portion.arrays) if portion else None
    if portion is None or plan is None:
        return _solve(arrays)
    whole = Plan.of(arrays, portion.everybody(plan.split))
    return relength(arrays, [whole.split.batches], whole)


def _solve(arrays: Arrays) -> Plan | None:
    plans = _plainest(arrays)
    best = max((plan.score for plan in plans), default=arrays.worst_score)
    caps = np.geomspace(*promising_caps(arrays, best), _between(CAPS, CAP_USERS // len(arrays)))
    known: set[frozenset[Members]] = set()
    most = _between(SCANNED, SCANNED_USERS // len(arrays))
    for _ in range(LOOKS):
        found = _unknown(partitions(arrays, caps, best), known, most)
        around = np.array([partition.cap_ms * WIDE for partition in found])
        at_least = max(best, found[0].score) if found else best
        plans += scan(arrays, [p.batches for p in found], around, at_least, TRULY)
        plans.sort(key=lambda plan: -plan.score)
        if not plans:
            return None
        best = plans[0].score
        caps = np.unique(
            np.concatenate([[plan.loop_ms * SHORTER for plan in plans[:NEARER]], NEARBY * plans[0].cycle_ms])
        )
    improved = [improve(arrays, plan, ROUNDS) for plan in plans[: IMPROVED[len(arrays) <= FEW]]]
    plan = max(improved, key=lambda plan: plan.score)
    if len(arrays) <= FEW:
        return polish(arrays, plan)
    return nudge(arrays, plan) if len(arrays) <= NUDGED_USERS else plan


def _unknown(found: Iterable[Partition], known: set[frozenset[Members]], most: int) -> list[Partition]:
    """The first that are not known; they are from now on."""
    taken = []
    for partition in found:
        key = frozenset(partition.batches)
        if key not in known:
            known.add(key)
            taken.append(partition)
        if len(taken) == most:
            break
    return taken


def _between(bounds: range, wanted: int) -> int:
    return min(max(wanted, bounds[0]), bounds[-1])


def _plainest(arrays: Arrays) -> list[Plan]:
    """Everybody in one batch, and everybody alone, where that may be."""
    users = range(len(arrays))
    both: dict[int, list[Members]] = {1: [tuple(users)], len(arrays): [(m,) for m in users]}
    allowed = [both[n] for n in both if arrays.bounds.min_batches <= n <= arrays.max_batches and n <= ALONE]
    caps = np.geomspace(*cap_range(arrays), PLAIN_CAPS)
    return scan(arrays, allowed, np.tile(caps, (len(allowed), 1)), arrays.worst_score, len(allowed))


def polish(arrays: Arrays, plan: Plan) -> Plan:
    """Exact lengths for its batches."""
    split = best_lengths(arrays, plan.split.batches, plan.score, promising_caps(arrays, plan.score), 1e-4)
    return Plan.of(arrays, split) if split else plan


def replan(
    arrays: Arrays, batches: Sequence[Members], cycle_ms: float, changed: Sequence[int]
) -> Plan | None:
    """A plan from one in force; None where its batches no longer fit, and where solve() has to start anew.

    batches: of users by their index now, without those who left; who is in none joins the smallest. cycle_ms: of the
    plan in force. changed: users who may move.
    """
    placed = {m for batch in batches for m in batch}
    newcomers = [m for m in range(len(arrays)) if m not in placed]
    may_move = {*changed, *newcomers}
    settled = [[m for m in batch if m not in may_move] for batch in batches]
    for now in (_joined(batches, newcomers), [*settled, *([m] for m in sorted(may_move))]):
        plan = _relengthed(arrays, [tuple(sorted(batch)) for batch in now if batch], cycle_ms)
        if plan is not None:
            return improve(arrays, plan, WARM_ROUNDS, sorted(may_move))
    return None


def _joined(batches: Sequence[Members], newcomers: Sequence[int]) -> list[list[int]]:
    """Each newcomer in the batch that is smallest by then."""
    now = [list(batch) for batch in batches] or [[]]
    for m in newcomers:
        min(now, key=len).append(m)
    return now


def _relengthed(arrays: Arrays, batches: Sequence[Members], cycle_ms: float) -> Plan | None:
    """Lengths for a cycle of about so long, or as long as the batches need; None where they do not fit."""
    if not arrays.bounds.min_batches <= len(batches) <= arrays.max_batches:
        return None
    nothing = Plan.of(arrays, Split(tuple(batches), (arrays.bounds.min_draft,) * len(arrays)))
    caps = np.concatenate([cycle_ms * WIDE, nothing.loop_ms * WIDE[WIDE >= 1]])
    return next(iter(scan(arrays, [batches], caps[None], nothing.score)), None)
