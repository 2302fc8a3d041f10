"""Streams on Redis or Valkey. contract.py describes every method."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from redis.exceptions import ResponseError

from shared.broker.clock_offset import ClockOffset
from shared.broker.connections import Connections
from shared.broker.contract import BrokerFull, Entry
from shared.broker.replies import data, text
from shared.broker.stream_reader import read
from shared.protocol import limits, wire
from shared.protocol.keys import GROUP, Keys
from shared.protocol.messages import Message, Span


class RedisStreams:
    """Work streams, inboxes and the trace stream."""

    def __init__(self, connections: Connections, keys: Keys, limit: int, clock: ClockOffset) -> None:
        """limit: entries of a work stream."""
        self._redis, self._keys, self._limit, self._clock = connections, keys, limit, clock

    async def push(self, stream: str, message: Message) -> None:
        if not await self.push_many(stream, [message]):
            raise BrokerFull(f"{stream} holds {self._limit} entries")

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        packed = [wire.encode(message) for message in messages]
        return int(await self._redis.run("push", [stream], self._limit, *packed)) if packed else 0

    async def send(self, inbox: str, message: Message) -> None:
        await self._redis.run("send", [inbox], wire.encode(message))

    async def make_groups(self, streams: Sequence[str]) -> None:
        if streams:
            await self._redis.run("groups", streams)

    async def read_pending(self, streams: Sequence[str], consumer: str, count: int) -> list[Entry]:
        found: list[Entry] = []
        for stream in streams:
            try:
                rows = await self._redis.run("pending", [stream], consumer, count)
            except ResponseError as error:
                await self._regroup(error, [stream])
                continue
            found += [Entry(stream, text(id_), data(pairs), deliveries) for id_, deliveries, pairs in rows]
        return sorted(found, key=lambda entry: [int(part) for part in entry.id.split("-")])

    async def read_group(
        self, streams: Sequence[str], consumer: str, count: int, block_s: float
    ) -> list[Entry]:
        command = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count)
        new = [">"] * len(streams)
        try:
            return await read(self._redis, command, streams, new, block_s)
        except ResponseError as error:
            await self._regroup(error, streams)
        try:
            return await read(self._redis, command, streams, new, block_s)
        except ResponseError as error:  # lost its data once more
            await self._regroup(error, streams)
            return []

    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]:
        return await read(self._redis, ("XREAD", "COUNT", count), [inbox], [after], block_s)

    async def ack(self, stream: str, ids: Sequence[str]) -> None:
        if ids:
            await self._redis.run("ack", [stream], *ids)

    async def dead_letter(self, entry: Entry, reason: str) -> None:
        kept = entry.data[: limits.DEAD_BYTES]
        await self._redis.run(
            "dead", [self._keys.dead, entry.stream], entry.id, reason, len(entry.data), kept
        )

    async def length(self, stream: str) -> int:
        return int(await self._redis.call("XLEN", stream))

    async def trace(self, spans: Sequence[Span]) -> None:
        if spans:
            packed = [wire.encode(replace(span, offset_us=self._clock.us)) for span in spans]
            with suppress(BrokerFull):
                await self._redis.run("trace", [self._keys.trace], *packed)

    async def _regroup(self, error: ResponseError, streams: Sequence[str]) -> None:
        """Create missing groups: the broker lost its data, or they never existed. Raises any other error again.

        A group starts at the start of its stream, so no entry is missed. The run id shows that data was lost.
        """
        if not str(error).startswith("NOGROUP"):
            raise error
        await self.make_groups(streams)
