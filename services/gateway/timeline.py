"""The gateway's timeline spans: how long each session waited for its first tokens."""

from contextlib import suppress
from typing import Final

from shared.broker.contract import BrokerAway, Streams
from shared.protocol.messages import Span

MAX_SPANS: Final = 1000  # spans kept between two writes; further ones are dropped


class Timeline:
    """Collects spans and writes them periodically. With tracing off it stays empty."""

    def __init__(self, streams: Streams, name: str, on: bool) -> None:
        self._streams = streams
        self._name = name
        self._on = on
        self._spans: list[Span] = []

    def waited(self, session: str, opened_at: float, now: float) -> None:
        """Record that a session has its first tokens. Times are loop-clock seconds."""
        if self._on and len(self._spans) < MAX_SPANS:
            start_us, end_us = int(opened_at * 1e6), int(now * 1e6)
            self._spans.append(Span("gateway", self._name, session, 0, 0, "wait", start_us, end_us, 0, 0))

    async def write(self) -> None:
        """Write the spans to the broker. Spans that it does not accept are lost."""
        if not self._spans:
            return
        spans, self._spans = self._spans, []
        with suppress(BrokerAway):
            await self._streams.trace(spans)
