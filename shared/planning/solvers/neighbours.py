"""Local search: move one user, to a new batch too, or swap two; lengths re-solved.

Within a cap, and for a batch of given size, t_v is known for every option, so a batch's value is a sum over its
members, and what a change makes of it is one term more or less. So all changes are scored at once, from the terms of
users in every batch at its size, one less and one more. The best few are then looked at with their true lengths.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays import Arrays, Bools, Floats, Ints
from shared.planning.solvers.options import Batches
from shared.planning.solvers.plan import Plan
from shared.planning.solvers.scan import Members, scan

SHORTER = 1 - 1e-6  # of a longest loop: a cap just below it
CAPS = np.array([0.85, 0.95, 1.0, 1.1, 1.25])  # of the plan's cycle: where changes are scored
# Where the best of them are re-solved:
AROUND = np.array([0.75, 0.84, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.18, 1.3])
SHARES = np.array([0.02, 0.5, 1.0])  # prices, of what a millisecond of the cycle is worth
TRIED = 6  # changes whose lengths are scanned
SLACK = 0.06  # a change scored this much below the plan may still be better once its lengths are scanned
MEMBERS = 4000  # of the batches that are scanned, about
SWAPPED = 28  # users that may be swapped in a round
MOVES = 2000  # looked at in a round, about
IMPOSSIBLE = -1e9  # value of a draft that cannot be; finite, so that it can be taken out of a sum again


def improve(arrays: Arrays, plan: Plan, rounds: int, users: Sequence[int] | None = None) -> Plan:
    """A plan at least as good. users: only those may move; None = all."""
    movable = np.arange(len(arrays)) if users is None else np.array(sorted(set(users)), dtype=np.int64)
    for turn in range(rounds):
        changed = _best_changes(arrays, plan, movable, turn)
        if not changed:
            break
        better = relength(arrays, changed, plan)
        if better.score <= plan.score:
            break
        plan = better
    return plan


def relength(arrays: Arrays, partitions: Sequence[Sequence[Members]], plan: Plan) -> Plan:
    """The best that lengths make of these partitions, if better than a plan of about the same cycle; else that."""
    caps = np.tile(np.append(plan.cycle_ms * AROUND, plan.loop_ms * SHORTER), (len(partitions), 1))
    found = [better for better in scan(arrays, partitions, caps, plan.score) if better is not None]
    return max([plan, *found], key=lambda each: each.score)


def _best_changes(arrays: Arrays, plan: Plan, users: Ints, turn: int) -> list[list[Members]]:
    """What the most promising changes make of the plan's batches, best first."""
    table = _Changes(arrays, plan, users, turn)
    caps = np.append(plan.cycle_ms * CAPS, plan.loop_ms * SHORTER)
    scores = np.max([table.scores(float(cap)) for cap in caps], axis=0)
    tried = max(1, min(TRIED, MEMBERS // len(arrays)))
    best = np.argsort(-scores, kind="stable")[:tried]
    return [table.apply(int(n)) for n in best if scores[n] > plan.score - SLACK * abs(plan.score)]


@dataclass(frozen=True)
class _Terms:
    """Within one cap, for K options and three sizes of a batch: one less than now, as now, one more.

    time, value [batches, 3, K]: of the batch with its members. cost, worth [users looked at, batches, 3, K]: a user's
    part of that, if it were in that batch. Under the padded law rows cost what the longest costs: no part is a user's.
    """

    time: Floats
    value: Floats
    cost: Floats
    worth: Floats


class _Changes:
    """All changes of a plan, in this order: moves [users, batches and a new one], then swaps [users, users]."""

    def __init__(self, arrays: Arrays, plan: Plan, users: Ints, turn: int) -> None:
        self._arrays, self._plan = arrays, plan
        self._batches = Batches.of(arrays, [*plan.split.batches, (int(arrays.prefix.argmin()),)])
        self._count = len(plan.split.batches)
        self._home = np.empty(len(arrays), dtype=np.int64)
        inside = self._batches.owner < self._count
        self._home[self._batches.members[inside]] = self._batches.owner[inside]
        self._users = _some(users, turn, max(1, MOVES // (self._count + 1)))
        self._ones, self._others = _some(users, turn, SWAPPED), _some(np.arange(len(arrays)), turn, SWAPPED)
        self._looked_at = np.unique(np.concatenate([self._users, self._ones, self._others]))
        self._at = np.searchsorted(self._looked_at, np.arange(len(arrays)))  # of a user among them
        self._possible = np.concatenate([self._moves().ravel(), self._swaps().ravel()])

    def scores(self, cap: float) -> Floats:
        """Of every change; -inf where it cannot be."""
        arrays, plan = self._arrays, self._plan
        terms = self._terms(cap)
        prices = SHARES * arrays.objective.price(plan.score, arrays.all_weight, cap)
        value, time = _choose((terms.value[:, 1], terms.time[:, 1]), prices)  # [batches, P]
        value[self._count], time[self._count] = 0.0, 0.0  # the new one is not there yet
        rest = value.sum(axis=0), time.sum(axis=0)
        parts = self._moved(terms, value, time, prices), self._exchanged(terms, value, time, prices)
        values, times = (np.concatenate([part[n].reshape(-1, len(SHARES)) for part in parts]) for n in (0, 1))
        cycle = np.maximum(cap, rest[1] + times)
        scores = arrays.objective.score(rest[0] + values, arrays.all_weight, cycle).max(axis=1)
        return np.where(self._possible, scores, -np.inf)

    def apply(self, change: int) -> list[Members]:
        """The plan's batches after a change."""
        batches = [list(batch) for batch in self._plan.split.batches] + [[]]
        moves = len(self._users) * len(batches)
        if change < moves:
            user, there = int(self._users[change // len(batches)]), change % len(batches)
            batches[self._home[user]].remove(user)
            batches[there].append(user)
        else:
            index, other_index = divmod(change - moves, len(self._others))
            one, other = int(self._ones[index]), int(self._others[other_index])
            for out, into in ((one, other), (other, one)):
                batches[self._home[out]].remove(out)
                batches[self._home[out]].append(into)
        return [tuple(sorted(batch)) for batch in batches if batch]

    def _moves(self) -> Bools:
        """Which moves may be, [users, batches + 1]."""
        arrays, rows = self._arrays, self._batches
        home, new = self._home[self._users], np.arange(self._count + 1) == self._count
        alone = rows.users[home] == 1
        closes_or_not = ~alone | (self._count > arrays.bounds.min_batches)
        opens_or_not = ~new | ((self._count < arrays.max_batches) & ~alone[:, None])
        fits = self._fits(rows.users + ~new, self._users[:, None], np.where(new, 0.0, rows.prefixes))
        elsewhere = home[:, None] != np.arange(self._count + 1)
        return np.asarray(elsewhere & closes_or_not[:, None] & opens_or_not & fits)

    def _swaps(self) -> Bools:
        """Which swaps may be, [users, users]."""
        rows, one, other = self._batches, self._ones[:, None], self._others
        prefix = self._arrays.prefix
        fits_here = self._fits_at(self._home[one], other, rows.prefixes[self._home[one]] - prefix[one])
        fits_there = self._fits_at(self._home[other], one, rows.prefixes[self._home[other]] - prefix[other])
        return np.asarray((self._home[one] != self._home[other]) & fits_here & fits_there)

    def _fits(self, users: Floats, newcomer: Ints, prefixes: Floats) -> Bools:
        arrays = self._arrays
        prefix = np.maximum(np.where(users == 1, 0.0, self._batches.prefix), arrays.prefix[newcomer])
        room = arrays.server.room_bytes(users, prefix, prefixes + arrays.prefix[newcomer])
        return np.asarray(room) <= arrays.server.memory_bytes

    def _fits_at(self, batch: Ints, newcomer: Ints, prefixes: Floats) -> Bools:
        arrays, rows = self._arrays, self._batches
        prefix = np.maximum(rows.prefix[batch], arrays.prefix[newcomer])
        room = arrays.server.room_bytes(rows.users[batch], prefix, prefixes + arrays.prefix[newcomer])
        return np.asarray(room) <= arrays.server.memory_bytes

    def _moved(self, terms: _Terms, value: Floats, time: Floats, prices: Floats) -> tuple[Floats, Floats]:
        """What moves add to the sums, [users, batches + 1, P]."""
        users, home = self._users, self._home[self._users]
        at = self._at[users]
        left = (of[home, 0] - each[at, home, 0] for of, each in _pairs(terms))
        value_left, time_left = _choose(left, prices)
        alone = (self._batches.users[home] == 1)[:, None]
        value_left, time_left = np.where(alone, 0.0, value_left), np.where(alone, 0.0, time_left)
        joined = (of[:, 2] + each[at, :, 2] for of, each in _pairs(terms))
        value_joined, time_joined = _choose(joined, prices)
        return (
            (value_left - value[home])[:, None] + value_joined - value,
            (time_left - time[home])[:, None] + time_joined - time,
        )

    def _exchanged(self, terms: _Terms, value: Floats, time: Floats, prices: Floats) -> tuple[Floats, Floats]:
        """What swaps add to the sums, [users, users, P]."""
        one, other = self._ones[:, None], self._others
        here, there = self._home[one], self._home[other]
        one, other = self._at[one], self._at[other]
        at_here = (of[here, 1] - each[one, here, 1] + each[other, here, 1] for of, each in _pairs(terms))
        at_there = (of[there, 1] - each[other, there, 1] + each[one, there, 1] for of, each in _pairs(terms))
        value_here, time_here = _choose(at_here, prices)
        value_there, time_there = _choose(at_there, prices)
        return (
            value_here + value_there - value[here] - value[there],
            time_here + time_there - time[here] - time[there],
        )

    def _terms(self, cap: float) -> _Terms:
        arrays, rows, new = self._arrays, self._batches, self._count
        size = rows.users[:, None] + np.array([-1.0, 0.0, 1.0])
        size[new] = [0.0, 0.0, 1.0]
        if arrays.packed:
            slack = np.full(len(rows.members), cap)
            most = np.maximum(arrays.drafts(rows.members, slack), arrays.bounds.min_draft)
            drafted = rows.sum(np.minimum(arrays.wished[rows.members], most[:, None]).astype(np.float64))
            level = drafted[:, None] * (size / rows.users[:, None])[:, :, None]
        else:
            level = np.tile(self._lengths(cap).astype(np.float64), (len(rows), 3, 1))
        prefix, prefixes = rows.prefix[:, None, None], rows.prefixes[:, None, None]
        time = np.array(arrays.server.verify_ms(size[:, :, None], level, level, prefix, prefixes))
        own_cost, own_worth = self._parts(rows.members, (cap - time)[rows.owner], cap)
        slack = np.broadcast_to(cap - time, (len(self._looked_at), *time.shape))
        cost, worth = self._parts(self._looked_at, slack, cap)
        value = rows.sum(own_worth)
        value[new] = 0.0
        if arrays.packed:
            time = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0)) + rows.sum(own_cost)
            time[new] -= own_cost[-1]
        return _Terms(time, value, cost, worth)

    def _lengths(self, cap: float) -> Ints:
        """Longest drafts that a batch may have, padded law."""
        arrays = self._arrays
        top = int(arrays.drafts(np.arange(len(arrays)), cap - arrays.alone_ms[0]).max())
        return np.arange(arrays.bounds.min_draft, max(top, arrays.bounds.min_draft) + 1)

    def _parts(self, users: Ints, slack: Floats, cap: float) -> tuple[Floats, Floats]:
        """What users cost and are worth with so much time for draft and link, [users, ..., K]."""
        arrays = self._arrays
        shape = (len(users),) + (1,) * (slack.ndim - 2)
        wished = arrays.wished[users].reshape(*shape, -1) if arrays.packed else self._lengths(cap)
        drafts = np.minimum(arrays.drafts(users, slack), wished)
        worth = np.maximum(arrays.value[users.reshape(*shape, 1), drafts], IMPOSSIBLE)
        if not arrays.packed:
            return np.zeros_like(worth), worth
        fixed = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0))
        prefix = arrays.prefix[users].reshape(*shape, 1)
        cost = np.asarray(arrays.server.verify_ms(1.0, drafts, np.maximum(drafts, 0), prefix, prefix)) - fixed
        return cost, worth


def _some(users: Ints, turn: int, wanted: int) -> Ints:
    """About so many of them, others each turn."""
    step = max(1, -(-len(users) // wanted))
    return users[turn % step :: step]


def _pairs(terms: _Terms) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Values and times: of batches, and of users in them. A user's part of a time is added and taken like its value."""
    return (terms.value, terms.worth), (terms.time, terms.cost)


def _choose(options: Iterable[Floats], prices: Floats) -> tuple[Floats, Floats]:
    """The best of K options, given their values and times, at each price: [..., K] → [..., P]."""
    value, time = options
    option = (value[..., None] - time[..., None] * prices).argmax(axis=-2)  # [..., P]
    return np.take_along_axis(value, option, axis=-1), np.take_along_axis(time, option, axis=-1)
