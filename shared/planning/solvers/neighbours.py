"""Local search: move one user, to a new batch too, or swap two; lengths re-solved.

Within a cap, and for a batch of given size, t_v is known for every option, so a batch's value is a sum over its
members, and what a change makes of it is one term more or less. So all changes are scored at once, from the terms of
users in every batch at its size, one less and one more. The best few are then looked at with their true lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays import Arrays, Bools, Floats, Ints
from shared.planning.solvers.options import Batches
from shared.planning.solvers.plan import Plan
from shared.planning.solvers.scan import scan
from shared.planning.solvers.types import Members

SHORTER = 1 - 1e-6  # of a longest loop: a cap just below it
CAPS = np.array([0.85, 0.95, 1.0, 1.1, 1.25])  # of the plan's cycle: where changes are scored
# Where the best of them are re-solved:
AROUND = np.array([0.75, 0.84, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.18, 1.3])
SHARES = np.array([0.02, 0.5, 1.0])  # prices, of what a millisecond of the cycle is worth
TRIED = 6  # changes whose lengths are scanned
TRULY = 2  # of these, whose true score is computed
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
    found = scan(arrays, partitions, caps, plan.score, TRULY)
    return max([plan, *found], key=lambda each: each.score)


def _best_changes(arrays: Arrays, plan: Plan, users: Ints, turn: int) -> list[list[Members]]:
    """What the most promising changes make of the plan's batches, best first."""
    table = _Changes(arrays, plan, users, turn)
    caps = np.append(plan.cycle_ms * CAPS, plan.loop_ms * SHORTER)
    scores = table.scores(caps)
    tried = max(1, min(TRIED, MEMBERS // len(arrays)))
    best = np.argsort(-scores, kind="stable")[:tried]
    return [table.apply(int(n)) for n in best if scores[n] > plan.score - SLACK * abs(plan.score)]


@dataclass(frozen=True)
class _Terms:
    """Of batches of one size, within C caps, K options.

    value, time [batches, C, K]: with the members there are. worth, cost [users, batches, C, K]: a user's part of that,
    if it were there. Under the padded law rows cost what the longest costs: no part is a user's.
    """

    value: Floats
    time: Floats
    worth: Floats
    cost: Floats


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
        self._possible = np.concatenate([self._moves().ravel(), self._swaps().ravel()])

    def scores(self, caps: Floats) -> Floats:
        """Of every change, the best within any of some caps [C]; -inf where it cannot be."""
        arrays, plan = self._arrays, self._plan
        prices = np.array([arrays.objective.price(plan.score, arrays.all_weight, float(cap)) for cap in caps])
        choose = _Choose(prices[:, None] * SHARES)  # [C, P]
        level = self._level(caps)
        same = self._terms(caps, level, 0.0, np.concatenate([self._ones, self._others]))
        value, time = choose.best(same.value, same.time)  # [batches, C, P]
        value[self._count], time[self._count] = 0.0, 0.0  # the new one is not there yet
        parts = self._moved(caps, level, choose, value, time), self._exchanged(same, choose, value, time)
        values, times = (
            np.concatenate([part[n].reshape(-1, *value.shape[1:]) for part in parts]) for n in (0, 1)
        )
        all_value, all_time = value.sum(axis=0) + values, time.sum(axis=0) + times
        scores = arrays.scores(all_value, all_time, caps[:, None]).max(axis=(1, 2))
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

    def _moved(
        self, caps: Floats, level: Floats, choose: "_Choose", value: Floats, time: Floats
    ) -> tuple[Floats, Floats]:
        """What moves add to the sums, [users, batches + 1, C, P]."""
        users, home = self._users, self._home[self._users]
        less = self._terms(caps, level, -1.0, users, home)
        value_left, time_left = choose.best(less.value[home] - less.worth, less.time[home] - less.cost)
        alone = self._batches.users[home] == 1
        value_left[alone], time_left[alone] = 0.0, 0.0
        more = self._terms(caps, level, 1.0, users)
        value_joined, time_joined = choose.best(more.value + more.worth, more.time + more.cost)
        return (
            (value_left - value[home])[:, None] + (value_joined - value),
            (time_left - time[home])[:, None] + (time_joined - time),
        )

    def _exchanged(
        self, same: _Terms, choose: "_Choose", value: Floats, time: Floats
    ) -> tuple[Floats, Floats]:
        """What swaps add to the sums, [users, users, C, P]."""
        here, there = self._home[self._ones], self._home[self._others]
        one, other = np.arange(len(here))[:, None], len(here) + np.arange(len(there))
        both = []
        for of, out, into in (
            (here[:, None], one, other),
            (np.broadcast_to(there, (len(here), len(there))), other, one),
        ):
            values = same.value[of] - same.worth[out, of] + same.worth[into, of]
            times = same.time[of]
            if self._arrays.packed:
                times = times - same.cost[out, of] + same.cost[into, of]
            both.append(choose.best(values, times))
        return (
            both[0][0] + both[1][0] - value[here][:, None] - value[there],
            both[0][1] + both[1][1] - time[here][:, None] - time[there],
        )

    def _level(self, caps: Floats) -> Floats:
        """What batches may verify as they are: longest drafts [K], or drafted tokens [batches, C, K]."""
        arrays, rows = self._arrays, self._batches
        if not arrays.packed:
            top = int(arrays.drafts(np.arange(len(arrays)), caps.max() - arrays.alone_ms[0]).max())
            least = arrays.bounds.min_draft
            return np.arange(float(least), max(top, least) + 1.0)
        most = np.maximum(arrays.drafts(rows.members, np.tile(caps, (len(rows.members), 1))), 0)
        return rows.sum(np.minimum(arrays.wished[rows.members][:, None], most[:, :, None]))

    def _terms(
        self, caps: Floats, level: Floats, more: float, users: Ints, home: Ints | None = None
    ) -> _Terms:
        """Of batches with so many users more. home: of each user, the one batch to see it in; None = all."""
        arrays, rows, new = self._arrays, self._batches, self._count
        size = rows.users + more
        size[new] = max(0.0, more)
        scale = (size / rows.users)[:, None, None]
        shape = (len(rows), 1 if not arrays.packed else len(caps), level.shape[-1])
        levels = np.broadcast_to(level * scale if arrays.packed else level, shape)
        time = np.array(
            arrays.server.verify_ms(
                size[:, None, None], levels, levels, rows.prefix[:, None, None], rows.prefixes[:, None, None]
            )
        )
        slack = caps[:, None] - time  # [batches, C, K]
        own_worth, own_cost = self._parts(rows.members, slack[rows.owner], level)
        value = rows.sum(own_worth)
        value[new] = 0.0
        if arrays.packed:
            time = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0)) + rows.sum(own_cost)
            time[new] -= own_cost[-1]
        seen = slack[home] if home is not None else np.broadcast_to(slack, (len(users), *slack.shape))
        return _Terms(value, time, *self._parts(users, seen, level))

    def _parts(self, users: Ints, slack: Floats, level: Floats) -> tuple[Floats, Floats]:
        """What users are worth and cost with so much time for draft and link, [users, ..., K]."""
        arrays = self._arrays
        shape = (len(users),) + (1,) * (slack.ndim - 2)
        wished = arrays.wished[users].reshape(*shape, -1) if arrays.packed else level.astype(np.int64)
        drafts = np.minimum(arrays.drafts(users, slack), wished)
        worth = np.maximum(arrays.values(users, drafts), IMPOSSIBLE)
        if not arrays.packed:
            return worth, np.zeros(1)
        fixed = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0))
        prefix = arrays.prefix[users].reshape(*shape, 1)
        cost = np.asarray(arrays.server.verify_ms(1.0, drafts, np.maximum(drafts, 0), prefix, prefix)) - fixed
        return worth, cost


@dataclass(frozen=True)
class _Choose:
    """The best of K options, given their values and times, at each price [C, P]."""

    prices: Floats

    def best(self, value: Floats, time: Floats) -> tuple[Floats, Floats]:
        """[..., C, K] → [..., C, P]."""
        time = np.broadcast_to(time, value.shape)
        places = np.arange(0, value.size, value.shape[-1]).reshape(value.shape[:-1])
        chosen = [
            (value - self.prices[:, n, None] * time).argmax(axis=-1) + places
            for n in range(self.prices.shape[1])
        ]
        option = np.stack(chosen, axis=-1)
        return value.ravel().take(option), time.ravel().take(option)


def _some(users: Ints, turn: int, wanted: int) -> Ints:
    """About so many of them, others each turn."""
    step = max(1, -(-len(users) // wanted))
    return users[turn % step :: step]
