"""Streams in memory. contract.py describes every method."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from shared.broker.clock_offset import ClockOffset
from shared.broker.contract import BrokerFull, Entry
from shared.broker.memory_link import MemoryConnection, data_bytes
from shared.broker.memory_scripts import MemoryScripts
from shared.broker.memory_server import Stream, number_of
from shared.protocol import wire
from shared.protocol.messages import Message, Span


class MemoryStreams:
    """Work streams, inboxes and the trace stream."""

    def __init__(self, connection: MemoryConnection, scripts: MemoryScripts, clock: ClockOffset) -> None:
        self._connection, self._scripts, self._clock = connection, scripts, clock
        self._server = connection.server

    async def push(self, stream: str, message: Message) -> None:
        if not await self.push_many(stream, [message]):
            raise self._scripts.no_room(stream)

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        packed = [self._server.encode(message) for message in messages]
        if not packed:
            return 0
        return await self._connection.do(
            "push", lambda: self._scripts.push(stream, packed), sum(map(len, packed))
        )

    async def send(self, inbox: str, message: Message) -> None:
        data = self._server.encode(message)
        await self._connection.do("send", lambda: self._scripts.send(inbox, data), len(data))

    async def make_groups(self, streams: Sequence[str]) -> None:
        await self._connection.do("make_groups", lambda: [self._server.group(stream) for stream in streams])

    async def read_pending(self, streams: Sequence[str], consumer: str, count: int) -> list[Entry]:
        def found() -> list[Entry]:
            entries = [e for stream in streams for e in self._server.redeliver(stream, consumer, count)]
            return sorted(entries, key=lambda entry: number_of(entry.id))

        return await self._connection.do("read_pending", found, received=data_bytes)

    async def read_group(
        self, streams: Sequence[str], consumer: str, count: int, block_s: float
    ) -> list[Entry]:
        def new() -> list[Entry]:
            return [e for stream in streams for e in self._server.deliver(stream, consumer, count)]

        return await self._connection.read("read_group", new, streams, block_s)

    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]:
        last = number_of(after) if after != "0" else 0

        def new() -> list[Entry]:
            stream = self._server.get(inbox, Stream)
            if stream is None or not stream.entries or stream.entries[-1][0] <= last:
                return []
            return [Entry(inbox, f"{number}-0", data) for number, data in stream.after(last, count)]

        return await self._connection.read("read_inbox", new, [inbox], block_s)

    async def ack(self, stream: str, ids: Sequence[str]) -> None:
        await self._connection.do("ack", lambda: self._scripts.ack(stream, ids))

    async def dead_letter(self, entry: Entry, reason: str) -> None:
        await self._connection.do(
            "dead_letter",
            lambda: self._scripts.dead_letter(entry.stream, entry.id, entry.data),
            len(entry.data),
        )

    async def length(self, stream: str) -> int:
        return await self._connection.do("length", lambda: self._server.length(stream))

    async def trace(self, spans: Sequence[Span]) -> None:
        packed = [wire.encode(replace(span, offset_us=self._clock.us)) for span in spans]
        with suppress(BrokerFull):
            await self._connection.do("trace", lambda: self._scripts.trace(packed), sum(map(len, packed)))
