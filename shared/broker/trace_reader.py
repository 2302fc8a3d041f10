"""Reads the timeline that services write with OUTRIDER_TRACE=1. Only tools read it."""

from types import TracebackType
from typing import Any, Final

from shared.broker.connections import Connections
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Span

PAGE: Final = 5000  # entries of one read
READS: Final = 1000  # at most


class TraceReader:
    """Use as `async with TraceReader(url) as reader`. Raises BrokerAway, BrokerDenied, ValueError for no broker URL."""

    def __init__(self, url: str, user: str = "", password: str = "", shard: str = "s0") -> None:
        self._connections = Connections(url, user, password)
        self._key = Keys(shard).trace

    async def __aenter__(self) -> "TraceReader":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    async def now_us(self) -> int:
        """The broker's clock, to which a span's start_us + offset_us refers."""
        seconds, microseconds = await self._connections.call("TIME")
        return int(seconds) * 1_000_000 + int(microseconds)

    async def since(self, us: int) -> list[Span]:
        """Spans written since a time of the broker's clock, in order of arrival."""
        spans: list[Span] = []
        after = f"{us // 1000}"
        for _ in range(READS):
            entries: list[Any] = await self._connections.call(
                "XRANGE", self._key, after, "+", "COUNT", str(PAGE)
            )
            spans += [wire.decode_as(Span, pairs[1]) for _, pairs in entries]
            if len(entries) < PAGE:
                break
            after = "(" + entries[-1][0].decode()
        return spans
