"""Draft lengths for many partitions at once, nearly as good as the exact ones and in few sweeps of arrays.

For caps around a given one, and for prices of a verify millisecond, every batch takes its best option by itself.
"""

from collections.abc import Sequence

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.batch_types import BatchTypes, Members
from shared.planning.solvers.arrays.options import approximate_options
from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan

FILL_ROUNDS = 1
FINE_USERS = 8  # up to whom all options are looked at before the best is chosen
PRICES = np.array([0.02, 0.4, 0.8, 1.1])  # of what a millisecond of the cycle is worth
SWEEP_MEMBERS = 4000  # members of the batches of a sweep, about: as many as the processor's cache holds


def scan(
    arrays: ProblemArrays,
    partitions: Sequence[Sequence[Members]],
    cycle_bounds_ms: Floats,
    score: float,
    max_plans: int = 1,
    shares: Floats = PRICES,
) -> list[ScoredPlan]:
    """Good plans of the best partitions, best first; fewer than wanted where not so many fit.

    caps_ms: [partitions, C], the longest loops to try. score: about what a plan will have, to set prices by. shares:
    prices, of what a millisecond of the cycle is worth.
    """
    if not partitions:
        return []
    types = BatchTypes.of(arrays, partitions)
    tries = np.arange(cycle_bounds_ms.shape[1])
    sweeps = np.array_split(
        tries, min(len(tries), -(-len(tries) * len(types.batches.members) // SWEEP_MEMBERS))
    )
    scores = np.concatenate(
        [_Sweep(arrays, types, cycle_bounds_ms[:, part], score, shares).scores for part in sweeps], axis=1
    )
    best = scores.reshape(len(partitions), -1)  # [partitions, C · P]
    taken, score_of = best.argmax(axis=1), best.max(axis=1)
    order = [n for n in np.argsort(-score_of, kind="stable")[:max_plans] if score_of[n] > -np.inf]
    if not order:
        return []
    cycle_bound, price = np.divmod(taken, len(shares))
    chosen = BatchTypes.of(arrays, [partitions[n] for n in order])
    final = _Sweep(arrays, chosen, cycle_bounds_ms[order, cycle_bound[order]][:, None], score, shares)
    return sorted(final.plans([partitions[n] for n in order], price[order]), key=lambda plan: -plan.score)


class _Sweep:
    """All partitions at each of some caps and at every price; rows are types of batches, first all at one cap."""

    def __init__(
        self, arrays: ProblemArrays, types: BatchTypes, cycle_bounds_ms: Floats, score: float, shares: Floats
    ) -> None:
        """caps_ms: [partitions, C]."""
        self._arrays, self._types, tries = arrays, types, cycle_bounds_ms.shape[1]
        shift = np.arange(tries)[:, None] * len(types.batches)
        self._starts = (types.starts + shift).ravel()  # of each try among the rows
        self._try = (types.partition + np.arange(tries)[:, None] * len(types.starts)).ravel()  # of each row
        self._times = np.tile(types.multiplicity, tries)
        self._cycle_bounds = cycle_bounds_ms.T.ravel()  # of each try
        self._options = approximate_options(types.batches.repeated(tries), self._cycle_bounds[self._try])
        self._prices = shares[:, None] * [
            arrays.objective.price(score, arrays.total_weight, float(cycle_bound))
            for cycle_bound in self._cycle_bounds
        ]  # [P, tries]
        self._taken = self._choose()  # [P, rows]
        value, time = self._sums(self._taken)
        scores = arrays.scores(value, time, self._cycle_bounds)  # [P, tries]
        self.scores: Floats = scores.reshape(len(shares), tries, -1).transpose(2, 1, 0)  # [partitions, C, P]

    def plans(self, partitions: Sequence[Sequence[Members]], price: Ints) -> list[ScoredPlan]:
        """Of the partitions, at one price for each; where there is one cap."""
        types = self._types
        option = self._taken[price[types.partition], np.arange(len(types.partition))]
        lengths = self._options.chosen_lengths(option)
        of_users = np.empty((len(types.starts), len(self._arrays)), dtype=np.int64)
        shape = of_users.shape
        np.put_along_axis(of_users, types.members.reshape(shape), lengths[types.entry].reshape(shape), axis=1)
        splits = [
            Split(tuple(batches), tuple(each))
            for batches, each in zip(partitions, of_users.tolist(), strict=True)
        ]
        return ScoredPlan.all_of(self._arrays, types, lengths, splits)

    def _choose(self) -> Ints:
        values, verify = self._options.values, self._options.verify_ms  # [rows, K]
        taken: Ints = (values - self._prices[:, self._try, None] * verify).argmax(axis=2)
        for _ in range(FILL_ROUNDS):
            taken = self._fill(taken)
        return taken

    def _fill(self, taken: Ints) -> Ints:
        """Of every try, the one type changed that gains most in the verifier's time left within the cap.

        A price leaves time over, since options are few.
        """
        values, verify = self._options.values, self._options.verify_ms
        value, time = self._value_and_time(taken)
        left = (self._cycle_bounds - self._sums(taken)[1])[:, self._try] / (self._arrays.copies * self._times)
        allowed = verify <= (time + left)[:, :, None] + 1e-9  # [P, rows, K]
        option = np.where(allowed, values, -np.inf).argmax(axis=2)
        with np.errstate(invalid="ignore"):
            gain = (self._value_and_time(option)[0] - value) * self._times  # NaN where nothing can be
            max_gain = np.fmax.reduceat(gain, self._starts, axis=1)[:, self._try]
        return np.asarray(np.where((gain > 0) & (gain == max_gain), option, taken))

    def _value_and_time(self, taken: Ints) -> tuple[Floats, Floats]:
        """Values and times of options taken [P, rows]."""
        rows = np.arange(taken.shape[1])
        return self._options.values[rows, taken], self._options.verify_ms[rows, taken]

    def _sums(self, taken: Ints) -> tuple[Floats, Floats]:
        """Σ value and Σ time of every try, [P, tries]."""
        value, time = (
            np.add.reduceat(of * self._times, self._starts, axis=1) for of in self._value_and_time(taken)
        )
        return value, time
