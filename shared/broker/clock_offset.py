"""Offset of the broker's clock from this process's, so that timelines of several hosts can be merged."""

from collections import deque
from typing import Final

REMEMBERED: Final = 16  # exchanges


class ClockOffset:
    """Estimates the offset from exchanges that read the broker's clock between request and answer.

    The fastest of the recent exchanges counts: its error is at most half its round trip (RFC 5905).
    """

    def __init__(self) -> None:
        self._exchanges: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)  # (round trip s, offset µs)

    @property
    def us(self) -> int:
        """Broker's clock minus ours, in microseconds; 0 before the first exchange."""
        return min(self._exchanges, default=(0.0, 0))[1]

    def observe(self, sent_s: float, answered_s: float, broker_us: int) -> None:
        """Add an exchange: sent and answered by our clock (seconds), and the broker's clock between (microseconds)."""
        middle_us = (sent_s + answered_s) / 2 * 1e6
        self._exchanges.append((answered_s - sent_s, round(broker_us - middle_us)))
