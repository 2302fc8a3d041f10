"""Local search: move one user, also to a new batch, or swap two users; then choose lengths again.

Within a cycle bound, and for a batch of given size, t_v is known for each option. So the value of a batch is a sum over
its members, and a change adds or removes one term. All changes are scored at once, from the terms of users in each
batch at its size, one user less and one more. The best few changes are then scanned with their true lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays.batch_types import BatchTypes, Members
from shared.planning.solvers.arrays.options import Batches, length_grid
from shared.planning.solvers.arrays.problem_arrays import Bools, Floats, Ints, ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.search.length_scan import scan

SHORTER = 1 - 1e-6  # of a longest loop: a cycle bound just below it
SCORING_BOUNDS = np.array([0.92, 1.0, 1.12])  # of the plan's cycle: cycle bounds at which changes are scored
SCAN_BOUNDS = np.array([0.82, 0.92, 0.97, 1.0, 1.04, 1.12, 1.25])  # and at which the best changes are scanned
FINE_BOUNDS = np.array(
    [0.88, 0.94, 0.97, 0.99, 1.0, 1.01, 1.03, 1.06, 1.12]
)  # and at which lengths are refined
FINE_SHARES = np.array(
    [0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]
)  # prices at which lengths are refined
REFINE_ROUNDS = 3
SHARES = np.array([0.1, 0.8])  # prices of changes, relative to the value of a millisecond of the cycle
SCANNED_CHANGES = 6  # changes whose lengths are scanned
SCORED_CHANGES = 4  # of these, changes whose true score is computed
SLACK = 0.06  # a change scored this much below the plan may still be better after its lengths are scanned
MAX_MEMBERS = 4000  # of the batches that are scanned, about
SWAP_USERS = 28  # users that may be swapped in a round
MAX_MOVES = 2000  # scored in a round, about
IMPOSSIBLE = -1e9  # value of an impossible draft; finite, so that it can be subtracted from a sum again


def improve(
    arrays: ProblemArrays,
    plan: ScoredPlan,
    rounds: int,
    users: Sequence[int] | None = None,
    searched: set[frozenset[Members]] | None = None,
) -> ScoredPlan:
    """A plan at least as good.

    rounds: changes at most. users: those who may move; None = all. searched: partitions whose neighbours were searched
    already and are skipped; the function adds to it.
    """
    movable = np.arange(len(arrays)) if users is None else np.array(sorted(set(users)), dtype=np.int64)
    searched = set() if searched is None else searched
    for turn in range(rounds):
        batches = frozenset(plan.split.batches)
        if batches in searched:
            break
        searched.add(batches)
        changed = _best_changes(arrays, plan, movable, turn)
        if not changed:
            break
        better = relength(arrays, changed, plan)
        if better.score <= plan.score:
            break
        plan = better
    return plan


def relength(arrays: ProblemArrays, partitions: Sequence[Sequence[Members]], plan: ScoredPlan) -> ScoredPlan:
    """The best plan with one of these partitions if it is better than `plan`, else `plan`; cycles are about equal."""
    cycle_bounds = np.tile(
        np.append(plan.cycle_ms * SCAN_BOUNDS, plan.loop_ms * SHORTER), (len(partitions), 1)
    )
    plans = scan(arrays, partitions, cycle_bounds, plan.score, SCORED_CHANGES)
    return max([plan, *plans], key=lambda each: each.score)


def refine_lengths(arrays: ProblemArrays, plan: ScoredPlan) -> ScoredPlan:
    """A plan with the same batches that is at least as good, from a finer grid of cycle bounds and prices."""
    for _ in range(REFINE_ROUNDS):
        cycle_bounds = np.append(plan.cycle_ms * FINE_BOUNDS, plan.loop_ms * SHORTER)[None]
        plans = scan(arrays, [plan.split.batches], cycle_bounds, plan.score, shares=FINE_SHARES)
        if not plans or plans[0].score <= plan.score:
            break
        plan = plans[0]
    return plan


def _best_changes(arrays: ProblemArrays, plan: ScoredPlan, users: Ints, turn: int) -> list[list[Members]]:
    """The partitions after the most promising changes, best first."""
    table = _Changes(arrays, plan, users, turn)
    cycle_bounds = np.append(plan.cycle_ms * SCORING_BOUNDS, plan.loop_ms * SHORTER)
    scores = table.scores(cycle_bounds)
    kept = max(1, min(SCANNED_CHANGES, MAX_MEMBERS // len(arrays)))
    best = np.argsort(-scores, kind="stable")[:kept]
    return [table.apply(int(n)) for n in best if scores[n] > plan.score - SLACK * abs(plan.score)]


@dataclass(frozen=True)
class _Terms:
    """Batches of one size at C cycle bounds with K options.

    value, time: of a batch with its present members [batches, C, K]. worth, cost: what a user would add to these as a
    member [users, batches, C, K]. Under the padded law no cost is a single user's, since rows are padded.
    """

    value: Floats
    time: Floats
    worth: Floats
    cost: Floats


class _Changes:
    """All changes of a plan: first moves [users, batches and an empty one], then swaps [users, users]."""

    def __init__(self, arrays: ProblemArrays, plan: ScoredPlan, users: Ints, turn: int) -> None:
        self._arrays, self._plan = arrays, plan
        types = BatchTypes.of(arrays, [plan.split.batches])
        self._count = len(types.batches)
        self._first = np.unique(types.type_of_batch, return_index=True)[
            1
        ]  # one of the plan's batches of each type
        self._times = np.append(types.multiplicity, 1.0)[:, None, None]
        self._batches = _with_empty_batch(arrays, types.batches)
        self._batch = np.empty(len(arrays), dtype=np.int64)  # of each user, among the plan's
        self._batch[types.members] = types.owner
        self._home = types.type_of_batch[self._batch]
        self._users = _every_nth(users, turn, max(1, MAX_MOVES // (self._count + 1)))
        self._ones, self._others = (
            _every_nth(users, turn, SWAP_USERS),
            _every_nth(np.arange(len(arrays)), turn, SWAP_USERS),
        )
        self._possible = np.concatenate([self._moves().ravel(), self._swaps().ravel()])

    def scores(self, cycle_bounds: Floats) -> Floats:
        """The best score of each change over the cycle bounds [C]; -inf for impossible changes."""
        arrays, plan = self._arrays, self._plan
        prices = np.array(
            [
                arrays.objective.price(plan.score, arrays.total_weight, float(cycle_bound))
                for cycle_bound in cycle_bounds
            ]
        )
        choose = _Choose(prices[:, None] * SHARES)  # [C, P]
        level = self._level(cycle_bounds)
        same = self._terms(cycle_bounds, level, 0.0, np.concatenate([self._ones, self._others]))
        value, time = choose.best(same.value, same.time)  # [batches, C, P]
        value[self._count], time[self._count] = 0.0, 0.0  # the new batch is empty
        parts = (
            self._move_deltas(cycle_bounds, level, choose, value, time),
            self._swap_deltas(same, choose, value, time),
        )
        values, times = (
            np.concatenate([part[n].reshape(-1, *value.shape[1:]) for part in parts]) for n in (0, 1)
        )
        all_value, all_time = (
            (value * self._times).sum(axis=0) + values,
            (time * self._times).sum(axis=0) + times,
        )
        scores = arrays.scores(all_value, all_time, cycle_bounds[:, None]).max(axis=(1, 2))
        return np.where(self._possible, scores, -np.inf)

    def apply(self, change: int) -> list[Members]:
        """The partition after a change."""
        batches = [*self._plan.split.batches, ()]
        goals = [*self._first.tolist(), len(batches) - 1]
        moves = len(self._users) * len(goals)
        if change < moves:
            user, target = divmod(change, len(goals))
            exchanged = [(int(self._users[user]), goals[target])]
        else:
            index, other_index = divmod(change - moves, len(self._others))
            one, other = int(self._ones[index]), int(self._others[other_index])
            exchanged = [(one, int(self._batch[other])), (other, int(self._batch[one]))]
        for user, target in exchanged:
            home = int(self._batch[user])
            batches[home] = tuple(m for m in batches[home] if m != user)
            batches[target] = tuple(sorted((*batches[target], user)))
        return [batch for batch in batches if batch]

    def _moves(self) -> Bools:
        """Which moves are possible [users, types of batches and a new batch]."""
        arrays, rows, users = self._arrays, self._batches, self._users
        count, home, new = arrays.count[users], self._home[users], np.arange(self._count + 1) == self._count
        batches = len(self._plan.split.batches)
        alone = rows.users[home] == count
        may_close = ~alone | (batches > arrays.bounds.min_batches)
        may_open = ~new | ((batches < arrays.max_batches) & ~alone[:, None])
        joined = (
            np.where(new, 0.0, rows.users),
            np.where(new, 0.0, rows.prefix),
            np.where(new, 0.0, rows.prefixes),
        )
        fits = self._fits(*joined, users[:, None])
        leaves_home = home[:, None] != np.arange(self._count + 1)
        return np.asarray(leaves_home & may_close[:, None] & may_open & fits)

    def _swaps(self) -> Bools:
        """Which swaps are possible [users, users]."""
        arrays, rows, possible = self._arrays, self._batches, np.array(True)
        one, other = self._ones[:, None], self._others
        for out, into in ((one, other), (other, one)):
            at = self._home[out]
            users = rows.users[at] - arrays.count[out]
            prefixes = rows.prefixes[at] - arrays.count[out] * arrays.prefix[out]
            possible = possible & self._fits(users, rows.prefix[at], prefixes, into)
        return np.asarray((self._home[one] != self._home[other]) & possible)

    def _fits(self, users: Floats, prefix: Floats, prefixes: Floats, newcomer: Ints) -> Bools:
        """Whether a newcomer fits into the memory of a batch with these sums."""
        arrays, count, own = self._arrays, self._arrays.count[newcomer], self._arrays.prefix[newcomer]
        needed = arrays.server.needed_bytes(users + count, np.maximum(prefix, own), prefixes + count * own)
        return np.asarray(needed) <= arrays.server.memory_bytes

    def _move_deltas(
        self, cycle_bounds: Floats, level: Floats, choose: "_Choose", value: Floats, time: Floats
    ) -> tuple[Floats, Floats]:
        """What moves add to Σ value and Σ time [users, batches + 1, C, P]."""
        users, home = self._users, self._home[self._users]
        less = self._terms(cycle_bounds, level, -1.0, users, home)
        value_left, time_left = choose.best(less.value[home] - less.worth, less.time[home] - less.cost)
        alone = self._batches.users[home] == self._arrays.count[users]
        value_left[alone], time_left[alone] = 0.0, 0.0
        more = self._terms(cycle_bounds, level, 1.0, users)
        value_joined, time_joined = choose.best(more.value + more.worth, more.time + more.cost)
        return (
            (value_left - value[home])[:, None] + (value_joined - value),
            (time_left - time[home])[:, None] + (time_joined - time),
        )

    def _swap_deltas(
        self, same: _Terms, choose: "_Choose", value: Floats, time: Floats
    ) -> tuple[Floats, Floats]:
        """What swaps add to Σ value and Σ time [users, users, C, P]."""
        homes, other_homes = self._home[self._ones], self._home[self._others]
        one, other = np.arange(len(homes))[:, None], len(homes) + np.arange(len(other_homes))
        both = []
        for of, out, into in (
            (homes[:, None], one, other),
            (np.broadcast_to(other_homes, (len(homes), len(other_homes))), other, one),
        ):
            values = same.value[of] - same.worth[out, of] + same.worth[into, of]
            times = same.time[of]
            if self._arrays.packed:
                times = times - same.cost[out, of] + same.cost[into, of]
            both.append(choose.best(values, times))
        return (
            both[0][0] + both[1][0] - value[homes][:, None] - value[other_homes],
            both[0][1] + both[1][1] - time[homes][:, None] - time[other_homes],
        )

    def _level(self, cycle_bounds: Floats) -> Floats:
        """Levels of the present batches: longest drafts [K] (padded), or drafted tokens [batches, C, K] (packed)."""
        arrays, rows = self._arrays, self._batches
        if not arrays.packed:
            top = int(
                arrays.affordable_lengths(
                    np.arange(len(arrays)), cycle_bounds.max() - arrays.solo_verify_ms[0]
                ).max()
            )
            return length_grid(arrays, top, coarse=True).astype(np.float64)
        max_lengths = np.maximum(
            arrays.affordable_lengths(rows.members, np.tile(cycle_bounds, (len(rows.members), 1))), 0
        )
        return rows.counted(
            np.minimum(arrays.lengths_by_gain[rows.members, ::-2][:, None], max_lengths[:, :, None])
        )

    def _terms(
        self, cycle_bounds: Floats, level: Floats, more: float, users: Ints, home: Ints | None = None
    ) -> _Terms:
        """The terms of batches with `more` additional users. home: the only batch for each user; None = all batches."""
        arrays, rows, new = self._arrays, self._batches, self._count
        some = more * arrays.count.mean()
        size = np.maximum(rows.users + some, 0.0)
        size[new] = max(0.0, some)
        scale = (size / rows.users)[:, None, None]
        shape = (len(rows), 1 if not arrays.packed else len(cycle_bounds), level.shape[-1])
        levels = np.broadcast_to(level * scale if arrays.packed else level, shape)
        time = np.array(
            arrays.server.verify_ms(
                size[:, None, None], levels, levels, rows.prefix[:, None, None], rows.prefixes[:, None, None]
            )
        )
        slack = cycle_bounds[:, None] - time  # [batches, C, K]
        own_worth, own_cost = self._parts(rows.members, slack[rows.owner], level)
        value = rows.counted(own_worth)
        value[new] = 0.0
        if arrays.packed:
            time = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0)) + rows.counted(own_cost)
            time[new] -= own_cost[-1]
        slack_of_users = (
            slack[home] if home is not None else np.broadcast_to(slack, (len(users), *slack.shape))
        )
        worth, cost = self._parts(users, slack_of_users, level)
        many = arrays.count[users].reshape((-1,) + (1,) * (worth.ndim - 1))
        return _Terms(value, time, worth * many, cost * many)

    def _parts(self, users: Ints, slack: Floats, level: Floats) -> tuple[Floats, Floats]:
        """Worth and cost of users with `slack` ms for draft and link [users, ..., K]."""
        arrays = self._arrays
        shape = (len(users),) + (1,) * (slack.ndim - 2)
        lengths_by_gain = (
            arrays.lengths_by_gain[users, ::-2].reshape(*shape, -1)
            if arrays.packed
            else level.astype(np.int64)
        )
        drafts = np.minimum(arrays.affordable_lengths(users, slack), lengths_by_gain)
        worth = np.maximum(arrays.values(users, drafts), IMPOSSIBLE)
        if not arrays.packed:
            return worth, np.zeros(1)
        fixed = float(arrays.server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0))
        prefix = arrays.prefix[users].reshape(*shape, 1)
        cost = np.asarray(arrays.server.verify_ms(1.0, drafts, np.maximum(drafts, 0), prefix, prefix)) - fixed
        return worth, cost


@dataclass(frozen=True)
class _Choose:
    """Chooses the best of K options at each price [C, P]."""

    prices: Floats

    def best(self, value: Floats, time: Floats) -> tuple[Floats, Floats]:
        """Value and time of the best options, [..., C, K] → [..., C, P]."""
        time = np.broadcast_to(time, value.shape)
        places = np.arange(0, value.size, value.shape[-1]).reshape(value.shape[:-1])
        chosen = [
            (value - self.prices[:, n, None] * time).argmax(axis=-1) + places
            for n in range(self.prices.shape[1])
        ]
        option = np.stack(chosen, axis=-1)
        return value.ravel().take(option), time.ravel().take(option)


def _with_empty_batch(arrays: ProblemArrays, batches: Batches) -> Batches:
    """The batches and a new one; the user with the shortest prefix stands in as its member."""
    return Batches(
        arrays,
        np.append(batches.members, arrays.prefix.argmin()),
        np.append(batches.starts, len(batches.members)),
        np.append(batches.count, 1.0),
    )


def _every_nth(users: Ints, turn: int, count: int) -> Ints:
    """About `count` of the users, other ones in each turn."""
    step = max(1, -(-len(users) // count))
    return users[turn % step :: step]
