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
SETTLING: Final = 24  # passes that are not counted
DRAWS: Final = 64  # of jitter for each user, used again and again
PROMPTS: Final = 8  # a pass at most
LEAST_UNEVEN: Final = 0.8  # of a pass's time, however uneven passes are


@dataclass(frozen=True, slots=True)
class Strategies:
    """S ways to serve M users in up to N lanes. lengths, lane: [S, M]; least: [S, N], 0 for no such lane; most: [S]."""

    lengths: Ints
    lane: Ints
    least: Ints
    most: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, which: Ints) -> "Strategies":
        return Strategies(self.lengths[which], self.lane[which], self.least[which], self.most[which])

    @classmethod
    def all(cls, ways: list["Strategies"]) -> "Strategies":
        """All of them; lanes that some do not have are empty there."""
        lanes = max(way.least.shape[1] for way in ways)
        least = [np.pad(way.least, ((0, 0), (0, lanes - way.least.shape[1]))) for way in ways]
        return cls(
            np.concatenate([way.lengths for way in ways]),
            np.concatenate([way.lane for way in ways]),
            np.concatenate(least),
            np.concatenate([way.most for way in ways]),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of them. rates: tokens a millisecond of each user, [S, M]; rounds: likewise; busy: [S], a share."""

    rates: Floats
    rounds: Floats
    busy: Floats


def play(
    crew: UserArrays,
    server: Server,
    ways: Strategies,
    passes: int = PASSES,
    settling: int = SETTLING,
    seed: int = 1,
    uneven: float = 0.0,
) -> Outcome:
    """Serve for so many passes in each of the ways, all users ready at first.

    uneven: standard deviation of a pass's time over what the law says, the same draws for all ways.
    """
    ms, size = crew.away_ms(ways.lengths) - crew.spread_ms * (ways.lengths > 0), len(crew)
    rng = np.random.default_rng(seed)
    late = rng.exponential(1.0, (DRAWS, size)) * crew.spread_ms
    share = np.clip(rng.normal(1.0, uneven, passes), LEAST_UNEVEN, 2 - LEAST_UNEVEN)
    share /= share[settling:].mean()
    ready, rounds = np.zeros(ways.lengths.shape), np.zeros(ways.lengths.shape)
    free, busy = np.zeros(len(ways)), np.zeros(len(ways))
    prompts, read = _prompts(server, passes, rng), np.zeros(len(ways), dtype=np.int64)
    for turn in range(passes):
        if turn == settling:
            begun, rounds, busy = free.copy(), np.zeros_like(rounds), np.zeros_like(busy)
        rows, closed = _close(ways, ready, free)
        verify = share[turn] * _verify_ms(crew, server, ways.lengths, rows)
        if server.arrival_ms:
            came = (ready > closed[:, None]) & (ready <= (closed + verify)[:, None]) & ~rows
            verify = verify + server.arrival_ms * came.sum(axis=1)
        if len(prompts):
            come = np.searchsorted(prompts, closed)
            verify, read = verify + server.prompts.each_ms * (come - read), come
        free, busy = closed + verify, busy + verify
        away = np.where(ways.lengths > 0, ms + late[turn % DRAWS], 0.0)
        ready = np.where(rows, free[:, None] + away, ready)
        rounds += rows
    elapsed = (free - begun)[:, None]
    rounds /= elapsed
    return Outcome(rounds * crew.emitted(ways.lengths), rounds, busy / elapsed[:, 0])


def _prompts(server: Server, passes: int, rng: np.random.Generator) -> Floats:
    """When prompts come, for as long as so many passes can take."""
    if not (share := server.prompts.share):
        return np.zeros(0)
    gaps = rng.exponential(server.prompts.each_ms / share, passes * PROMPTS)
    return gaps.cumsum()


def _close(ways: Strategies, ready: Floats, free: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """The next pass of each way: its rows [S, M] and when it can begin [S]."""
    size, every = ready.shape[1], np.arange(len(ready))
    complete = np.empty(ways.least.shape)  # when each lane is, [S, N]
    for lane in range(ways.least.shape[1]):
        in_order = np.sort(np.where(ways.lane == lane, ready, np.inf), axis=1)
        complete[:, lane] = in_order[every, ways.least[:, lane] - 1]  # -1 of an empty lane: inf
    lane = complete.argmin(axis=1)
    closed = np.maximum(free, complete[every, lane])
    rows = (ready <= closed[:, None]) & ((ways.lane == lane[:, None]) | (ways.lengths == 0))
    if (ways.most < size).any():
        rank = np.where(rows, ready, np.inf).argsort(axis=1, kind="stable").argsort(axis=1)
        rows &= rank < ways.most[:, None]
    return rows, closed


def _verify_ms(crew: UserArrays, server: Server, lengths: Ints, rows: npt.NDArray[np.bool_]) -> Floats:
    drafts, prefix = lengths * rows, crew.prefix * rows
    took: Floats = np.asarray(
        server.verify_ms(rows.sum(1), drafts.max(1), drafts.sum(1), prefix.max(1), prefix.sum(1))
    )
    return took
