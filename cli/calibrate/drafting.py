"""Measures decodes of the draft model, by the number of sessions in them."""

import time
from collections.abc import Callable
from typing import Final

from loadgen.measuring.decodes import DecodeTimer
from loadgen.measuring.timing import Clock
from shared.compute.drafter import Drafter

CONTEXT: Final = 128  # tokens in each session's cache
SESSIONS: Final = (1, 2, 4)  # in one decode
TOKENS: Final = 12  # of a draft
REPEATS: Final = 5


def measure_decodes(
    drafter: Drafter, tick: Callable[[str], None], clock: Clock = time.perf_counter
) -> dict[int, float]:
    """Median milliseconds of one decode, by sessions in it."""
    timer = DecodeTimer(drafter, max(SESSIONS), CONTEXT, clock=clock)
    durations_ms = timer.decode_ms(SESSIONS, TOKENS, REPEATS, tick)
    timer.forget()
    return durations_ms
