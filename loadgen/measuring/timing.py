"""Durations of repeated calls."""

import time
from collections.abc import Callable
from math import inf
from typing import Final

Clock = Callable[[], float]  # seconds

MIN_TIMINGS: Final = 3  # measured even when the time limit has passed


def time_s(run: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Seconds of one call."""
    begin = clock()
    run()
    return clock() - begin


def times_s(
    run: Callable[[], object],
    repeats: int,
    *,
    warm_ups: int = 1,
    reset: Callable[[], object] = lambda: None,
    limit_s: float = inf,
    clock: Clock = time.perf_counter,
) -> list[float]:
    """Seconds of each call after the warm-ups. reset: called before each call, not timed.

    After limit_s seconds, warm-ups included, no further call starts once there are MIN_TIMINGS.
    """
    begin = clock()
    seconds: list[float] = []
    for call in range(warm_ups + repeats):
        if call >= warm_ups + MIN_TIMINGS and clock() - begin > limit_s:
            break
        reset()
        seconds.append(time_s(run, clock))
    return seconds[warm_ups:]
