"""Our solver: the joint dynamic programme, then local search, then lengths token by token.

From N = 1 on, with l = 0 where it may be. Warm, it starts from the batches in force and moves changed users only.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.batch_types import Members
from shared.planning.solvers.arrays.problem_arrays import Arrays
from shared.planning.solvers.arrays.scored_plan import Plan
from shared.planning.solvers.branch_and_bound.cycle_bounds import cap_range
from shared.planning.solvers.exact import exact_solver
from shared.planning.solvers.exact.lengths import best_lengths
from shared.planning.solvers.search.adjust_lengths import adjust_lengths
from shared.planning.solvers.search.equal_splits import equal_splits
from shared.planning.solvers.search.joint_dp import Partition, partitions, promising_caps
from shared.planning.solvers.search.length_scan import scan
from shared.planning.solvers.search.local_search import SHORTER, improve, refine_lengths, relength
from shared.planning.solvers.search.shard import Portion

FEW = 8  # users: plans so small cost little to search longer
SOME = 32  # users up to whom a plan is to take but a blink, and lengths are looked at token by token
CAPS = range(8, 25)  # looked at first, over all that are promising; fewer for many users
CAP_USERS = 160  # of them all
CAPS_OF_EQUALS = (
    64  # where users are equal: drafts of equal users end together, so a cap just short of that costs much
)
CAPS_OF_CROWDS = 5  # where memory makes batches, and their sum the cycle
LOOKS = 2, 4  # for some users, for more; where memory makes batches as for some
FIRST_ORDERS = (1.0,)  # prices at which users are ordered in the first look, of what a millisecond is worth
ORDERS = (0.6,), (0.3, 1.0)  # and in those after, for some users and for more
NEARER = 4  # plans that are then asked for with shorter loops
NEARBY = np.array([0.96, 1.0])  # of the best cycle: caps within which loops may be longer, too
SAME = 1e-3  # caps this close, relatively, are looked at once
SCANNED = range(2, 7)  # partitions of a look whose lengths are scanned; fewer for many users
SCANNED_USERS = 20_000  # of them all
KEPT = 6  # plans of a look
HALVES = 20  # plans with two batches that are kept for few users
IMPROVED = 4, 1, 2  # plans that are searched around: for few users, for some, for more
NUDGED = 2  # plans whose lengths are looked at token by token
ROUNDS = 4  # of local search
WARM_ROUNDS = 2
MOVED = 8  # ways to move those who changed, that are looked at as they are and not scored first
AROUND = np.array(
    [0.8, 0.9, 1.0, 1.15, 1.4]
)  # of a plan's cycle: caps within which equal splits are looked at
TOGETHER = 4  # equal splits of an order that are looked at together
WIDE = np.array([0.7, 0.8, 0.88, 0.94, 1.0, 1.06, 1.14, 1.25, 1.4])  # caps of a scan, of a cap
PLAIN_CAPS = 8
ALONE = 64  # more users are not all tried alone


def solve(arrays: Arrays) -> Plan | None:
    """A plan from nothing; None where nothing that was found fits into memory and bounds."""
    if exact_solver.countable(arrays):
        return exact_solver.solve(arrays, max(_plainest(arrays), key=lambda plan: plan.score, default=None))
    portion = Portion.of(arrays)
    plan = _solve(portion.arrays) if portion else None
    if portion is None or plan is None:
        return _solve(arrays)
    whole = Plan.of(arrays, portion.everybody(plan.split))
    return refine_lengths(arrays, _or_equal_split(arrays, relength(arrays, [whole.split.batches], whole)))


def _solve(arrays: Arrays) -> Plan | None:
    """The same, user by user."""
    plans, few = _looked(arrays), len(arrays) <= FEW
    if not plans:
        return None
    equal = _or_equal_split(arrays, plans[0])
    more = [equal] if equal is not plans[0] else []
    if few:
        plans = _best_first(adjust_lengths(arrays, plan) for plan in [*plans, *_halves(arrays, plans[0])])
    searched = IMPROVED[(len(arrays) > FEW) + (len(arrays) > SOME)]
    if len(arrays) <= SOME and not arrays.varied:
        searched = IMPROVED[0]
    known: set[frozenset[Members]] = set()
    improved = _best_first(improve(arrays, plan, ROUNDS, known=known) for plan in [*plans[:searched], *more])
    if few:
        return exact_solver.solve_near(arrays, polish(arrays, improved[0]))
    if len(arrays) <= SOME:
        nudged = _best_first(adjust_lengths(arrays, plan) for plan in improved[:NUDGED])
        return exact_solver.solve_near(arrays, nudged[0])
    return refine_lengths(arrays, improved[0])


def _or_equal_split(arrays: Arrays, plan: Plan) -> Plan:
    """The plan, or an equal split that is better."""
    best = plan
    caps = np.append(plan.cycle_ms * AROUND, plan.loop_ms * SHORTER)
    for splits in equal_splits(arrays, plan.score):
        of_order: Plan | None = None
        while some := list(islice(splits, TOGETHER)):
            found = scan(arrays, some, np.tile(caps, (len(some), 1)), plan.score)
            if not found or (of_order and found[0].score <= of_order.score):
                break  # more and more batches are worth less and less
            of_order = found[0]
        if of_order:
            best = max(best, refine_lengths(arrays, of_order), key=lambda each: each.score)
    return best


def _looked(arrays: Arrays) -> list[Plan]:
    """Plans of the joint dynamic programme, best first: over all caps that are promising, then near the best plans."""
    plans = _plainest(arrays)
    best = plans[0].score if plans else arrays.worst_score
    caps = np.geomspace(*promising_caps(arrays, best), _caps_wanted(arrays))
    known: set[frozenset[Members]] = set()
    most, many = _between(SCANNED, SCANNED_USERS // len(arrays)), len(arrays) > SOME
    seen = np.empty(0)
    for look in range(LOOKS[many and not arrays.crowded]):
        caps = caps[(np.abs(caps[:, None] / seen - 1) >= SAME).all(axis=1)]
        if len(caps) == 0:
            break
        seen = np.append(seen, caps)
        found = _unknown(partitions(arrays, caps, best, ORDERS[many] if look else FIRST_ORDERS), known, most)
        around = np.array([partition.cap_ms * WIDE for partition in found])
        likely = max(best, found[0].score) if found else best
        plans = _best_first([*plans, *scan(arrays, [p.batches for p in found], around, likely, KEPT)])
        if not plans:
            break
        best = plans[0].score
        shorter = [plan.loop_ms * SHORTER for plan in plans[:NEARER]]
        caps = np.unique(np.append(shorter, plans[0].cycle_ms * NEARBY))
    return plans


def _caps_wanted(arrays: Arrays) -> int:
    if not arrays.varied:
        return CAPS_OF_EQUALS
    if len(arrays) > SOME and arrays.crowded:
        return CAPS_OF_CROWDS
    return _between(CAPS, CAP_USERS // len(arrays))


def _best_first(plans: Iterable[Plan]) -> list[Plan]:
    return sorted(plans, key=lambda plan: -plan.score)


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


def _halves(arrays: Arrays, plan: Plan) -> list[Plan]:
    """The best plans with two batches, of every way to make two; with cycles of about the plan's."""
    if not arrays.bounds.min_batches <= 2 <= arrays.max_batches:
        return []
    users = range(len(arrays))
    ways = [
        [tuple(m for m in users if mask >> m & 1 == side) for side in (0, 1)]
        for mask in range(1, 1 << (len(users) - 1))
    ]
    return scan(arrays, ways, np.tile(plan.cycle_ms * WIDE, (len(ways), 1)), plan.score, HALVES)


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
        there = tuple(tuple(sorted(batch)) for batch in now if batch)
        moved = _moved(there, sorted(may_move)) if len(arrays) <= SOME else []
        looked_at = len(moved) <= MOVED
        plan = _relengthed(arrays, [there, *moved] if looked_at else [there], cycle_ms)
        if plan is not None:
            return plan if moved and looked_at else improve(arrays, plan, WARM_ROUNDS, sorted(may_move))
    return None


def _moved(batches: tuple[Members, ...], users: Sequence[int]) -> list[tuple[Members, ...]]:
    """The batches with one of these users in another one, or alone."""
    found = []
    for m in users:
        rest = [tuple(other for other in batch if other != m) for batch in batches]
        home = next(n for n, batch in enumerate(batches) if m in batch)
        for n in range(len(batches) + (len(batches[home]) > 1)):
            if n != home:
                joined = [*rest, ()]
                joined[n] = tuple(sorted((*joined[n], m)))
                found.append(tuple(batch for batch in joined if batch))
    return found


def _joined(batches: Sequence[Members], newcomers: Sequence[int]) -> list[list[int]]:
    """Each newcomer in the batch that is smallest by then."""
    now = [list(batch) for batch in batches] or [[]]
    for m in newcomers:
        min(now, key=len).append(m)
    return now


def _relengthed(arrays: Arrays, partitions: Sequence[Sequence[Members]], cycle_ms: float) -> Plan | None:
    """The best that lengths make of these, for cycles of about so long or as long as the first one's batches need.

    None where none of them fits.
    """
    fit = [way for way in partitions if arrays.bounds.min_batches <= len(way) <= arrays.max_batches]
    if not fit:
        return None
    nothing = Plan.of(arrays, Split(tuple(fit[0]), (arrays.bounds.min_draft,) * len(arrays)))
    caps = np.concatenate([cycle_ms * WIDE, nothing.loop_ms * WIDE[WIDE >= 1]])
    found = scan(arrays, fit, np.tile(caps, (len(fit), 1)), nothing.score)
    return max(found, key=lambda plan: plan.score, default=None)
