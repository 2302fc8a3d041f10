"""Simulation of serving strategies for a work-conserving verifier, many strategies side by side.

A strategy has a draft length for every user, lanes of users, and for each lane the number of members that must be ready
before it is verified. The verifier takes the lane that has been complete for longest: all members that are ready by
then, at most `max_rows`, and every user who does not draft. Verified users draft again at once. This is the model of
DiP-SD (Xu, Zhou, Niu, arXiv 2604.20919) without its fixed cycle: a user who is late or slow is verified less often and
delays no others.

The rate of such a schedule has no closed form, so it is simulated: S strategies as arrays [S, M], with the same draws
of link jitter for all of them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.problem import Server
from shared.planning.strategies.user_arrays import Floats, Ints, UserArrays

PASSES: Final = 72  # of a simulation
WARMUP: Final = 24  # of these, not counted
DRAWS: Final = 64  # of jitter for each user, used cyclically
PROMPTS_PER_PASS: Final = 8  # at most
MIN_PASS_FACTOR: Final = 0.8  # of the law's pass time, whatever pass_std is


@dataclass(frozen=True, slots=True)
class Strategies:
    """S strategies for M users in up to N lanes.

    lengths: drafts [S, M]. lane: of each user [S, M]. min_ready: members of each lane that must be ready before it
    closes [S, N], 0 for an unused lane. max_rows: rows of a pass at most [S].
    """

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
        """All strategies in one, padded with unused lanes."""
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
class SimulatedRates:
    """Results of a simulation of S strategies.

    rates: tokens per millisecond of each user [S, M]. rounds: verifications per millisecond of each user [S, M]. busy:
    the verifier's share of the time [S].
    """

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
) -> SimulatedRates:
    """Simulate so many passes of each strategy. All users are ready at the start.

    warmup: passes that are not counted. pass_std: standard deviation of pass time / time by the law; all strategies get
    the same draws.
    """
    drafts, size = strategies.lengths > 0, len(user_arrays)
    min_away = user_arrays.away_ms(strategies.lengths) - user_arrays.spread_ms * drafts
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
        away = np.where(drafts, min_away + delays[n % DRAWS], 0.0)
        ready = np.where(rows, free[:, None] + away, ready)
        rounds += rows
    elapsed = (free - begun)[:, None]
    rounds /= elapsed
    return SimulatedRates(rounds * user_arrays.emitted(strategies.lengths), rounds, busy / elapsed[:, 0])


def _prompts(server: Server, passes: int, rng: np.random.Generator) -> Floats:
    """Arrival times of prompts in ms, enough for so many passes."""
    if not (share := server.prompts.share):
        return np.zeros(0)
    gaps = rng.exponential(server.prompts.each_ms / share, passes * PROMPTS_PER_PASS)
    return gaps.cumsum()


def _close(strategies: Strategies, ready: Floats, free: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """The next pass of each strategy: its rows [S, M] and the time when it can begin [S]."""
    size, every = ready.shape[1], np.arange(len(ready))
    complete = np.empty(strategies.min_ready.shape)  # when each lane becomes complete, [S, N]
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
