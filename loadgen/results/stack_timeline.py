"""The stack's own timeline of a run: spans that services write with OUTRIDER_TRACE=1, read from the broker."""

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
    """A timeline that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment on the broker's clock (microseconds) and on perf_counter's (seconds)."""

    broker_us: int
    at: float

    def on_broker_us(self, at: float) -> int:
        """A time of perf_counter's on the broker's clock."""
        return self.broker_us + round(1e6 * (at - self.at))


async def mark(url: str) -> Mark:
    """Now. Raises TimelineError."""
    try:
        async with TraceReader(url) as reader:
            asked = time.perf_counter()
            broker_us = await reader.now_us()
            return Mark(broker_us, (asked + time.perf_counter()) / 2)
    except (BrokerAway, BrokerDenied, ValueError) as error:
        raise TimelineError(f"no timeline from the broker: {error}") from None


async def spans_since(url: str, begun: Mark) -> list[Span]:
    """What services wrote since; nothing where they do not trace. Raises TimelineError."""
    try:
        async with TraceReader(url) as reader:
            return await reader.since(begun.broker_us)
    except (BrokerAway, BrokerDenied, WireError) as error:
        raise TimelineError(f"no timeline from the broker: {error}") from None


def write_spans(path: Path, spans: Sequence[Span]) -> None:
    """JSON lines with the fields of Span. Raises OSError."""
    with replacing(path) as file:
        file.writelines(json.dumps(asdict(span)) + "\n" for span in spans)
