"""Draft lengths for many partitions at once, nearly as good as the exact ones and in one sweep of arrays.

For caps around a given one, and for prices of a verify millisecond, every batch takes its best option by itself.
"""

from collections.abc import Sequence

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays import Arrays, Floats, Ints
from shared.planning.solvers.options import Batches, Options, quick
from shared.planning.solvers.plan import Plan

FILLS = 2
PRICES = np.array([0.02, 0.3, 0.6, 0.8, 1.0, 1.25])  # of what a millisecond of the cycle is worth
Members = tuple[int, ...]


def scan(
    arrays: Arrays, partitions: Sequence[Sequence[Members]], caps_ms: Floats, score: float
) -> list[Plan | None]:
    """A good plan for each partition; None where it does not fit.

    caps_ms: [partitions, C], the longest loops to try. score: about what a plan will have, to set prices by.
    """
    tries = caps_ms.shape[1]
    flat = [batch for partition in partitions for _ in range(tries) for batch in partition]
    sizes = np.repeat([len(partition) for partition in partitions], tries)
    starts = np.cumsum(sizes) - sizes  # of each try among the rows
    caps = caps_ms.ravel()
    options = quick(Batches.of(arrays, flat), np.repeat(caps, sizes))
    value, time, taken = _choose(arrays, options, np.repeat(caps, sizes), score, starts)
    scores = arrays.objective.score(value, arrays.all_weight, np.maximum(caps[:, None], time))  # [tries, P]
    found: list[Plan | None] = []
    for index, partition in enumerate(partitions):
        mine = scores[index * tries : (index + 1) * tries]
        which, price = np.unravel_index(int(mine.argmax()), mine.shape)
        if mine[which, price] == -np.inf:
            found.append(None)
            continue
        row = int(starts[index * tries + which])
        lengths = [0] * len(arrays)
        for n, batch in enumerate(partition):
            for m, length in zip(batch, options.lengths(row + n, int(taken[row + n, price])), strict=True):
                lengths[m] = length
        found.append(Plan.of(arrays, Split(tuple(partition), tuple(lengths))))
    return found


def _choose(
    arrays: Arrays, options: Options, caps: Floats, score: float, starts: Ints
) -> tuple[Floats, Floats, Ints]:
    """Σ value and Σ time of every try at every price [tries, P], and the options taken [rows, P]."""
    price = np.array([arrays.objective.price(score, arrays.all_weight, cap) for cap in caps])
    worth = options.values[:, :, None] - (price[:, None] * PRICES)[:, None, :] * options.verify_ms[:, :, None]
    taken = worth.argmax(axis=1)  # [rows, P]
    for _ in range(FILLS):
        taken = _fill(options, taken, caps, starts)
    value = np.take_along_axis(options.values, taken, axis=1)
    time = np.take_along_axis(options.verify_ms, taken, axis=1)
    return np.add.reduceat(value, starts), np.add.reduceat(time, starts), taken


def _fill(options: Options, taken: Ints, caps: Floats, starts: Ints) -> Ints:
    """Of every try, the one batch changed that gains most in the verifier's time left within the cap.

    A price leaves time over, since options are few.
    """
    value = np.take_along_axis(options.values, taken, axis=1)  # [rows, P]
    time = np.take_along_axis(options.verify_ms, taken, axis=1)
    owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(taken))))
    left = (caps[starts][:, None] - np.add.reduceat(time, starts))[owner]
    may = options.verify_ms[:, :, None] <= (time + left)[:, None, :] + 1e-9  # [rows, K, P]
    better = np.where(may, options.values[:, :, None], -np.inf)
    option = better.argmax(axis=1)
    with np.errstate(invalid="ignore"):
        gain = np.nan_to_num(np.take_along_axis(better, option[:, None], axis=1)[:, 0] - value, nan=0.0)
    most = np.maximum.reduceat(gain, starts)[owner]
    return np.where((gain > 0) & (gain == most), option, taken)
