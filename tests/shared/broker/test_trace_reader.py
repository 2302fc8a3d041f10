"""The timeline is read back as it was written, page by page, from a time on."""

import asyncio

import pytest

from shared.broker import trace_reader
from shared.broker.contract import BrokerAway
from shared.broker.trace_reader import TraceReader
from shared.protocol.messages import Span
from tests.shared.broker.worlds import RedisWorld


def span(step: int) -> Span:
    return Span("verifier", "core", "s1", 1, 1, "verify", step, step + 1, step, 0)


async def test_spans_since_a_time_of_the_brokers_clock(
    redis_world: RedisWorld, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_reader, "PAGE", 3)
    async with TraceReader(redis_url) as reader:
        await redis_world.broker.streams.trace([span(1)])
        await asyncio.sleep(0.005)
        begun = await reader.now_us()
        await redis_world.broker.streams.trace([span(step) for step in range(2, 9)])
        assert [found.step for found in await reader.since(begun)] == list(range(2, 9))


async def test_nobody_there() -> None:
    async with TraceReader("redis://127.0.0.1:9/0") as reader:
        with pytest.raises(BrokerAway):
            await reader.now_us()
