"""Reads the spans that services write to the broker with OUTRIDER_TRACE=1."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadgen.results.output import replacing
from shared.broker.contract import BrokerAway, BrokerDenied
from shared.broker.trace_reader import TraceReader
from shared.protocol.messages import Span
from shared.protocol.wire import WireError


class TimelineError(RuntimeError):
    """A timeline that cannot be read; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class TimelineMark:
    """One moment on the broker's clock (microseconds) and on perf_counter()'s (seconds)."""

    broker_us: int
    at: float

    def on_broker_us(self, at: float) -> int:
        """A time of perf_counter() on the broker's clock, in microseconds."""
        return self.broker_us + round(1e6 * (at - self.at))


async def mark(url: str) -> TimelineMark:
    """Read both clocks now. Raises TimelineError."""
    try:
        async with TraceReader(url) as reader:
            before = time.perf_counter()
            broker_us = await reader.now_us()
            return TimelineMark(broker_us, (before + time.perf_counter()) / 2)
    except (BrokerAway, BrokerDenied, ValueError) as error:
        raise TimelineError(f"no timeline from the broker: {error}") from None


async def spans_since(url: str, begun: TimelineMark) -> list[Span]:
    """Spans that services wrote since `begun`; none without tracing. Raises TimelineError."""
    try:
        async with TraceReader(url) as reader:
            return await reader.since(begun.broker_us)
    except (BrokerAway, BrokerDenied, WireError) as error:
        raise TimelineError(f"no timeline from the broker: {error}") from None


def write_spans(path: Path, spans: Sequence[Span]) -> None:
    """Write spans as JSON lines. Raises OSError."""
    with replacing(path) as file:
        file.writelines(json.dumps(asdict(span)) + "\n" for span in spans)
