"""Our solver: the joint dynamic programme, then local search, then lengths token by token.

From N = 1 on, with l = 0 where it may be. Warm, it starts from the batches in force and moves changed users only.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.batch_types import Members
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.branch_and_bound.cycle_bounds import cycle_bound_range
from shared.planning.solvers.exact import exact_solver
from shared.planning.solvers.exact.lengths import best_lengths
from shared.planning.solvers.search.adjust_lengths import adjust_lengths
from shared.planning.solvers.search.equal_splits import equal_splits
from shared.planning.solvers.search.joint_dp import Partition, partitions, promising_cycle_bounds
from shared.planning.solvers.search.length_scan import scan
from shared.planning.solvers.search.local_search import SHORTER, improve, refine_lengths, relength
from shared.planning.solvers.search.shard import Shard

SMALL = 8  # users: plans so small cost little to search longer
MEDIUM = 32  # users up to whom a plan is to take but a blink, and lengths are looked at token by token
BOUND_COUNTS = range(8, 25)  # looked at first, over all that are promising; fewer for many users
BOUNDS_TIMES_USERS = 160  # of them all
BOUNDS_OF_CLASSES = (
    64  # where users are equal: drafts of equal users end together, so a cap just short of that costs much
)
BOUNDS_OF_MEMORY_BATCHES = 5  # where memory makes batches, and their sum the cycle
DP_ROUNDS = 2, 4  # for some users, for more; where memory makes batches as for some
FIRST_ORDERS = (1.0,)  # prices at which users are ordered in the first look, of what a millisecond is worth
LATER_ORDERS = (0.6,), (0.3, 1.0)  # and in those after, for some users and for more
SHORTER_PLANS = 4  # plans that are then asked for with shorter loops
NEAR_CYCLE = np.array([0.96, 1.0])  # of the best cycle: caps within which loops may be longer, too
SAME_BOUND = 1e-3  # caps this close, relatively, are looked at once
SCANNED = range(2, 7)  # partitions of a look whose lengths are scanned; fewer for many users
SCANNED_USERS = 20_000  # of them all
KEPT_PLANS = 6  # plans of a look
KEPT_TWO_BATCH = 20  # plans with two batches that are kept for few users
SEARCHED_PLANS = 4, 1, 2  # plans that are searched around: for few users, for some, for more
ADJUSTED_PLANS = 2  # plans whose lengths are looked at token by token
ROUNDS = 4  # of local search
WARM_ROUNDS = 2
MAX_WARM_CHANGES = 8  # ways to move those who changed, that are looked at as they are and not scored first
SPLIT_BOUNDS = np.array(
    [0.8, 0.9, 1.0, 1.15, 1.4]
)  # of a plan's cycle: caps within which equal splits are looked at
SPLITS_PER_SCAN = 4  # equal splits of an order that are looked at together
SCAN_BOUNDS = np.array([0.7, 0.8, 0.88, 0.94, 1.0, 1.06, 1.14, 1.25, 1.4])  # caps of a scan, of a cap
TRIVIAL_BOUNDS = 8
MAX_SINGLES = 64  # more users are not all tried alone


def solve(arrays: ProblemArrays) -> ScoredPlan | None:
    """A plan from nothing; None where nothing that was found fits into memory and bounds."""
    if exact_solver.countable(arrays):
        return exact_solver.solve(
            arrays, max(_trivial_plans(arrays), key=lambda plan: plan.score, default=None)
        )
    shard = Shard.of(arrays)
    plan = _solve(shard.arrays) if shard else None
    if shard is None or plan is None:
        return _solve(arrays)
    whole = ScoredPlan.of(arrays, shard.expand(plan.split))
    return refine_lengths(
        arrays, _or_better_equal_split(arrays, relength(arrays, [whole.split.batches], whole))
    )


def _solve(arrays: ProblemArrays) -> ScoredPlan | None:
    """The same, user by user."""
    plans, is_small = _dp_plans(arrays), len(arrays) <= SMALL
    if not plans:
        return None
    equal = _or_better_equal_split(arrays, plans[0])
    extra = [equal] if equal is not plans[0] else []
    if is_small:
        plans = _best_first(
            adjust_lengths(arrays, plan) for plan in [*plans, *_two_batch_plans(arrays, plans[0])]
        )
    count = SEARCHED_PLANS[(len(arrays) > SMALL) + (len(arrays) > MEDIUM)]
    if len(arrays) <= MEDIUM and not arrays.heterogeneous_users:
        count = SEARCHED_PLANS[0]
    searched: set[frozenset[Members]] = set()
    improved = _best_first(
        improve(arrays, plan, ROUNDS, searched=searched) for plan in [*plans[:count], *extra]
    )
    if is_small:
        return exact_solver.solve_near(arrays, polish(arrays, improved[0]))
    if len(arrays) <= MEDIUM:
        adjusted = _best_first(adjust_lengths(arrays, plan) for plan in improved[:ADJUSTED_PLANS])
        return exact_solver.solve_near(arrays, adjusted[0])
    return refine_lengths(arrays, improved[0])


def _or_better_equal_split(arrays: ProblemArrays, plan: ScoredPlan) -> ScoredPlan:
    """The plan, or an equal split that is better."""
    best = plan
    cycle_bounds = np.append(plan.cycle_ms * SPLIT_BOUNDS, plan.loop_ms * SHORTER)
    for splits in equal_splits(arrays, plan.score):
        best_of_order: ScoredPlan | None = None
        while some_splits := list(islice(splits, SPLITS_PER_SCAN)):
            plans = scan(arrays, some_splits, np.tile(cycle_bounds, (len(some_splits), 1)), plan.score)
            if not plans or (best_of_order and plans[0].score <= best_of_order.score):
                break  # more and more batches are worth less and less
            best_of_order = plans[0]
        if best_of_order:
            best = max(best, refine_lengths(arrays, best_of_order), key=lambda each: each.score)
    return best


def _dp_plans(arrays: ProblemArrays) -> list[ScoredPlan]:
    """Plans of the joint dynamic programme, best first: over all caps that are promising, then near the best plans."""
    plans = _trivial_plans(arrays)
    best = plans[0].score if plans else arrays.min_score
    cycle_bounds = np.geomspace(*promising_cycle_bounds(arrays, best), _bound_count(arrays))
    searched: set[frozenset[Members]] = set()
    max_partitions, is_large = _clamp(SCANNED, SCANNED_USERS // len(arrays)), len(arrays) > MEDIUM
    tried = np.empty(0)
    for dp_round in range(DP_ROUNDS[is_large and not arrays.memory_bound]):
        cycle_bounds = cycle_bounds[(np.abs(cycle_bounds[:, None] / tried - 1) >= SAME_BOUND).all(axis=1)]
        if len(cycle_bounds) == 0:
            break
        tried = np.append(tried, cycle_bounds)
        promising = _unseen(
            partitions(arrays, cycle_bounds, best, LATER_ORDERS[is_large] if dp_round else FIRST_ORDERS),
            searched,
            max_partitions,
        )
        scan_bounds = np.array([partition.cycle_bound_ms * SCAN_BOUNDS for partition in promising])
        expected_score = max(best, promising[0].score) if promising else best
        plans = _best_first(
            [*plans, *scan(arrays, [p.batches for p in promising], scan_bounds, expected_score, KEPT_PLANS)]
        )
        if not plans:
            break
        best = plans[0].score
        shorter = [plan.loop_ms * SHORTER for plan in plans[:SHORTER_PLANS]]
        cycle_bounds = np.unique(np.append(shorter, plans[0].cycle_ms * NEAR_CYCLE))
    return plans


def _bound_count(arrays: ProblemArrays) -> int:
    if not arrays.heterogeneous_users:
        return BOUNDS_OF_CLASSES
    if len(arrays) > MEDIUM and arrays.memory_bound:
        return BOUNDS_OF_MEMORY_BATCHES
    return _clamp(BOUND_COUNTS, BOUNDS_TIMES_USERS // len(arrays))


def _best_first(plans: Iterable[ScoredPlan]) -> list[ScoredPlan]:
    return sorted(plans, key=lambda plan: -plan.score)


def _unseen(
    ranked: Iterable[Partition], searched: set[frozenset[Members]], max_partitions: int
) -> list[Partition]:
    """The first that are not known; they are from now on."""
    taken = []
    for partition in ranked:
        key = frozenset(partition.batches)
        if key not in searched:
            searched.add(key)
            taken.append(partition)
        if len(taken) == max_partitions:
            break
    return taken


def _clamp(bounds: range, count: int) -> int:
    return min(max(count, bounds[0]), bounds[-1])


def _trivial_plans(arrays: ProblemArrays) -> list[ScoredPlan]:
    """Everybody in one batch, and everybody alone, where that may be."""
    users = range(len(arrays))
    both: dict[int, list[Members]] = {1: [tuple(users)], len(arrays): [(m,) for m in users]}
    allowed = [
        both[n] for n in both if arrays.bounds.min_batches <= n <= arrays.max_batches and n <= MAX_SINGLES
    ]
    cycle_bounds = np.geomspace(*cycle_bound_range(arrays), TRIVIAL_BOUNDS)
    return scan(arrays, allowed, np.tile(cycle_bounds, (len(allowed), 1)), arrays.min_score, len(allowed))


def _two_batch_plans(arrays: ProblemArrays, plan: ScoredPlan) -> list[ScoredPlan]:
    """The best plans with two batches, of every way to make two; with cycles of about the plan's."""
    if not arrays.bounds.min_batches <= 2 <= arrays.max_batches:
        return []
    users = range(len(arrays))
    splits = [
        [tuple(m for m in users if mask >> m & 1 == side) for side in (0, 1)]
        for mask in range(1, 1 << (len(users) - 1))
    ]
    return scan(
        arrays, splits, np.tile(plan.cycle_ms * SCAN_BOUNDS, (len(splits), 1)), plan.score, KEPT_TWO_BATCH
    )


def polish(arrays: ProblemArrays, plan: ScoredPlan) -> ScoredPlan:
    """Exact lengths for its batches."""
    split = best_lengths(
        arrays, plan.split.batches, plan.score, promising_cycle_bounds(arrays, plan.score), 1e-4
    )
    return ScoredPlan.of(arrays, split) if split else plan


def replan(
    arrays: ProblemArrays, batches: Sequence[Members], cycle_ms: float, changed: Sequence[int]
) -> ScoredPlan | None:
    """A plan from one in force; None where its batches no longer fit, and where solve() has to start anew.

    batches: of users by their index now, without those who left; who is in none joins the smallest. cycle_ms: of the
    plan in force. changed: users who may move.
    """
    placed = {m for batch in batches for m in batch}
    newcomers = [m for m in range(len(arrays)) if m not in placed]
    may_move = {*changed, *newcomers}
    unchanged = [[m for m in batch if m not in may_move] for batch in batches]
    for now in (_with_newcomers(batches, newcomers), [*unchanged, *([m] for m in sorted(may_move))]):
        batches_now = tuple(tuple(sorted(batch)) for batch in now if batch)
        moved = _single_moves(batches_now, sorted(may_move)) if len(arrays) <= MEDIUM else []
        scan_all = len(moved) <= MAX_WARM_CHANGES
        plan = _rescanned(arrays, [batches_now, *moved] if scan_all else [batches_now], cycle_ms)
        if plan is not None:
            return plan if moved and scan_all else improve(arrays, plan, WARM_ROUNDS, sorted(may_move))
    return None


def _single_moves(batches: tuple[Members, ...], users: Sequence[int]) -> list[tuple[Members, ...]]:
    """The batches with one of these users in another one, or alone."""
    changed = []
    for m in users:
        others = [tuple(other for other in batch if other != m) for batch in batches]
        home = next(n for n, batch in enumerate(batches) if m in batch)
        for n in range(len(batches) + (len(batches[home]) > 1)):
            if n != home:
                joined = [*others, ()]
                joined[n] = tuple(sorted((*joined[n], m)))
                changed.append(tuple(batch for batch in joined if batch))
    return changed


def _with_newcomers(batches: Sequence[Members], newcomers: Sequence[int]) -> list[list[int]]:
    """Each newcomer in the batch that is smallest by then."""
    now = [list(batch) for batch in batches] or [[]]
    for m in newcomers:
        min(now, key=len).append(m)
    return now


def _rescanned(
    arrays: ProblemArrays, partitions: Sequence[Sequence[Members]], cycle_ms: float
) -> ScoredPlan | None:
    """The best that lengths make of these, for cycles of about so long or as long as the first one's batches need.

    None where none of them fits.
    """
    allowed = [
        batches for batches in partitions if arrays.bounds.min_batches <= len(batches) <= arrays.max_batches
    ]
    if not allowed:
        return None
    undrafted = ScoredPlan.of(arrays, Split(tuple(allowed[0]), (arrays.bounds.min_draft,) * len(arrays)))
    cycle_bounds = np.concatenate([cycle_ms * SCAN_BOUNDS, undrafted.loop_ms * SCAN_BOUNDS[SCAN_BOUNDS >= 1]])
    plans = scan(arrays, allowed, np.tile(cycle_bounds, (len(allowed), 1)), undrafted.score)
    return max(plans, key=lambda plan: plan.score, default=None)
