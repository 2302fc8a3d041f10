"""The paper's solver: for each N it alternates between association and lengths, each of them a MILP.

Association: for given lengths, the assignment with the smallest S. Lengths: for a given assignment, the largest U / S,
by Dinkelbach's method. The choices of a length, and of a batch's size, longest draft and longest prefix, are one-hot,
so that every product is an entry of a table. This is the reference for our solvers. Our only additions are bounds, the
packed law and the other objectives.
Source: Xu, Zhou, Niu, "DiP-SD", arXiv 2604.20919, the paper's algorithm.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import Floats, ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.paper.milp import Milp

MAX_TURNS = 20  # of association and lengths for one N
Members = tuple[int, ...]


def solve(arrays: ProblemArrays, seconds_left: Callable[[], float] = lambda: np.inf) -> ScoredPlan | None:
    """The best plan over all N; None where none fits. Raises OutOfTime when no seconds are left."""
    min_batches = max(min(2, len(arrays)), arrays.bounds.min_batches)
    plans = [_alternate(arrays, count, seconds_left) for count in range(min_batches, arrays.max_batches + 1)]
    return max((plan for plan in plans if plan), key=lambda plan: plan.score, default=None)


def _alternate(arrays: ProblemArrays, count: int, seconds_left: Callable[[], float]) -> ScoredPlan | None:
    """Alternate with N = count, from equal lengths, until the score no longer improves."""
    lengths = [min(max(1, arrays.bounds.min_draft), arrays.bounds.max_draft)] * len(arrays)
    best: ScoredPlan | None = None
    for _ in range(MAX_TURNS):
        batches = associate(arrays, count, lengths, seconds_left())
        if batches is None:
            break
        plan = choose_lengths(arrays, batches, seconds_left)
        if plan is None or (best is not None and plan.score <= best.score + 1e-9 * abs(best.score)):
            break
        best, lengths = plan, list(plan.split.lengths)
    return best


def associate(
    arrays: ProblemArrays, count: int, lengths: Sequence[int], seconds: float = np.inf
) -> tuple[Members, ...] | None:
    """Association: `count` batches with the smallest S for these lengths; None where they do not fit."""
    users, drafts = range(len(arrays)), np.array(lengths, dtype=np.float64)
    ready = drafts * arrays.draft_ms + arrays.comm_ms
    program = Milp()
    cycle = program.variable(cost=1.0)
    member = [program.one_of([0.0] * count) for _ in users]  # [user][batch]
    total = []
    for n in range(count):
        mine = [member[m][n] for m in users]
        time = (
            _packed(program, arrays, mine, drafts)
            if arrays.packed
            else _padded(program, arrays, mine, drafts)
        )
        if time is None:
            return None
        total += time
        for m in users:
            program.row([(cycle, 1.0), (mine[m], -ready[m]), *_minus(time)], low=0.0)
    program.row([(cycle, 1.0), *_minus(total)], low=0.0)
    solution = program.solve(seconds)
    if solution is None:
        return None
    return tuple(tuple(m for m in users if solution[member[m][n]] > 0.5) for n in range(count))


def _packed(program: Milp, arrays: ProblemArrays, mine: list[int], drafts: Floats) -> list[tuple[int, float]]:
    """Terms of a batch's t_v, which is linear in its members; adds the memory constraint."""
    base = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0))
    alone = np.asarray(arrays.server.verify_ms(1.0, drafts, drafts, arrays.prefix, arrays.prefix)) - base
    needed = np.asarray(arrays.server.needed_bytes(1.0, arrays.prefix, arrays.prefix))
    constant = program.one_of([0.0])[0]
    program.row([(m, 1.0) for m in mine], low=1.0)
    program.row(list(zip(mine, needed, strict=True)), high=arrays.server.memory_bytes)
    return [(constant, base), *zip(mine, alone, strict=True)]


def _padded(
    program: Milp, arrays: ProblemArrays, mine: list[int], drafts: Floats
) -> list[tuple[int, float]] | None:
    """Terms of a batch's t_v: one-hot over all sizes × longest drafts × longest prefixes that fit into memory."""
    sizes = range(1, len(mine) + 1)
    shapes = [
        shape
        for shape in product(sizes, np.unique(drafts), np.unique(arrays.prefix))
        if arrays.server.needed_bytes(shape[0], shape[2], shape[0] * shape[2]) <= arrays.server.memory_bytes
    ]
    if not shapes:
        return None
    size, longest, prefix = (np.array(column, dtype=np.float64) for column in zip(*shapes, strict=True))
    chosen = program.one_of([0.0] * len(shapes))
    program.row([*((m, 1.0) for m in mine), *_minus(zip(chosen, size, strict=True))], low=0.0, high=0.0)
    for m, user in enumerate(mine):
        holds = (longest >= drafts[m]) & (prefix >= arrays.prefix[m])
        program.row([(user, 1.0), *((z, -1.0) for z, ok in zip(chosen, holds, strict=True) if ok)], high=0.0)
    time = np.asarray(arrays.server.verify_ms(size, longest, size * longest, prefix, size * prefix))
    return list(zip(chosen, time, strict=True))


def choose_lengths(
    arrays: ProblemArrays, batches: tuple[Members, ...], seconds_left: Callable[[], float] = lambda: np.inf
) -> ScoredPlan | None:
    """Lengths: the best ones for these batches, by Dinkelbach: maximise value - score · S until that is zero."""
    plan = ScoredPlan.of(arrays, Split(batches, tuple([arrays.bounds.min_draft] * len(arrays))))
    while True:
        price = arrays.objective.price(plan.score, arrays.total_weight, plan.cycle_ms)
        lengths = _lengths_at(arrays, batches, price, seconds_left())
        if lengths is None:
            return None
        better = ScoredPlan.of(arrays, Split(batches, lengths))
        if better.score <= plan.score + 1e-12 * abs(plan.score):
            return plan
        plan = better


def _lengths_at(
    arrays: ProblemArrays, batches: tuple[Members, ...], price: float, seconds: float
) -> tuple[int, ...] | None:
    """The lengths with the largest value - price · S; None where no lengths fit."""
    min_draft, max_draft = arrays.bounds.min_draft, arrays.bounds.max_draft
    rows = Batches.of(arrays, batches)
    program = Milp()
    cycle = program.variable(cost=price)
    length = [
        program.one_of(-arrays.value[m, min_draft : max_draft + 1]) for m in range(len(arrays))
    ]  # [user][l - min_draft]
    total = []
    for n, batch in enumerate(batches):
        times = len(batch) if arrays.packed else 1
        levels = np.arange(
            times * min_draft, times * max_draft + 1.0
        )  # of drafted tokens, or the longest draft
        chosen = program.one_of([0.0] * len(levels))
        time = list(zip(chosen, rows.verify_ms(np.tile(levels, (len(batches), 1)))[n], strict=True))
        total += time
        drafted = [
            (length[m][k], float(min_draft + k)) for m in batch for k in range(max_draft - min_draft + 1)
        ]
        if arrays.packed:
            program.row([*drafted, *_minus(zip(chosen, levels, strict=True))], high=0.0)
        for m in batch:
            mine = [(v, float(min_draft + k)) for k, v in enumerate(length[m])]
            if not arrays.packed:
                program.row([*mine, *_minus(zip(chosen, levels, strict=True))], high=0.0)
            ready = [(v, -k * float(arrays.draft_ms[m])) for v, k in mine]
            program.row([(cycle, 1.0), *ready, *_minus(time)], low=float(arrays.comm_ms[m]))
    program.row([(cycle, 1.0), *_minus(total)], low=0.0)
    solution = program.solve(seconds)
    if solution is None:
        return None
    return tuple(min_draft + int(np.argmax(solution[variables])) for variables in length)


def _minus(terms: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(variable, -coefficient) for variable, coefficient in terms]
