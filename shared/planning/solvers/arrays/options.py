"""What batches can be within a cap on their own loops: pairs of verify time and value, and the lengths behind them.

A *cap* C bounds t_d(n) + t_v(n), from a batch's verdicts to its next ones. Given C and what the batch may verify (the
longest draft L under the padded law, drafted tokens D under the packed one), t_v is known, so each user's longest
affordable draft is floor((C - t_v - comm) / draft time): the cap decouples the users. Exact for both laws.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain

import numpy as np

from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays

ROUNDING = 1e-9  # of a token: forgiven in rounding
FULL_GRID_LENGTHS = 7  # tokens: shorter drafts are all looked at, however coarsely


class Batches:
    """A batches laid end to end: members [E], and where each batch starts in them [A]."""

    def __init__(
        self, arrays: ProblemArrays, members: Ints, starts: Ints, count: Floats | None = None
    ) -> None:
        """count: of each member, how many equal ones it stands for there; None = as everywhere."""
        self.arrays, self.members, self.starts = arrays, members, starts
        marks = np.zeros(len(members), dtype=np.int64)
        marks[starts] = 1
        self.owner: Ints = np.cumsum(marks) - 1  # [E]
        self.count = arrays.count[members] if count is None else count
        self.single = bool((self.count == 1).all())
        self.users = self.sum(self.count)  # [A]
        self.prefix = np.maximum.reduceat(arrays.prefix[members], starts)
        self.prefixes = self.counted(arrays.prefix[members])
        room = arrays.server.needed_bytes(self.users, self.prefix, self.prefixes)
        self.fits = np.broadcast_to(np.asarray(room) <= arrays.server.memory_bytes, self.users.shape)

    @classmethod
    def of(cls, arrays: ProblemArrays, batches: Sequence[Sequence[int]]) -> "Batches":
        """Of batches of users' indices, none of them empty."""
        sizes = np.fromiter(map(len, batches), dtype=np.int64, count=len(batches))
        flat = np.fromiter(chain.from_iterable(batches), dtype=np.int64, count=int(sizes.sum()))
        return cls(arrays, flat, np.cumsum(sizes) - sizes)

    def repeated(self, times: int) -> "Batches":
        """All of them, so many times over."""
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
        """Where one batch's members lie."""
        last = batch + 1 == len(self.starts)
        return slice(int(self.starts[batch]), len(self.members) if last else int(self.starts[batch + 1]))

    def verify_ms(self, level: Floats) -> Floats:
        """t_v for levels [A, K]: of the longest draft, or of drafted tokens."""
        column = (self.users[:, None], level, level, self.prefix[:, None], self.prefixes[:, None])
        return np.asarray(self.arrays.server.verify_ms(*column))

    def value(self, lengths: Ints) -> Floats:
        """Σ of users' values with these drafts, [E, K] → [A, K]; -inf where a draft is -1 or memory is short."""
        value = self.counted(self.arrays.values(self.members, lengths))
        value[~self.fits] = -np.inf
        return value

    @cached_property
    def tokens(self) -> "_Tokens":
        """The members' tokens, where the packed law needs them."""
        return _Tokens(self)


class Options:
    """K options of each of A batches within its cap. Those that cannot be have the value -inf."""

    verify_ms: Floats  # [A, K], at least what an option takes
    values: Floats  # [A, K]
    _lengths: Ints  # [E, K]

    def __init__(self, batches: Batches, cycle_bounds_ms: Floats | float) -> None:
        """caps_ms: one for all, or of each batch [A]."""
        self._batches = batches
        self._cycle_bounds = np.broadcast_to(np.asarray(cycle_bounds_ms, dtype=np.float64), (len(batches),))

    def lengths(self, batch: int, option: int) -> list[int]:
        """Draft lengths of one batch's users, member by member in their order, under an option that can be."""
        batch_slice = self._batches.slice_of(batch)
        counts = self._batches.count[batch_slice].astype(np.int64)
        return [int(length) for length in np.repeat(self._lengths[batch_slice, option], counts)]

    def chosen_lengths(self, option: Ints) -> Ints:
        """Draft lengths of all members [E] under one option for each batch [A]."""
        return self._lengths[np.arange(len(self._lengths)), option[self._batches.owner]]

    def loop_range(self, low_ms: Floats) -> tuple[Floats, Floats]:
        """Of all loops from low_ms [A] up to the cap that each batch can have, the shortest and the longest.

        inf and -inf where there is none. May take in some that no plan has.
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
        """The longest drafts within the cap beside verifications [A, K]: [E, K]; -1 = the link alone takes longer."""
        slack = (self._cycle_bounds[:, None] - verify_ms)[self._batches.owner]
        return self._batches.arrays.affordable_lengths(self._batches.members, slack)

    def _max_lengths(self) -> tuple[Floats, Ints]:
        """Levels of the shortest drafts [A], and the longest drafts beside those [E]."""
        batches, min_draft = self._batches, self._batches.arrays.bounds.min_draft
        shortest = (
            batches.users * min_draft if batches.arrays.packed else np.full(len(batches), float(min_draft))
        )
        return shortest, np.maximum(self._affordable(batches.verify_ms(shortest[:, None]))[:, 0], min_draft)


class ByLength(Options):
    """Padded law: one option for each longest draft L. Exact."""

    def __init__(self, batches: Batches, cycle_bounds_ms: Floats | float, coarse: bool = False) -> None:
        """coarse: of long drafts every second only."""
        super().__init__(batches, cycle_bounds_ms)
        arrays = batches.arrays
        levels = length_grid(arrays, int(self._max_lengths()[1].max()), coarse)
        self.verify_ms = batches.verify_ms(levels.astype(np.float64)[None])
        self._lengths = np.minimum(self._affordable(self.verify_ms), levels)
        self.values = batches.value(self._lengths)


class ByGain(Options):
    """Packed law: one option for each least gain that a token must have. Nearly exact, and quick for many batches."""

    def __init__(self, batches: Batches, cycle_bounds_ms: Floats | float, coarse: bool = False) -> None:
        """coarse: every second gain only."""
        super().__init__(batches, cycle_bounds_ms)
        lengths_by_gain = batches.arrays.lengths_by_gain[:, :: -2 if coarse else 1][batches.members]  # [E, K]
        _, max_lengths = self._max_lengths()
        drafted = batches.counted(np.minimum(lengths_by_gain, max_lengths[:, None]))  # or fewer
        self._lengths = np.minimum(self._affordable(batches.verify_ms(drafted)), lengths_by_gain)
        self.verify_ms = batches.verify_ms(batches.counted(self._lengths))
        self.values = batches.value(self._lengths)


class ByTokens(Options):
    """Packed law: one option for each sum D of drafted tokens, which go where they are worth most. Exact.

    Right because a user's gains fall with length, so the D best tokens within what everybody affords are the first of
    each user's.
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
        """See Options."""
        batch_slice = self._batches.slice_of(batch)
        return self._batches.tokens.lengths(
            batch_slice, self._lengths[batch_slice, option], float(self._level[batch, option])
        )


def approximate_options(batches: Batches, cycle_bounds_ms: Floats | float, coarse: bool = False) -> Options:
    """Options for looking at many batches. coarse: about half of them."""
    return (ByGain if batches.arrays.packed else ByLength)(batches, cycle_bounds_ms, coarse)


def exact_options(batches: Batches, cycle_bounds_ms: Floats | float) -> Options:
    """All options that are worth having."""
    return (ByTokens if batches.arrays.packed else ByLength)(batches, cycle_bounds_ms)


def options_size(batches: Batches) -> int:
    """About how many numbers it takes to compute all options of these batches within one cap."""
    max_draft, entries = batches.arrays.bounds.max_draft, len(batches.members)
    return entries * max_draft * (int(batches.users.max()) * max_draft if batches.arrays.packed else 1)


def length_grid(arrays: ProblemArrays, max_draft: int, coarse: bool) -> Ints:
    """Lengths of drafts to look at; coarse: of long ones every second only."""
    min_draft = arrays.bounds.min_draft
    lengths = np.arange(min_draft, max(max_draft, min_draft) + 1, dtype=np.int64)
    return lengths[(lengths < FULL_GRID_LENGTHS) | ((lengths[-1] - lengths) % 2 == 0)] if coarse else lengths


class _Tokens:
    """All tokens that the members may draft, the most valuable of each batch first."""

    def __init__(self, batches: Batches) -> None:
        self._batches, arrays = batches, batches.arrays
        self._min_draft, max_draft = arrays.bounds.min_draft, arrays.bounds.max_draft
        self._each = max_draft - self._min_draft  # tokens of a user
        value = arrays.value[batches.members]
        gain = np.diff(
            value[:, self._min_draft : max_draft + 1], axis=1
        )  # [E, each]: of token least + 1, least + 2, ...
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
        """Σ of users' values for drafted tokens [A, K] within what each can [E, K]."""
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
        """Of one batch's users, member by member; the members' place among all is `mine`."""
        counts = self._batches.count[batch_slice].astype(np.int64)
        lengths = [[self._min_draft] * int(each) for each in counts]
        left = int(level - self._min_draft * counts.sum())
        tokens = slice(batch_slice.start * self._each, batch_slice.stop * self._each)
        for who, nth in zip(self._who[tokens] - batch_slice.start, self._nth[tokens], strict=True):
            if nth < afforded[who]:
                used = min(left, int(counts[who]))  # the last token that there is room for, some only take
                lengths[who][:used] = [int(nth) + 1] * used
                left -= used
        return [length for each in lengths for length in each]
