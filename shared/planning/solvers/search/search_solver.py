"""Solver `outrider`: the joint dynamic programme, then local search, then lengths token by token.

N starts at 1, and l = 0 is allowed where min_draft is 0. A warm start begins with the batches in force and moves only
changed users.
"""

from collections.abc import Iterable, Sequence
from itertools import islice, product
from math import prod

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.batch_types import Members
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.branch_and_bound.cycle_bounds import cycle_bound_range
from shared.planning.solvers.exact import exact_solver
from shared.planning.solvers.exact.classes import Classes
from shared.planning.solvers.exact.lengths import best_lengths
from shared.planning.solvers.search.adjust_lengths import adjust_lengths
from shared.planning.solvers.search.equal_splits import equal_splits
from shared.planning.solvers.search.joint_dp import Partition, partitions, promising_cycle_bounds
from shared.planning.solvers.search.length_scan import scan
from shared.planning.solvers.search.local_search import SHORTER, improve, refine_lengths, relength
from shared.planning.solvers.search.shard import Shard

# Sizes: up to SMALL users searching longer costs little; up to MEDIUM users lengths are adjusted token by token.
SMALL, MEDIUM = 8, 32
# Rounds of the dynamic programme.
DP_ROUNDS = 2, 4  # up to MEDIUM users or where memory requires the batches; for more users
BOUND_COUNTS = range(8, 25)  # cycle bounds of the first round, spread over the promising range
BOUNDS_TIMES_USERS = 160  # so that there are fewer for more users
BOUNDS_OF_CLASSES = (
    64  # for classes of equal users: their drafts end together, so a bound just below costs much
)
BOUNDS_OF_MEMORY_BATCHES = 5  # where memory requires the batches, and the cycle is their sum
FIRST_ORDERS = (1.0,)  # prices for ordering users in the first round, relative to the value of a millisecond
LATER_ORDERS = (0.6,), (0.3, 1.0)  # and in later rounds: up to MEDIUM users; for more
SHORTER_PLANS = 4  # best plans for which later rounds try a cycle bound just below the longest loop
NEAR_CYCLE = np.array([0.96, 1.0])  # of the best cycle: later rounds also try these, which allow longer loops
SAME_BOUND = 1e-3  # relative difference below which cycle bounds are the same
SCANNED = range(2, 7)  # partitions of a round whose lengths are scanned
SCANNED_USERS = 20_000  # so that there are fewer for more users
SCAN_BOUNDS = np.array([0.7, 0.8, 0.88, 0.94, 1.0, 1.06, 1.14, 1.25, 1.4])  # cycle bounds of a scan, relative
KEPT_PLANS = 6  # of a round
FINE_SCAN_BOUNDS = np.geomspace(0.7, 1.4, 18)  # for two batches of classes
# Further plans.
KEPT_TWO_BATCH = 20  # plans with two batches, up to SMALL users or for classes of equal users
ADJUSTED_TWO_BATCH = 8  # of these, plans of classes whose lengths are adjusted token by token
EXTRA_TWO_BATCH = 1  # of these, plans from which local search starts as well
MAX_TWO_BATCH = 1300  # ways to choose how many users of each class are in the first of two batches
TRIVIAL_BOUNDS = 8  # cycle bounds for one batch of all users, and for every user alone
MAX_SINGLES = 64  # more users are not tried in batches of one
SPLIT_BOUNDS = np.array([0.8, 0.9, 1.0, 1.15, 1.4])  # of a plan's cycle: cycle bounds for equal splits
SPLITS_PER_SCAN = 4  # equal splits of an order
# Local search.
SEARCHED_PLANS = 4, 1, 2  # plans that it starts from: up to SMALL, up to MEDIUM, for more users
ROUNDS = 4
WARM_ROUNDS = 2
MAX_WARM_CHANGES = 8  # up to so many moves of changed users are all scanned, not scored first
ADJUSTED_PLANS = 2  # plans whose lengths are adjusted token by token


def solve(arrays: ProblemArrays) -> ScoredPlan | None:
    """A plan without a warm start; None where no plan within memory and bounds was found."""
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
    """A plan of users (or of a shard's units) that are planned one by one."""
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
        if not is_small:
            two_batch = _best_first(
                adjust_lengths(arrays, plan)
                for plan in _two_batch_plans(arrays, plans[0])[:ADJUSTED_TWO_BATCH]
            )
            extra += two_batch[:EXTRA_TWO_BATCH]
    searched: set[frozenset[Members]] = set()
    improved = _best_first(
        improve(arrays, plan, ROUNDS, searched=searched) for plan in [*plans[:count], *extra]
    )
    if is_small:
        return exact_solver.solve_near(arrays, polish(arrays, improved[0]))
    if len(arrays) <= MEDIUM:
        adjusted = _best_first(
            adjust_lengths(arrays, plan) for plan in improved[: ADJUSTED_PLANS + EXTRA_TWO_BATCH]
        )
        return exact_solver.solve_near(arrays, adjusted[0])
    return refine_lengths(arrays, improved[0])


def _or_better_equal_split(arrays: ProblemArrays, plan: ScoredPlan) -> ScoredPlan:
    """The better one of the plan and the best equal split."""
    best = plan
    cycle_bounds = np.append(plan.cycle_ms * SPLIT_BOUNDS, plan.loop_ms * SHORTER)
    for splits in equal_splits(arrays, plan.score):
        best_of_order: ScoredPlan | None = None
        while some_splits := list(islice(splits, SPLITS_PER_SCAN)):
            plans = scan(arrays, some_splits, np.tile(cycle_bounds, (len(some_splits), 1)), plan.score)
            if not plans or (best_of_order and plans[0].score <= best_of_order.score):
                break  # scores fall from here on with the number of batches
            best_of_order = plans[0]
        if best_of_order:
            best = max(best, refine_lengths(arrays, best_of_order), key=lambda each: each.score)
    return best


def _dp_plans(arrays: ProblemArrays) -> list[ScoredPlan]:
    """Plans of the joint dynamic programme, best first.

    The first round tries the promising range of cycle bounds, later rounds bounds near the best plans.
    """
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
    """The number of cycle bounds of the first round."""
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
    """The first max_partitions partitions that are not in `searched`; adds them to it."""
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
    """All users in one batch, and every user alone, where bounds and memory allow it."""
    users = range(len(arrays))
    both: dict[int, list[Members]] = {1: [tuple(users)], len(arrays): [(m,) for m in users]}
    allowed = [
        both[n] for n in both if arrays.bounds.min_batches <= n <= arrays.max_batches and n <= MAX_SINGLES
    ]
    cycle_bounds = np.geomspace(*cycle_bound_range(arrays), TRIVIAL_BOUNDS)
    return scan(arrays, allowed, np.tile(cycle_bounds, (len(allowed), 1)), arrays.min_score, len(allowed))


def _two_batch_plans(arrays: ProblemArrays, plan: ScoredPlan) -> list[ScoredPlan]:
    """The best plans with two batches, over all such partitions of few users or of few counts of equal users."""
    if not arrays.bounds.min_batches <= 2 <= arrays.max_batches:
        return []
    if len(arrays) <= SMALL:
        splits, bounds = _two_batches(len(arrays)), SCAN_BOUNDS
    else:
        splits, bounds = _two_batches_of_classes(arrays), FINE_SCAN_BOUNDS
    cycle_bounds = np.tile(plan.cycle_ms * bounds, (len(splits), 1))
    return scan(arrays, splits, cycle_bounds, plan.score, KEPT_TWO_BATCH)


def _two_batches(users: int) -> list[list[Members]]:
    """All partitions of so many users into two batches."""
    return [
        [tuple(m for m in range(users) if mask >> m & 1 == side) for side in (0, 1)]
        for mask in range(1, 1 << (users - 1))
    ]


def _two_batches_of_classes(arrays: ProblemArrays) -> list[list[Members]]:
    """All partitions into two batches, by the number of users of each class in the first; none if these are many."""
    classes = Classes.of(arrays).users
    if prod(len(users) + 1 for users in classes) > MAX_TWO_BATCH:
        return []
    splits = []
    for counts in product(*(range(len(users) + 1) for users in classes)):
        others = tuple(len(users) - count for users, count in zip(classes, counts, strict=True))
        if any(counts) and counts <= others:  # one of each pair of mirror images
            first = (m for users, count in zip(classes, counts, strict=True) for m in users[:count])
            second = (m for users, count in zip(classes, counts, strict=True) for m in users[count:])
            splits.append([tuple(sorted(first)), tuple(sorted(second))])
    return splits


def polish(arrays: ProblemArrays, plan: ScoredPlan) -> ScoredPlan:
    """The plan with exact lengths for its batches."""
    split = best_lengths(
        arrays, plan.split.batches, plan.score, promising_cycle_bounds(arrays, plan.score), 1e-4
    )
    return ScoredPlan.of(arrays, split) if split else plan


def replan(
    arrays: ProblemArrays, batches: Sequence[Members], cycle_ms: float, changed: Sequence[int]
) -> ScoredPlan | None:
    """A plan that starts from the one in force; None where its batches no longer fit and solve() must plan anew.

    batches: of the plan in force, as present user indices, without users who left; users in none of them join the
    smallest. cycle_ms: of the plan in force. changed: users who may move.
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
    """All partitions with one of these users moved to another batch, or to a new one."""
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
    """The batches with each newcomer added to the smallest one in turn."""
    now = [list(batch) for batch in batches] or [[]]
    for m in newcomers:
        min(now, key=len).append(m)
    return now


def _rescanned(
    arrays: ProblemArrays, partitions: Sequence[Sequence[Members]], cycle_ms: float
) -> ScoredPlan | None:
    """The best plan with one of these partitions; None where none fits.

    The cycle bounds are around cycle_ms and from the longest loop of the first partition without drafts upwards.
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
