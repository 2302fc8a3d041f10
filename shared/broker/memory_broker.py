"""The broker in memory: the meaning of RedisBroker without a process, for tests and simulation.

Messages pass as bytes through `wire`, as they do there. See contract.py for what each method means.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from shared.broker.checks import check_close, check_rows, heartbeats
from shared.broker.clock_offset import ClockOffset
from shared.broker.contract import BrokerAway, BrokerFull, CommitOutcome, CommitRow, Entry
from shared.broker.memory_scripts import MemoryScripts
from shared.broker.memory_server import MemoryServer
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Close, Heartbeat, Message, Open, Role, Span, StagedBatch, Submit
from shared.protocol.session import SessionHead, SessionLog, SessionSpec

__all__ = ["Link", "MemoryBroker", "MemoryServer"]

T = TypeVar("T")


class Link(Protocol):
    """What lies between a process and the broker: delay, loss, faults. One per connection."""

    async def before(self, operation: str, sent: int) -> None:
        """Called on the way there with the bytes of messages sent. BrokerAway: the operation has no effect."""
        ...

    async def after(self, operation: str, received: int) -> None:
        """Called on the way back with the bytes of messages received. BrokerAway: the effect stands."""
        ...

    def copies(self, stream: str, data: bytes) -> int:
        """How often a message that this connection adds arrives: 1, or 0 (lost), or more (repeated)."""
        ...


class Direct:
    """No link at all; every operation still lets other tasks run."""

    async def before(self, operation: str, sent: int) -> None:
        """See Link.before."""
        await asyncio.sleep(0)

    async def after(self, operation: str, received: int) -> None:
        """See Link.after."""

    def copies(self, stream: str, data: bytes) -> int:
        """See Link.copies."""
        return 1


class MemoryBroker:
    """One process's connection to a MemoryServer."""

    def __init__(
        self, server: MemoryServer, shard: str = "s0", stream_limit: int = 4096, link: Link | None = None
    ) -> None:
        self._server = server
        self._keys = Keys(shard)
        self._link = link or Direct()
        self._scripts = MemoryScripts(server, self._keys, stream_limit, self._link.copies)
        self._clock = ClockOffset()
        self._closed = False

    # --- connection ---------------------------------------------------------------------------------
    async def run_id(self) -> str:
        return await self._do("run_id", lambda: self._server.run_id)

    async def ping(self) -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await self._do("ping", lambda: None)
        return loop.time() - start

    async def close(self) -> None:
        self._closed = True

    # --- streams ------------------------------------------------------------------------------------
    async def push(self, stream: str, message: Message) -> None:
        if not await self.push_many(stream, [message]):
            raise self._scripts.no_room(stream)

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        packed = [wire.encode(message) for message in messages]
        if not packed:
            return 0
        return await self._do("push", lambda: self._scripts.push(stream, packed), sum(map(len, packed)))

    async def send(self, inbox: str, message: Message) -> None:
        data = wire.encode(message)
        await self._do("send", lambda: self._scripts.send(inbox, data), len(data))

    async def open(self, device: str, message: Open) -> bool:
        return await self._do("open", lambda: self._scripts.open(device, message))

    async def make_groups(self, streams: Sequence[str]) -> None:
        await self._do("make_groups", lambda: [self._server.group(stream) for stream in streams])

    async def read_pending(self, streams: Sequence[str], consumer: str, count: int) -> list[Entry]:
        def found() -> list[Entry]:
            entries = [e for stream in streams for e in self._server.redeliver(stream, consumer, count)]
            return sorted(entries, key=lambda entry: _number(entry.id))

        return await self._do("read_pending", found, received=_bytes)

    async def read_group(
        self, streams: Sequence[str], consumer: str, count: int, block_s: float
    ) -> list[Entry]:
        def new() -> list[Entry]:
            return [e for stream in streams for e in self._server.deliver(stream, consumer, count)]

        return await self._read("read_group", new, streams, block_s)

    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]:
        last = _number(after)

        def new() -> list[Entry]:
            if not self._server.length(inbox):
                return []
            entries = self._server.stream(inbox).after(last, count)
            return [Entry(inbox, f"{number}-0", data) for number, data in entries]

        return await self._read("read_inbox", new, [inbox], block_s)

    async def ack(self, stream: str, ids: Sequence[str]) -> None:
        await self._do("ack", lambda: self._scripts.settle(stream, ids))

    async def dead_letter(self, entry: Entry, reason: str) -> None:
        await self._do(
            "dead_letter",
            lambda: self._scripts.dead_letter(entry.stream, entry.id, entry.data),
            len(entry.data),
        )

    async def length(self, stream: str) -> int:
        return await self._do("length", lambda: self._server.length(stream))

    # --- session log --------------------------------------------------------------------------------
    async def submit(self, spec: SessionSpec, message: Submit) -> bool:
        packed, data = wire.encode_spec(spec), wire.encode(message)
        return await self._do(
            "submit", lambda: self._scripts.submit(spec, packed, data), len(packed) + len(data)
        )

    async def load(self, session: str) -> SessionLog:
        return await self._do(
            "load", lambda: self._scripts.load(session), received=lambda log: 4 * log.head.length
        )

    async def head(self, session: str) -> SessionHead:
        return await self._do("head", lambda: self._scripts.head(session))

    async def live(self) -> set[str]:
        return await self._do("live", lambda: set(self._scripts.live()))

    async def place(self, session: str, epoch: int, verifier: str, device: str) -> bool:
        return await self._do("place", lambda: self._scripts.place(session, epoch, verifier, device))

    async def end(self, session: str, close: Close, verifier: str, device: str, gateway: str) -> bool:
        check_close(close)
        data = wire.encode(close)
        inboxes = [self._keys.inbox(device)] if device else []
        inboxes += [self._keys.reply(gateway)] if gateway else []
        return await self._do(
            "end", lambda: self._scripts.end(session, close, data, verifier, inboxes), len(data)
        )

    async def commit(self, verifier: str, entry_id: str, rows: Sequence[CommitRow]) -> list[CommitOutcome]:
        check_rows(rows)
        packed = [(row, wire.encode(row.verdict)) for row in rows]
        return await self._do(
            "commit",
            lambda: self._scripts.commit(verifier, entry_id, packed),
            sum(len(data) for _, data in packed),
        )

    # --- scheduler ----------------------------------------------------------------------------------
    async def acquire_lease(self, holder: str, ttl_s: float) -> int:
        return await self._do("acquire_lease", lambda: self._scripts.acquire(holder, ttl_s))

    async def renew_lease(self, holder: str, term: int, ttl_s: float) -> bool:
        return await self._do("renew_lease", lambda: self._scripts.renew(holder, term, ttl_s))

    async def release_lease(self, holder: str, term: int) -> None:
        await self._do("release_lease", lambda: self._scripts.release(holder, term))

    async def stage(self, verifier: str, batch: StagedBatch, drafts: Sequence[str], holder: str) -> None:
        data = wire.encode(batch)
        await self._do("stage", lambda: self._scripts.stage(verifier, data, drafts, holder), len(data))

    # --- who is there -------------------------------------------------------------------------------
    async def next_generation(self) -> int:
        return await self._do("next_generation", lambda: self._server.next_number(self._keys.generation))

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        loop = asyncio.get_running_loop()
        sent, data = loop.time(), wire.encode(heartbeat)
        broker_us = await self._do("beat", lambda: self._scripts.beat(heartbeat, data, ttl_s), len(data))
        self._clock.observe(sent, loop.time(), broker_us)

    async def leave(self, role: Role, name: str, generation: int) -> None:
        await self._do("leave", lambda: self._scripts.leave(role, name, generation))

    async def alive(self, role: Role) -> list[Heartbeat]:
        messages = await self._do(
            "alive", lambda: self._scripts.alive(role), received=lambda found: sum(map(len, found))
        )
        return heartbeats(messages)

    async def enlist(self, expiries: Mapping[str, int]) -> list[str]:
        return await self._do("enlist", lambda: self._scripts.enlist(expiries))

    async def put(self, key: str, fields: Mapping[str, str]) -> None:
        await self._do("put", lambda: self._scripts.put(key, fields))

    async def get(self, key: str) -> dict[str, str]:
        return await self._do("get", lambda: dict(self._server.get(key, dict) or {}))

    async def trace(self, spans: Sequence[Span]) -> None:
        packed = [wire.encode(replace(span, offset_us=self._clock.us)) for span in spans]
        with suppress(BrokerFull):
            await self._do("trace", lambda: self._scripts.trace(packed), sum(map(len, packed)))

    # --- below --------------------------------------------------------------------------------------
    async def _do(
        self, operation: str, act: Callable[[], T], sent: int = 0, received: Callable[[T], int] | None = None
    ) -> T:
        """One operation over the link: `act` is its effect, all at once."""
        await self._link.before(operation, sent)
        result = self._act(act)
        await self._link.after(operation, received(result) if received else 0)
        return result

    async def _read(
        self, operation: str, new: Callable[[], list[Entry]], streams: Sequence[str], block_s: float
    ) -> list[Entry]:
        """A read that waits at the broker until there is something, or block_s have passed."""
        await self._link.before(operation, 0)
        loop = asyncio.get_running_loop()
        until = loop.time() + block_s
        entries = self._act(new)
        while not entries and (left_s := until - loop.time()) > 0:
            await self._server.wait(streams, left_s)
            entries = self._act(new)
        await self._link.after(operation, _bytes(entries))
        return entries

    def _act(self, act: Callable[[], T]) -> T:
        if self._closed:
            raise BrokerAway("this connection was closed")
        self._server.purge()
        return act()


def _number(entry_id: str) -> int:
    return int(entry_id.split("-", maxsplit=1)[0])


def _bytes(entries: Sequence[Entry]) -> int:
    return sum(len(entry.data) for entry in entries)
