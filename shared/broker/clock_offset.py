"""How far the broker's clock is ahead of this process's own, so that timelines of several hosts fit together."""

from collections import deque
from typing import Final

REMEMBERED: Final = 16  # exchanges


class ClockOffset:
    """From exchanges that each saw the broker's clock once, between being sent and being answered.

    The quickest of the latest exchanges counts: its error is at most half its round trip. (Mills, RFC 5905.)
    """

    def __init__(self) -> None:
        self._exchanges: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)  # (round trip s, offset µs)

    @property
    def us(self) -> int:
        """Broker's clock minus ours, in microseconds; 0 before the first exchange."""
        return min(self._exchanges, default=(0.0, 0))[1]

    def observe(self, sent_s: float, answered_s: float, broker_us: int) -> None:
        """An exchange by our clock (seconds), and what the broker's said in between (microseconds)."""
        middle_us = (sent_s + answered_s) / 2 * 1e6
        self._exchanges.append((answered_s - sent_s, round(broker_us - middle_us)))
