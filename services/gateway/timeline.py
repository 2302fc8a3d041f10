"""The gateway's part of a timeline: how long each session waited for its first tokens."""

from contextlib import suppress
from typing import Final

from shared.broker.contract import Broker, BrokerAway
from shared.protocol.messages import Span

MAX_SPANS: Final = 1000  # spans kept between two writes; beyond it the newest are dropped


class Timeline:
    """Spans, written now and then. With tracing off it is never filled."""

    def __init__(self, broker: Broker, name: str, on: bool) -> None:
        self._broker = broker
        self._name = name
        self._on = on
        self._spans: list[Span] = []

    def waited(self, session: str, opened_at: float, now: float) -> None:
        """A session has its first tokens. Times of the loop's clock, in seconds."""
        if self._on and len(self._spans) < MAX_SPANS:
            start_us, end_us = int(opened_at * 1e6), int(now * 1e6)
            self._spans.append(Span("gateway", self._name, session, 0, 0, "wait", start_us, end_us, 0, 0))

    async def write(self) -> None:
        """To the broker; what it does not take is lost, a timeline is no record."""
        if not self._spans:
            return
        spans, self._spans = self._spans, []
        with suppress(BrokerAway):
            await self._broker.trace(spans)
