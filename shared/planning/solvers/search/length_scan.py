"""Draft lengths for many partitions at once: nearly as good as the exact ones, in a few sweeps over arrays.

At several cycle bounds and prices of a verification millisecond, each batch independently takes its best option.
"""

from collections.abc import Sequence

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.batch_types import BatchTypes, Members
from shared.planning.solvers.arrays.options import approximate_options
from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan

FILL_ROUNDS = 1
PRICES = np.array([0.02, 0.4, 0.8, 1.1])  # relative to the value of a millisecond of the cycle
SWEEP_MEMBERS = 4000  # members of the batches in one sweep, about: as many as fit into the processor's cache


def scan(
    arrays: ProblemArrays,
    partitions: Sequence[Sequence[Members]],
    cycle_bounds_ms: Floats,
    score: float,
    max_plans: int = 1,
    shares: Floats = PRICES,
) -> list[ScoredPlan]:
    """Good plans of the best partitions, best first; fewer than max_plans where fewer fit.

    cycle_bounds_ms: to try for each partition [partitions, C]. score: about that of the plans, which sets the prices.
    shares: prices relative to the value of a millisecond of the cycle.
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
    """All partitions at C cycle bounds and P prices. A try is a partition at one bound; rows are its batch types."""

    def __init__(
        self, arrays: ProblemArrays, types: BatchTypes, cycle_bounds_ms: Floats, score: float, shares: Floats
    ) -> None:
        """cycle_bounds_ms: [partitions, C]."""
        self._arrays, self._types, tries = arrays, types, cycle_bounds_ms.shape[1]
        shift = np.arange(tries)[:, None] * len(types.batches)
        self._starts = (types.starts + shift).ravel()  # first row of each try
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
        """The plan of each partition at one price; for sweeps with one cycle bound."""
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
        """For each try, give the time left within the cycle bound to the batch type that gains most.

        Time is left over at a price, because there are few options.
        """
        values, verify = self._options.values, self._options.verify_ms
        value, time = self._value_and_time(taken)
        left = (self._cycle_bounds - self._sums(taken)[1])[:, self._try] / (self._arrays.copies * self._times)
        allowed = verify <= (time + left)[:, :, None] + 1e-9  # [P, rows, K]
        option = np.where(allowed, values, -np.inf).argmax(axis=2)
        with np.errstate(invalid="ignore"):
            gain = (self._value_and_time(option)[0] - value) * self._times  # NaN where no option is possible
            max_gain = np.fmax.reduceat(gain, self._starts, axis=1)[:, self._try]
        return np.asarray(np.where((gain > 0) & (gain == max_gain), option, taken))

    def _value_and_time(self, taken: Ints) -> tuple[Floats, Floats]:
        """Values and verification times of chosen options [P, rows]."""
        rows = np.arange(taken.shape[1])
        return self._options.values[rows, taken], self._options.verify_ms[rows, taken]

    def _sums(self, taken: Ints) -> tuple[Floats, Floats]:
        """Σ value and Σ verification time of each try [P, tries]."""
        value, time = (
            np.add.reduceat(of * self._times, self._starts, axis=1) for of in self._value_and_time(taken)
        )
        return value, time
