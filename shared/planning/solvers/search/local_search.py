"""Local search: move one user, to a new batch too, or swap two; lengths re-solved.

Within a cap, and for a batch of given size, t_v is known for every option, so a batch's value is a sum over its
members, and what a change makes of it is one term more or less. So all changes are scored at once, from the terms of
users in every batch at its size, one less and one more. The best few are then looked at with their true lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays.batch_types import Members, Types
from shared.planning.solvers.arrays.options import Batches, drafts_up_to
from shared.planning.solvers.arrays.problem_arrays import Arrays, Bools, Floats, Ints
from shared.planning.solvers.arrays.scored_plan import Plan
from shared.planning.solvers.search.length_scan import scan

SHORTER = 1 - 1e-6  # of a longest loop: a cap just below it
CAPS = np.array([0.92, 1.0, 1.12])  # of the plan's cycle: where changes are scored
# Where the best of them are re-solved:
AROUND = np.array([0.82, 0.92, 0.97, 1.0, 1.04, 1.12, 1.25])
CLOSE = np.array(
    [0.88, 0.94, 0.97, 0.99, 1.0, 1.01, 1.03, 1.06, 1.12]
)  # of the cycle: caps of a close look at lengths
CLOSE_SHARES = np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])
REFINED = 3  # close looks
SHARES = np.array([0.1, 0.8])  # prices, of what a millisecond of the cycle is worth
TRIED = 6  # changes whose lengths are scanned
TRULY = 4  # of these, whose true score is computed
SLACK = 0.06  # a change scored this much below the plan may still be better once its lengths are scanned
MEMBERS = 4000  # of the batches that are scanned, about
SWAPPED = 28  # users that may be swapped in a round
MOVES = 2000  # looked at in a round, about
IMPOSSIBLE = -1e9  # value of a draft that cannot be; finite, so that it can be taken out of a sum again


def improve(
    arrays: Arrays,
    plan: Plan,
    rounds: int,
    users: Sequence[int] | None = None,
    known: set[frozenset[Members]] | None = None,
) -> Plan:
    """A plan at least as good.

    users: only those may move; None = all. known: batches that were searched around, and are not again; more are
    added.
    """
    movable = np.arange(len(arrays)) if users is None else np.array(sorted(set(users)), dtype=np.int64)
    known = set() if known is None else known
    for turn in range(rounds):
        batches = frozenset(plan.split.batches)
        if batches in known:
            break
        known.add(batches)
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


def refine_lengths(arrays: Arrays, plan: Plan) -> Plan:
    """The same batches with lengths looked at more closely; a plan at least as good."""
    for _ in range(REFINED):
        caps = np.append(plan.cycle_ms * CLOSE, plan.loop_ms * SHORTER)[None]
        found = scan(arrays, [plan.split.batches], caps, plan.score, shares=CLOSE_SHARES)
        if not found or found[0].score <= plan.score:
            break
        plan = found[0]
    return plan


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
        types = Types.of(arrays, [plan.split.batches])
        self._count = len(types.batches)
        self._first = np.unique(types.type, return_index=True)[1]  # of the plan's batches, one of each type
        self._times = np.append(types.times, 1.0)[:, None, None]
        self._batches = _with_a_new_one(arrays, types.batches)
        self._batch = np.empty(len(arrays), dtype=np.int64)  # of each user, among the plan's
        self._batch[types.members] = types.owner
        self._home = types.type[self._batch]
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
        all_value, all_time = (
            (value * self._times).sum(axis=0) + values,
            (time * self._times).sum(axis=0) + times,
        )
        scores = arrays.scores(all_value, all_time, caps[:, None]).max(axis=(1, 2))
        return np.where(self._possible, scores, -np.inf)

    def apply(self, change: int) -> list[Members]:
        """The plan's batches after a change."""
        batches = [*self._plan.split.batches, ()]
        goals = [*self._first.tolist(), len(batches) - 1]
        moves = len(self._users) * len(goals)
        if change < moves:
            user, there = divmod(change, len(goals))
            exchanged = [(int(self._users[user]), goals[there])]
        else:
            index, other_index = divmod(change - moves, len(self._others))
            one, other = int(self._ones[index]), int(self._others[other_index])
            exchanged = [(one, int(self._batch[other])), (other, int(self._batch[one]))]
        for user, there in exchanged:
            home = int(self._batch[user])
            batches[home] = tuple(m for m in batches[home] if m != user)
            batches[there] = tuple(sorted((*batches[there], user)))
        return [batch for batch in batches if batch]

    def _moves(self) -> Bools:
        """Which moves may be, [users, types of batches and a new one]."""
        arrays, rows, users = self._arrays, self._batches, self._users
        count, home, new = arrays.count[users], self._home[users], np.arange(self._count + 1) == self._count
        batches = len(self._plan.split.batches)
        alone = rows.users[home] == count
        closes_or_not = ~alone | (batches > arrays.bounds.min_batches)
        opens_or_not = ~new | ((batches < arrays.max_batches) & ~alone[:, None])
        there = (
            np.where(new, 0.0, rows.users),
            np.where(new, 0.0, rows.prefix),
            np.where(new, 0.0, rows.prefixes),
        )
        fits = self._fits(*there, users[:, None])
        elsewhere = home[:, None] != np.arange(self._count + 1)
        return np.asarray(elsewhere & closes_or_not[:, None] & opens_or_not & fits)

    def _swaps(self) -> Bools:
        """Which swaps may be, [users, users]."""
        arrays, rows, possible = self._arrays, self._batches, np.array(True)
        one, other = self._ones[:, None], self._others
        for out, into in ((one, other), (other, one)):
            at = self._home[out]
            users = rows.users[at] - arrays.count[out]
            prefixes = rows.prefixes[at] - arrays.count[out] * arrays.prefix[out]
            possible = possible & self._fits(users, rows.prefix[at], prefixes, into)
        return np.asarray((self._home[one] != self._home[other]) & possible)

    def _fits(self, users: Floats, prefix: Floats, prefixes: Floats, newcomer: Ints) -> Bools:
        """Whether there is room for a newcomer in a batch of these."""
        arrays, count, own = self._arrays, self._arrays.count[newcomer], self._arrays.prefix[newcomer]
        room = arrays.server.room_bytes(users + count, np.maximum(prefix, own), prefixes + count * own)
        return np.asarray(room) <= arrays.server.memory_bytes

    def _moved(
        self, caps: Floats, level: Floats, choose: "_Choose", value: Floats, time: Floats
    ) -> tuple[Floats, Floats]:
        """What moves add to the sums, [users, batches + 1, C, P]."""
        users, home = self._users, self._home[self._users]
        less = self._terms(caps, level, -1.0, users, home)
        value_left, time_left = choose.best(less.value[home] - less.worth, less.time[home] - less.cost)
        alone = self._batches.users[home] == self._arrays.count[users]
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
            return drafts_up_to(arrays, top, coarse=True).astype(np.float64)
        most = np.maximum(arrays.drafts(rows.members, np.tile(caps, (len(rows.members), 1))), 0)
        return rows.counted(np.minimum(arrays.wished[rows.members, ::-2][:, None], most[:, :, None]))

    def _terms(
        self, caps: Floats, level: Floats, more: float, users: Ints, home: Ints | None = None
    ) -> _Terms:
        """Of batches with so many users more. home: of each user, the one batch to see it in; None = all."""
        arrays, rows, new = self._arrays, self._batches, self._count
        some = more * arrays.count.mean()
        size = np.maximum(rows.users + some, 0.0)
        size[new] = max(0.0, some)
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
        value = rows.counted(own_worth)
        value[new] = 0.0
        if arrays.packed:
            time = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0)) + rows.counted(own_cost)
            time[new] -= own_cost[-1]
        seen = slack[home] if home is not None else np.broadcast_to(slack, (len(users), *slack.shape))
        worth, cost = self._parts(users, seen, level)
        many = arrays.count[users].reshape((-1,) + (1,) * (worth.ndim - 1))
        return _Terms(value, time, worth * many, cost * many)

    def _parts(self, users: Ints, slack: Floats, level: Floats) -> tuple[Floats, Floats]:
        """What users are worth and cost with so much time for draft and link, [users, ..., K]."""
        arrays = self._arrays
        shape = (len(users),) + (1,) * (slack.ndim - 2)
        wished = arrays.wished[users, ::-2].reshape(*shape, -1) if arrays.packed else level.astype(np.int64)
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


def _with_a_new_one(arrays: Arrays, batches: Batches) -> Batches:
    """And one more, of the user with the shortest prefix, which is not there yet."""
    return Batches(
        arrays,
        np.append(batches.members, arrays.prefix.argmin()),
        np.append(batches.starts, len(batches.members)),
        np.append(batches.count, 1.0),
    )


def _some(users: Ints, turn: int, wanted: int) -> Ints:
    """About so many of them, others each turn."""
    step = max(1, -(-len(users) // wanted))
    return users[turn % step :: step]
