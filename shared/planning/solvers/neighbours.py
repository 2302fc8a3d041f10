"""Local search: move one user, swap two, open a batch; lengths re-solved exactly.

Every change touches two batches. Within a cap each of the two has its options, the others keep theirs, and the best
pair of options gives the changed plan's score: all changes are scored at once, and the best is taken while it helps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays import Arrays, Floats, Ints
from shared.planning.solvers.options import Batches, quick
from shared.planning.solvers.plan import Plan
from shared.planning.solvers.scan import Members, scan

CAPS = np.array([0.8, 0.9, 1.0, 1.1, 1.25])  # of the plan's cycle: where changes are scored
AROUND = np.array(
    [0.75, 0.84, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.18, 1.3]
)  # where the best of them are
SHARES = (0.02, 0.5, 1.0)  # prices, of what a millisecond of the cycle is worth
TRIED = 6  # changes whose lengths are scanned
SLACK = 0.02  # a change scored this much below the plan may still be better once its lengths are scanned
CHANGES = 600  # scored at once, at most
MEMBERS = 40_000  # of the batches that they make, at most
NEAR = 4  # users of another batch that one may swap with


@dataclass(frozen=True)
class _Change:
    """Two batches of a plan become these; empty = none."""

    first: int
    second: int  # -1: a new one
    becomes: tuple[Members, Members]


def improve(arrays: Arrays, plan: Plan, rounds: int, users: Sequence[int] | None = None) -> Plan:
    """A plan at least as good. users: only those may move; None = all."""
    for _ in range(rounds):
        changed = _best_changes(arrays, plan, range(len(arrays)) if users is None else users)
        if not changed:
            break
        better = relength(arrays, changed, plan)
        if better.score <= plan.score:
            break
        plan = better
    return plan


def relength(arrays: Arrays, partitions: Sequence[Sequence[Members]], plan: Plan) -> Plan:
    """The best that lengths make of these partitions, if better than a plan of about the same cycle; else that."""
    caps = np.tile(np.append(plan.cycle_ms * AROUND, plan.loop_ms * (1 - 1e-6)), (len(partitions), 1))
    found = [better for better in scan(arrays, partitions, caps, plan.score) if better is not None]
    return max([plan, *found], key=lambda each: each.score)


def _best_changes(arrays: Arrays, plan: Plan, users: Sequence[int]) -> list[list[Members]]:
    """What the most promising changes make of the plan's batches, best first."""
    changes = _changes(arrays, plan, users)
    if not changes:
        return []
    distinct = dict.fromkeys(plan.split.batches)  # first, in order
    distinct |= dict.fromkeys(batch for change in changes for batch in change.becomes if batch)
    row = {batch: index for index, batch in enumerate(distinct)}
    row[()] = -1
    batches = Batches.of(arrays, list(distinct))
    rows = np.array([(row[first], row[second]) for first, second in (change.becomes for change in changes)])
    gone = np.array([(change.first, change.second) for change in changes])
    caps = np.append(plan.cycle_ms * CAPS, plan.loop_ms * (1 - 1e-6))
    scores = np.max([_scores(arrays, plan, batches, float(cap), rows, gone) for cap in caps], axis=0)
    best = [
        n
        for n in np.argsort(-scores, kind="stable")[:TRIED]
        if scores[n] > plan.score - SLACK * abs(plan.score)
    ]
    return [_apply(plan, changes[n]) for n in best]


def _apply(plan: Plan, change: _Change) -> list[Members]:
    kept = [b for n, b in enumerate(plan.split.batches) if n not in (change.first, change.second)]
    return [*kept, *(batch for batch in change.becomes if batch)]


def _scores(arrays: Arrays, plan: Plan, batches: Batches, cap: float, rows: Ints, gone: Ints) -> Floats:
    """Of every change [n], with the options of all batches chosen at one price, the best of some."""
    options = quick(batches, cap)
    price = arrays.objective.price(plan.score, arrays.all_weight, cap)
    best = np.full(len(rows), -np.inf)
    for share in SHARES:
        worth = options.values - share * price * options.verify_ms
        taken = worth.argmax(axis=1)[:, None]
        value = np.append(np.take_along_axis(options.values, taken, axis=1), 0.0)  # the last: no batch
        time = np.append(np.take_along_axis(options.verify_ms, taken, axis=1), 0.0)
        now = np.arange(len(plan.split.batches))
        stays = (now != gone[:, :1]) & (now != gone[:, 1:])  # [n, batches]
        all_value = np.where(stays, value[now], 0.0).sum(axis=1) + value[rows].sum(axis=1)
        all_time = np.where(stays, time[now], 0.0).sum(axis=1) + time[rows].sum(axis=1)
        best = np.maximum(
            best, arrays.objective.score(all_value, arrays.all_weight, np.maximum(cap, all_time))
        )
    return best


def _changes(arrays: Arrays, plan: Plan, users: Sequence[int]) -> list[_Change]:
    """Moves, new batches, joined batches and swaps of users who draft alike: all of them, or of evenly chosen users."""
    batches = plan.split.batches
    each = len(batches) * (1 + NEAR)  # changes of one user, at most
    most = min(CHANGES, MEMBERS * len(batches) // (2 * len(arrays)))
    users = users[:: max(1, -(-len(users) * each // most))] if most else []
    home = {m: n for n, batch in enumerate(batches) for m in batch}
    may_open, may_close = len(batches) < arrays.max_batches, len(batches) > arrays.bounds.min_batches
    changes: list[_Change] = []
    for user in users:
        here = home[user]
        left = _without(batches[here], user)
        if left or may_close:
            changes += [
                _Change(here, there, (left, _with(batches[there], user)))
                for there in range(len(batches))
                if there != here
            ]
        if left and may_open:
            changes.append(_Change(here, -1, (left, (user,))))
        changes += [
            _Change(
                here, home[other], (_with(left, other), _with(_without(batches[home[other]], other), user))
            )
            for other in _alike(arrays, plan, user)
        ]
    if may_close:
        changes += [
            _Change(one, other, (tuple(sorted(batches[one] + batches[other])), ()))
            for one in range(len(batches))
            for other in range(one)
        ]
    return changes


def _alike(arrays: Arrays, plan: Plan, user: int) -> Iterator[int]:
    """Of every other batch, the users nearest in speed."""
    for batch in plan.split.batches:
        if user in batch:
            continue
        members = np.array(batch)
        apart = np.abs(np.log(arrays.draft_ms[members] / arrays.draft_ms[user]))
        yield from (int(m) for m in members[np.argsort(apart, kind="stable")[:NEAR]])


def _without(batch: Members, user: int) -> Members:
    return tuple(m for m in batch if m != user)


def _with(batch: Members, user: int) -> Members:
    return tuple(sorted((*batch, user)))
