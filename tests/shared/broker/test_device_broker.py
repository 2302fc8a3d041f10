"""What a device does at the broker: the same on a MemoryBroker and in plain commands on a server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.broker.connections import Connections
from shared.broker.contract import BrokerAway, LeaseLost
from shared.broker.device_broker import DeviceBroker, RedisDevice
from shared.broker.memory_broker import MemoryBroker
from shared.protocol import limits, wire
from shared.protocol.messages import Draft, Heartbeat, Span
from shared.protocol.wire import decode_as
from shared.runtime.connect import DEVICE_CALLS, connect_device
from shared.runtime.settings import DraftWorkerSettings
from tests.shared.broker.worlds import LIMIT, MemoryWorld, RedisWorld, World


@pytest.fixture
async def pair(world: World) -> AsyncIterator[tuple[World, DeviceBroker]]:
    """A world, and one of its own devices."""
    await world.broker.run_id()
    device: DeviceBroker
    if isinstance(world, RedisWorld):
        device = RedisDevice(Connections(world.url), "pi", "s0", LIMIT, at_home=True)
    else:
        assert isinstance(world, MemoryWorld)
        device = MemoryBroker(world.server, stream_limit=LIMIT)
    yield world, device
    await device.close()


def draft(n: int) -> Draft:
    return Draft("s", 1, 0, n, "pi:1", (n,))


def beat(generation: int) -> Heartbeat:
    return Heartbeat("draft_worker", "pi", generation)


async def test_it_knows_the_data_by_what_the_core_calls_it(pair: tuple[World, DeviceBroker]) -> None:
    world, device = pair
    assert await device.run_id() == await world.broker.run_id()


async def test_few_connections_however_many_calls_coincide(redis_world: RedisWorld) -> None:
    before = len(await redis_world.raw.client_list())
    device = connect_device(DraftWorkerSettings(broker_url=redis_world.url), "pi")
    reading = asyncio.create_task(device.read_inbox("or:{s0}:inbox:pi:1", "0", 9, 1.0))
    await asyncio.gather(*(device.get("or:{s0}:deployment") for _ in range(16)))
    assert len(await redis_world.raw.client_list()) == before + DEVICE_CALLS + 1
    assert await reading == []
    await device.close()


async def test_generations_grow_over_a_loss_of_data(redis_world: RedisWorld) -> None:
    device = RedisDevice(Connections(redis_world.url), "pi", "s0", LIMIT, at_home=True)
    before = await device.next_generation()
    await redis_world.raw.flushall()
    await asyncio.sleep(0.01)
    assert await device.next_generation() > before
    await device.close()


async def test_before_the_core_has_come_up_there_is_nothing(redis_world: RedisWorld) -> None:
    device = RedisDevice(Connections(redis_world.url), "pi", "s0", LIMIT, at_home=True)
    with pytest.raises(BrokerAway, match="the core has not come up"):
        await device.run_id()
    await device.close()


async def test_generations_grow(pair: tuple[World, DeviceBroker]) -> None:
    _, device = pair
    given = [await device.next_generation() for _ in range(4)]
    assert given == sorted(set(given))


async def test_a_heartbeat_is_seen_and_a_newer_one_stands(pair: tuple[World, DeviceBroker]) -> None:
    world, device = pair
    await device.beat(beat(5), 4.0)
    assert await world.broker.alive("draft_worker") == [beat(5)]
    await device.beat(beat(6), 4.0)
    with pytest.raises(LeaseLost):
        await device.beat(beat(5), 4.0)
    assert await world.broker.alive("draft_worker") == [beat(6)]
    assert 3 < await world.ttl(world.keys.alive("draft_worker", "pi")) <= 4


async def test_a_heartbeat_keeps_the_inbox(pair: tuple[World, DeviceBroker]) -> None:
    world, device = pair
    inbox = world.keys.inbox("pi:5")
    await world.broker.send(inbox, draft(1))
    assert await world.ttl(inbox) > 0
    await device.beat(beat(5), 4.0)
    assert limits.INBOX_KEPT_S - 2 < await world.ttl(inbox) <= limits.INBOX_KEPT_S


async def test_drafts_are_added_in_order_up_to_the_bound(pair: tuple[World, DeviceBroker]) -> None:
    world, device = pair
    await world.broker.make_groups([world.keys.draft])
    assert await device.push_many(world.keys.draft, []) == 0
    assert await device.push_many(world.keys.draft, [draft(n) for n in range(LIMIT - 1)]) == LIMIT - 1
    assert await device.push_many(world.keys.draft, [draft(n) for n in (LIMIT - 1, LIMIT)]) == 1
    assert await device.push_many(world.keys.draft, [draft(0)]) == 0
    entries = await world.broker.read_group([world.keys.draft], "scheduler", 2 * LIMIT, 0)
    assert [wire.decode(entry.data) for entry in entries] == [draft(n) for n in range(LIMIT)]
    await world.broker.ack(world.keys.draft, [entries[0].id])
    assert await device.push_many(world.keys.draft, [draft(0), draft(1)]) == 1


async def test_a_broker_without_memory_takes_no_draft_and_looks_away(redis_world: RedisWorld) -> None:
    await redis_world.broker.run_id()
    device = RedisDevice(Connections(redis_world.url), "pi", "s0", LIMIT, at_home=True)
    await redis_world.memory_full(True)
    assert await device.push_many(redis_world.keys.draft, [draft(1)]) == 0
    with pytest.raises(BrokerAway, match="memory"):
        await device.beat(beat(1), 4.0)
    await redis_world.memory_full(False)
    assert await device.push_many(redis_world.keys.draft, [draft(1)]) == 1
    await device.close()


async def test_the_inbox_is_read_from_where_one_was(pair: tuple[World, DeviceBroker]) -> None:
    world, device = pair
    inbox = world.keys.inbox("pi:1")
    assert await device.read_inbox(inbox, "0", 9, 0.01) == []
    await world.broker.send(inbox, draft(1))
    await world.broker.send(inbox, draft(2))
    (first,) = await device.read_inbox(inbox, "0", 1, 0)
    (second,) = await device.read_inbox(inbox, first.id, 9, 1.0)
    assert [wire.decode(entry.data) for entry in (first, second)] == [draft(1), draft(2)]


async def test_refused_messages_and_spans_are_kept_at_home(pair: tuple[World, DeviceBroker]) -> None:
    world, device = pair
    inbox = world.keys.inbox("pi:1")
    await world.broker.send(inbox, draft(1))
    (entry,) = await device.read_inbox(inbox, "0", 1, 0)
    await device.dead_letter(entry, "a test")
    await device.beat(beat(1), 4.0)
    span = Span("draft_worker", "pi", "s", 1, 0, "draft", 1, 2, 0, 0)
    await device.trace([span])
    assert await world.broker.length(world.keys.dead) == 1
    (told,) = await world.broker.read_inbox(world.keys.trace, "0", 9, 0)
    assert decode_as(Span, told.data).name == "pi"


async def test_enlisted_names_are_found_and_those_over_are_told(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.broker.beat(Heartbeat("draft_worker", name, 7), 4.0)
    assert await world.broker.enlist({}) == []
    assert await world.broker.enlist({"a": 0, "b": 1, "x": 1, "y": 0}) == ["b:7"]
    assert sorted(found.name for found in await world.broker.alive("draft_worker")) == ["a", "c"]
