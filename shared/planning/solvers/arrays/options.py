"""The options of a batch within a cycle bound: pairs of verification time and value, with their draft lengths.

A *cycle bound* C limits t_d(n) + t_v(n), the time from a batch's verdicts to its next ones. Fix C and the size of the
verification: the longest draft L under the padded law, or the number D of drafted tokens under the packed law. Then t_v
is known, and each user's longest draft is floor((C - t_v - comm) / draft time). So the bound decouples the users. This
is exact for both laws.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain

import numpy as np

from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays

ROUNDING = 1e-9  # of a token
FULL_GRID_LENGTHS = 7  # a coarse grid of lengths has all lengths below this


class Batches:
    """A batches, end to end: their members [E] and where each batch starts among them [A]."""

    def __init__(
        self, arrays: ProblemArrays, members: Ints, starts: Ints, count: Floats | None = None
    ) -> None:
        """count: equal users that each member stands for in its batch; None: as in the arrays."""
        self.arrays, self.members, self.starts = arrays, members, starts
        marks = np.zeros(len(members), dtype=np.int64)
        marks[starts] = 1
        self.owner: Ints = np.cumsum(marks) - 1  # [E]
        self.count = arrays.count[members] if count is None else count
        self.single = bool((self.count == 1).all())
        self.users = self.sum(self.count)  # [A]
        self.prefix = np.maximum.reduceat(arrays.prefix[members], starts)
        self.prefixes = self.counted(arrays.prefix[members])
        needed = arrays.server.needed_bytes(self.users, self.prefix, self.prefixes)
        self.fits = np.broadcast_to(np.asarray(needed) <= arrays.server.memory_bytes, self.users.shape)

    @classmethod
    def of(cls, arrays: ProblemArrays, batches: Sequence[Sequence[int]]) -> "Batches":
        """Batches of user indices, none of them empty."""
        sizes = np.fromiter(map(len, batches), dtype=np.int64, count=len(batches))
        flat = np.fromiter(chain.from_iterable(batches), dtype=np.int64, count=int(sizes.sum()))
        return cls(arrays, flat, np.cumsum(sizes) - sizes)

    def repeated(self, times: int) -> "Batches":
        """All batches, so many times over."""
        again = np.arange(times)[:, None]
        starts = (self.starts + again * len(self.members)).ravel()
        return Batches(self.arrays, np.tile(self.members, times), starts, np.tile(self.count, times))

    def __len__(self) -> int:
        return len(self.starts)

    def sum(self, of: Floats | Ints) -> Floats:
        """Σ over each batch's members, [E, ...] → [A, ...]."""
        return np.add.reduceat(of, self.starts, axis=0)

    def counted(self, of: Floats | Ints) -> Floats:
        """Σ over each batch's users, [E, ...] → [A, ...]."""
        if self.single:
            return np.asarray(self.sum(of), dtype=np.float64)
        return self.sum(of * self.count.reshape((-1,) + (1,) * (of.ndim - 1)))

    def slice_of(self, batch: int) -> slice:
        """The members of one batch, as a slice of all members."""
        last = batch + 1 == len(self.starts)
        return slice(int(self.starts[batch]), len(self.members) if last else int(self.starts[batch + 1]))

    def verify_ms(self, level: Floats) -> Floats:
        """t_v in ms for levels [A, K]: lengths of the longest draft (padded law), or drafted tokens (packed law)."""
        column = (self.users[:, None], level, level, self.prefix[:, None], self.prefixes[:, None])
        return np.asarray(self.arrays.server.verify_ms(*column))

    def value(self, lengths: Ints) -> Floats:
        """Σ of values with these drafts, [E, K] → [A, K]; -inf where a draft is -1 or the batch does not fit memory."""
        value = self.counted(self.arrays.values(self.members, lengths))
        value[~self.fits] = -np.inf
        return value

    @cached_property
    def tokens(self) -> "_Tokens":
        """The tokens that members may draft, ordered by gain; for the packed law."""
        return _Tokens(self)


class BatchOptions:
    """K options of each of A batches within its cycle bound. Impossible ones have the value -inf.

    verify_ms: [A, K], not below the true time of the option. values: [A, K].
    """

    verify_ms: Floats
    values: Floats
    _lengths: Ints  # [E, K]

    def __init__(self, batches: Batches, cycle_bounds_ms: Floats | float) -> None:
        """cycle_bounds_ms: one for all batches, or one for each [A]."""
        self._batches = batches
        self._cycle_bounds = np.broadcast_to(np.asarray(cycle_bounds_ms, dtype=np.float64), (len(batches),))

    def lengths(self, batch: int, option: int) -> list[int]:
        """Draft lengths of the users of one batch under a possible option, in the order of its members."""
        batch_slice = self._batches.slice_of(batch)
        counts = self._batches.count[batch_slice].astype(np.int64)
        return [int(length) for length in np.repeat(self._lengths[batch_slice, option], counts)]

    def chosen_lengths(self, option: Ints) -> Ints:
        """Draft lengths of all members [E], given one option for each batch [A]."""
        return self._lengths[np.arange(len(self._lengths)), option[self._batches.owner]]

    def loop_range(self, low_ms: Floats) -> tuple[Floats, Floats]:
        """The shortest and the longest loop of each batch between low_ms [A] and its cycle bound, in ms [A].

        inf and -inf where there is none. Some of these loops may occur in no plan.
        """
        batches, arrays = self._batches, self._batches.arrays
        verify = np.where(self.values > -np.inf, self.verify_ms, np.inf)[batches.owner]  # [E, K]
        max_lengths = np.maximum(self._lengths, arrays.bounds.min_draft)
        draft, link = arrays.draft_ms[batches.members, None], arrays.comm_ms[batches.members, None]
        fixed, low = link + verify, low_ms[batches.owner, None]
        longest = max_lengths * draft + fixed
        allowed = (longest >= low) & (longest < np.inf)
        needed = np.clip(np.ceil((low - fixed) / draft - ROUNDING), arrays.bounds.min_draft, max_lengths)
        shortest = np.maximum(needed * draft + fixed, low)
        return (
            np.minimum.reduceat(np.where(allowed, shortest, np.inf).min(axis=1), batches.starts),
            np.maximum.reduceat(np.where(allowed, longest, -np.inf).max(axis=1), batches.starts),
        )

    def _affordable(self, verify_ms: Floats) -> Ints:
        """The longest drafts within the cycle bound, given t_v [A, K]: [E, K]; -1: not even the link fits."""
        slack = (self._cycle_bounds[:, None] - verify_ms)[self._batches.owner]
        return self._batches.arrays.affordable_lengths(self._batches.members, slack)

    def _max_lengths(self) -> tuple[Floats, Ints]:
        """Levels with the shortest drafts [A], and the longest drafts at the t_v of those levels [E]."""
        batches, min_draft = self._batches, self._batches.arrays.bounds.min_draft
        shortest = (
            batches.users * min_draft if batches.arrays.packed else np.full(len(batches), float(min_draft))
        )
        return shortest, np.maximum(self._affordable(batches.verify_ms(shortest[:, None]))[:, 0], min_draft)


class ByLength(BatchOptions):
    """Padded law: one option for each length L of the longest draft. Exact."""

    def __init__(self, batches: Batches, cycle_bounds_ms: Floats | float, coarse: bool = False) -> None:
        """coarse: only every second one of the long lengths."""
        super().__init__(batches, cycle_bounds_ms)
        arrays = batches.arrays
        levels = length_grid(arrays, int(self._max_lengths()[1].max()), coarse)
        self.verify_ms = batches.verify_ms(levels.astype(np.float64)[None])
        self._lengths = np.minimum(self._affordable(self.verify_ms), levels)
        self.values = batches.value(self._lengths)


class ByGain(BatchOptions):
    """Packed law: one option for each minimum gain of a token. Nearly exact, and fast for many batches."""

    def __init__(self, batches: Batches, cycle_bounds_ms: Floats | float, coarse: bool = False) -> None:
        """coarse: only every second gain."""
        super().__init__(batches, cycle_bounds_ms)
        lengths_by_gain = batches.arrays.lengths_by_gain[:, :: -2 if coarse else 1][batches.members]  # [E, K]
        _, max_lengths = self._max_lengths()
        drafted = batches.counted(np.minimum(lengths_by_gain, max_lengths[:, None]))  # at most
        self._lengths = np.minimum(self._affordable(batches.verify_ms(drafted)), lengths_by_gain)
        self.verify_ms = batches.verify_ms(batches.counted(self._lengths))
        self.values = batches.value(self._lengths)


class ByTokens(BatchOptions):
    """Packed law: one option for each sum D of drafted tokens, assigned to the users who gain most. Exact.

    A user's gain per token falls with length. So the D best tokens that the users can afford are the first tokens of
    each user.
    """

    def __init__(self, batches: Batches, cycle_bounds_ms: Floats | float) -> None:
        super().__init__(batches, cycle_bounds_ms)
        shortest, max_lengths = self._max_lengths()
        top = batches.sum(max_lengths * batches.count)
        steps = np.arange(int((top - shortest).max()) + 1)
        self._level = np.minimum(shortest[:, None] + steps, top[:, None])
        self.verify_ms = batches.verify_ms(self._level)
        self._lengths = self._affordable(self.verify_ms)  # at most
        self.values = batches.tokens.value(self._lengths, self._level)
        self.values[~batches.fits] = -np.inf

    def lengths(self, batch: int, option: int) -> list[int]:
        """Draft lengths of the users of one batch under a possible option, in the order of its members."""
        batch_slice = self._batches.slice_of(batch)
        return self._batches.tokens.lengths(
            batch_slice, self._lengths[batch_slice, option], float(self._level[batch, option])
        )


def approximate_options(
    batches: Batches, cycle_bounds_ms: Floats | float, coarse: bool = False
) -> BatchOptions:
    """Options for comparing many batches, nearly exact. coarse: about half of them."""
    return (ByGain if batches.arrays.packed else ByLength)(batches, cycle_bounds_ms, coarse)


def exact_options(batches: Batches, cycle_bounds_ms: Floats | float) -> BatchOptions:
    """All undominated options, exact."""
    return (ByTokens if batches.arrays.packed else ByLength)(batches, cycle_bounds_ms)


def options_size(batches: Batches) -> int:
    """About how many numbers the exact options of these batches within one cycle bound take."""
    max_draft, entries = batches.arrays.bounds.max_draft, len(batches.members)
    return entries * max_draft * (int(batches.users.max()) * max_draft if batches.arrays.packed else 1)


def length_grid(arrays: ProblemArrays, max_draft: int, coarse: bool) -> Ints:
    """Draft lengths to try, up to max_draft. coarse: only every second one of the long lengths."""
    min_draft = arrays.bounds.min_draft
    lengths = np.arange(min_draft, max(max_draft, min_draft) + 1, dtype=np.int64)
    return lengths[(lengths < FULL_GRID_LENGTHS) | ((lengths[-1] - lengths) % 2 == 0)] if coarse else lengths


class _Tokens:
    """All tokens that the members may draft, in each batch the one with the largest gain first."""

    def __init__(self, batches: Batches) -> None:
        self._batches, arrays = batches, batches.arrays
        self._min_draft, max_draft = arrays.bounds.min_draft, arrays.bounds.max_draft
        self._each = max_draft - self._min_draft  # tokens of a user
        value = arrays.value[batches.members]
        # Gains of tokens min_draft + 1, min_draft + 2, … [E, each].
        gain = np.diff(value[:, self._min_draft : max_draft + 1], axis=1)
        who, nth = np.indices(gain.shape)
        order = np.lexsort((nth.ravel(), -gain.ravel(), batches.owner[who.ravel()]))
        self._gain, self._who, self._nth = (
            gain.ravel()[order],
            who.ravel()[order],
            nth.ravel()[order] + self._min_draft,
        )
        self._units = batches.count[self._who]
        self._owner = batches.owner[self._who]
        self._starts = batches.starts * self._each
        self._base = value[:, self._min_draft] * batches.count

    def value(self, afforded: Ints, level: Floats) -> Floats:
        """Σ of values [A, K] for `level` drafted tokens [A, K], given the longest draft of each member [E, K]."""
        batches = self._batches
        value = batches.sum(np.where(afforded >= self._min_draft, self._base[:, None], -np.inf))
        if self._each == 0:
            return value
        units = np.where(self._nth[:, None] < afforded[self._who], self._units[:, None], 0.0)  # [tokens, K]
        before = np.cumsum(units, axis=0) - units
        before -= before[self._starts][self._owner]
        budget = (level - self._min_draft * batches.users[:, None])[self._owner]
        used = np.clip(budget - before, 0.0, units)
        return value + np.add.reduceat(used * self._gain[:, None], self._starts, axis=0)

    def lengths(self, batch_slice: slice, afforded: Ints, level: float) -> list[int]:
        """Draft lengths of the users of one batch, whose members are `batch_slice` of all members."""
        counts = self._batches.count[batch_slice].astype(np.int64)
        lengths = [[self._min_draft] * int(each) for each in counts]
        left = int(level - self._min_draft * counts.sum())
        tokens = slice(batch_slice.start * self._each, batch_slice.stop * self._each)
        for who, nth in zip(self._who[tokens] - batch_slice.start, self._nth[tokens], strict=True):
            if nth < afforded[who]:
                used = min(
                    left, int(counts[who])
                )  # of the last token in the budget only some equal users take one
                lengths[who][:used] = [int(nth) + 1] * used
                left -= used
        return [length for each in lengths for length in each]
