"""MemoryBroker alone: links that delay, lose and repeat, and a server that loses its data."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from shared.broker.contract import BrokerAway, UnknownSession
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.protocol import limits, wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Cancel
from tests.shared.broker.logs import open_session, row
from tests.shared.broker.worlds import MemoryWorld

KEYS = Keys()


@dataclass
class Faults:
    """A link whose faults a test sets."""

    lose_before: str = ""
    lose_after: str = ""
    delay_s: float = 0.0
    times: Callable[[str], int] = lambda stream: 1
    log: list[tuple[str, int]] = field(default_factory=list)

    async def before(self, operation: str, sent: int) -> None:
        self.log.append((f"> {operation}", sent))
        await asyncio.sleep(self.delay_s)
        if operation == self.lose_before:
            raise BrokerAway("lost on the way there")

    async def after(self, operation: str, received: int) -> None:
        self.log.append((f"< {operation}", received))
        await asyncio.sleep(self.delay_s)
        if operation == self.lose_after:
            raise BrokerAway("lost on the way back")

    def copies(self, stream: str, data: bytes) -> int:
        return self.times(stream)


async def test_a_call_lost_on_the_way_there_has_no_effect_and_on_the_way_back_it_has() -> None:
    server, faults = MemoryServer(), Faults()
    broker, straight = MemoryBroker(server, link=faults), MemoryBroker(server)
    await open_session(straight)
    faults.lose_before = "commit"
    with pytest.raises(BrokerAway, match="there"):
        await broker.sessions.commit("v", "", [row(4, 10)])
    assert (await straight.sessions.head("s1")).committed == 0
    faults.lose_before, faults.lose_after = "", "commit"
    with pytest.raises(BrokerAway, match="back"):
        await broker.sessions.commit("v", "", [row(4, 10)])
    assert (await straight.sessions.load("s1")).committed == (10,)
    faults.lose_after = ""
    assert [o.outcome for o in await broker.sessions.commit("v", "", [row(4, 10)])] == ["answered"]


async def test_a_read_lost_on_the_way_back_leaves_its_entries_pending() -> None:
    server, faults = MemoryServer(), Faults(lose_after="read_group")
    broker = MemoryBroker(server, link=faults)
    await broker.streams.push(KEYS.submit, Cancel("s1"))
    with pytest.raises(BrokerAway):
        await broker.streams.read_group([KEYS.submit], "scheduler", 9, 1)
    (entry,) = await broker.streams.read_pending([KEYS.submit], "scheduler", 9)
    assert entry.deliveries == 2


async def test_messages_are_lost_and_repeated_where_the_link_says_so() -> None:
    server, faults = MemoryServer(), Faults()
    broker = MemoryBroker(server, link=faults)
    await open_session(broker)
    faults.times = lambda stream: {KEYS.verdicts: 2, KEYS.reply("gw:1"): 0}.get(stream, 1)
    await broker.sessions.commit("v", "", [row(4, 10)])
    assert await broker.streams.length(KEYS.verdicts) == 2
    assert await broker.streams.length(KEYS.reply("gw:1")) == 0
    assert await broker.streams.length(KEYS.inbox("pi:2")) == 1
    assert (await broker.sessions.load("s1")).committed == (10,)


async def test_the_link_is_given_the_bytes_of_messages() -> None:
    faults = Faults()
    broker = MemoryBroker(MemoryServer(), link=faults)
    message = Cancel("s1")
    await broker.streams.push(KEYS.submit, message)
    await broker.streams.read_group([KEYS.submit], "scheduler", 9, 0)
    size = len(wire.encode(message))
    assert faults.log == [("> push", size), ("< push", 0), ("> read_group", 0), ("< read_group", size)]


async def test_delay_is_paid_each_way() -> None:
    broker = MemoryBroker(MemoryServer(), link=Faults(delay_s=0.02))
    assert 0.04 <= await broker.ping() < 0.5


async def test_wipe_loses_everything_and_wakes_readers(memory_world: MemoryWorld) -> None:
    broker, server = memory_world.broker, memory_world.server
    run_id, generation = await broker.run_id(), await broker.presence.next_generation()
    await open_session(broker)
    reader = asyncio.create_task(broker.streams.read_group([KEYS.draft], "scheduler", 9, 5))
    await asyncio.sleep(0.01)
    server.wipe()
    with pytest.raises(BrokerAway):
        await reader
    assert await broker.run_id() != run_id
    assert await broker.sessions.live() == set()
    assert await broker.presence.next_generation() > generation
    with pytest.raises(UnknownSession):
        await broker.sessions.load("s1")
    assert not await broker.streams.read_group([KEYS.submit], "scheduler", 9, 0)


async def test_entries_after_a_wipe_come_after_those_before() -> None:
    server = MemoryServer()
    broker = MemoryBroker(server)
    await broker.streams.send(KEYS.inbox("pi:1"), Cancel("s1"))
    (first,) = await broker.streams.read_inbox(KEYS.inbox("pi:1"), "0", 9, 0)
    server.wipe()
    await broker.streams.send(KEYS.inbox("pi:1"), Cancel("s2"))
    (second,) = await broker.streams.read_inbox(KEYS.inbox("pi:1"), first.id, 9, 0)
    assert wire.decode(second.data) == Cancel("s2")


async def test_what_expired_is_gone_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_KEPT_S", 0.02)
    monkeypatch.setattr(limits, "INBOX_KEPT_S", 0.02)
    server = MemoryServer()
    broker = MemoryBroker(server)
    for n in range(20):
        await open_session(broker, f"s{n}", deadline_ms=10)
        await broker.sessions.commit("v", "", [row(4, 10, session=f"s{n}", finish="stop")])
    await asyncio.sleep(0.05)
    await broker.ping()
    assert server.keys_without_expiry() == {KEYS.submit, KEYS.live, KEYS.verdicts}
    assert [server.ttl(KEYS.session(f"s{n}")) for n in range(20)] == [-2] * 20


async def test_waiting_readers_leave_nothing_behind() -> None:
    server = MemoryServer()
    broker = MemoryBroker(server)
    reader = asyncio.create_task(broker.streams.read_group([KEYS.submit, KEYS.draft], "scheduler", 9, 5))
    await asyncio.sleep(0.01)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await broker.streams.read_inbox(KEYS.inbox("pi:1"), "0", 9, 0.01) == []
    await broker.streams.push(KEYS.submit, Cancel("s1"))
    assert len(await broker.streams.read_group([KEYS.submit], "scheduler", 9, 0)) == 1
    assert server.waiting() == 0
