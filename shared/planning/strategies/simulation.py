"""A verifier that never waits for a fixed cycle, as a model: what would come of many ways to serve, all at once.

A way to serve is everybody's draft length, lanes of users, and for each lane how many of it have to be ready before
it is verified. The verifier takes the lane that has been complete for longest, all of it that is ready by then (at
most `most` rows), and with it everybody who does not draft. Who is verified drafts again at once. That is DiP-SD's
model (Xu, Zhou, Niu, arXiv 2604.20919) without its fixed cycle: a user who is late, or slower than others, is verified
less often and holds nobody up.

There is no formula for the rate of that, so it is played: S ways side by side as arrays [S, M], with the same draws
of the links' jitter for all of them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.problem import Server
from shared.planning.strategies.user_arrays import Floats, Ints, UserArrays

PASSES: Final = 72
WARMUP: Final = 24  # passes that are not counted
DRAWS: Final = 64  # of jitter for each user, used again and again
PROMPTS_PER_PASS: Final = 8  # a pass at most
MIN_PASS_FACTOR: Final = 0.8  # of a pass's time, however uneven passes are


@dataclass(frozen=True, slots=True)
class Strategies:
    """S ways to serve M users in up to N lanes. lengths, lane: [S, M]; least: [S, N], 0 for no such lane; most: [S]."""

    lengths: Ints
    lane: Ints
    min_ready: Ints
    max_rows: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, which: Ints) -> "Strategies":
        return Strategies(self.lengths[which], self.lane[which], self.min_ready[which], self.max_rows[which])

    @classmethod
    def concatenate(cls, strategies: list["Strategies"]) -> "Strategies":
        """All of them; lanes that some do not have are empty there."""
        lanes = max(strategy.min_ready.shape[1] for strategy in strategies)
        min_ready = [
            np.pad(strategy.min_ready, ((0, 0), (0, lanes - strategy.min_ready.shape[1])))
            for strategy in strategies
        ]
        return cls(
            np.concatenate([strategy.lengths for strategy in strategies]),
            np.concatenate([strategy.lane for strategy in strategies]),
            np.concatenate(min_ready),
            np.concatenate([strategy.max_rows for strategy in strategies]),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of them. rates: tokens a millisecond of each user, [S, M]; rounds: likewise; busy: [S], a share."""

    rates: Floats
    rounds: Floats
    busy: Floats


def simulate(
    user_arrays: UserArrays,
    server: Server,
    strategies: Strategies,
    passes: int = PASSES,
    warmup: int = WARMUP,
    seed: int = 1,
    pass_std: float = 0.0,
) -> Outcome:
    """Serve for so many passes in each of the ways, all users ready at first.

    uneven: standard deviation of a pass's time over what the law says, the same draws for all ways.
    """
    ms, size = (
        user_arrays.away_ms(strategies.lengths) - user_arrays.spread_ms * (strategies.lengths > 0),
        len(user_arrays),
    )
    rng = np.random.default_rng(seed)
    delays = rng.exponential(1.0, (DRAWS, size)) * user_arrays.spread_ms
    factors = np.clip(rng.normal(1.0, pass_std, passes), MIN_PASS_FACTOR, 2 - MIN_PASS_FACTOR)
    factors /= factors[warmup:].mean()
    ready, rounds = np.zeros(strategies.lengths.shape), np.zeros(strategies.lengths.shape)
    free, busy = np.zeros(len(strategies)), np.zeros(len(strategies))
    prompts, read = _prompts(server, passes, rng), np.zeros(len(strategies), dtype=np.int64)
    for n in range(passes):
        if n == warmup:
            begun, rounds, busy = free.copy(), np.zeros_like(rounds), np.zeros_like(busy)
        rows, closed = _close(strategies, ready, free)
        verify = factors[n] * _verify_ms(user_arrays, server, strategies.lengths, rows)
        if server.arrival_ms:
            arrivals = (ready > closed[:, None]) & (ready <= (closed + verify)[:, None]) & ~rows
            verify = verify + server.arrival_ms * arrivals.sum(axis=1)
        if len(prompts):
            prompts_read = np.searchsorted(prompts, closed)
            verify, read = verify + server.prompts.each_ms * (prompts_read - read), prompts_read
        free, busy = closed + verify, busy + verify
        away = np.where(strategies.lengths > 0, ms + delays[n % DRAWS], 0.0)
        ready = np.where(rows, free[:, None] + away, ready)
        rounds += rows
    elapsed = (free - begun)[:, None]
    rounds /= elapsed
    return Outcome(rounds * user_arrays.emitted(strategies.lengths), rounds, busy / elapsed[:, 0])


def _prompts(server: Server, passes: int, rng: np.random.Generator) -> Floats:
    """When prompts come, for as long as so many passes can take."""
    if not (share := server.prompts.share):
        return np.zeros(0)
    gaps = rng.exponential(server.prompts.each_ms / share, passes * PROMPTS_PER_PASS)
    return gaps.cumsum()


def _close(strategies: Strategies, ready: Floats, free: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """The next pass of each way: its rows [S, M] and when it can begin [S]."""
    size, every = ready.shape[1], np.arange(len(ready))
    complete = np.empty(strategies.min_ready.shape)  # when each lane is, [S, N]
    for lane in range(strategies.min_ready.shape[1]):
        in_order = np.sort(np.where(strategies.lane == lane, ready, np.inf), axis=1)
        complete[:, lane] = in_order[every, strategies.min_ready[:, lane] - 1]  # -1 of an empty lane: inf
    lane = complete.argmin(axis=1)
    closed = np.maximum(free, complete[every, lane])
    rows = (ready <= closed[:, None]) & ((strategies.lane == lane[:, None]) | (strategies.lengths == 0))
    if (strategies.max_rows < size).any():
        rank = np.where(rows, ready, np.inf).argsort(axis=1, kind="stable").argsort(axis=1)
        rows &= rank < strategies.max_rows[:, None]
    return rows, closed


def _verify_ms(user_arrays: UserArrays, server: Server, lengths: Ints, rows: npt.NDArray[np.bool_]) -> Floats:
    drafts, prefix = lengths * rows, user_arrays.prefix * rows
    took: Floats = np.asarray(
        server.verify_ms(rows.sum(1), drafts.max(1), drafts.sum(1), prefix.max(1), prefix.sum(1))
    )
    return took
