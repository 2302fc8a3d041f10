"""The contract of streams on every broker: work streams, inboxes, dead letters and the trace.

What a device does too is done by a device here, of each kind (FOR_DEVICES).
"""

import asyncio

import pytest

from shared.broker import stream_reader
from shared.broker.contract import Broker, BrokerFull
from shared.protocol import limits, wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Close, Heartbeat, Span
from tests.shared.broker.logs import cancel
from tests.shared.broker.worlds import FOR_DEVICES, LIMIT, World


# --- work streams ---------------------------------------------------------------------------------------
async def test_work_is_read_once_in_order_and_goes_when_acknowledged(broker: Broker, keys: Keys) -> None:
    await broker.streams.make_groups([keys.submit])
    for n in range(5):
        await broker.streams.push(keys.submit, cancel(n))
    entries = await broker.streams.read_group([keys.submit], "scheduler", 3, 0)
    entries += await broker.streams.read_group([keys.submit], "scheduler", 3, 0)
    assert [wire.decode(entry.data) for entry in entries] == [cancel(n) for n in range(5)]
    assert {(entry.stream, entry.deliveries) for entry in entries} == {(keys.submit, 1)}
    assert await broker.streams.read_group([keys.submit], "scheduler", 3, 0) == []
    assert await broker.streams.length(keys.submit) == 5
    await broker.streams.ack(keys.submit, [entry.id for entry in entries])
    await broker.streams.ack(keys.submit, [])
    assert await broker.streams.length(keys.submit) == 0
    assert await broker.streams.read_pending([keys.submit], "scheduler", 10) == []


async def test_several_streams_in_one_read(broker: Broker, keys: Keys) -> None:
    streams = [keys.submit, keys.draft, keys.verdicts]
    await broker.streams.make_groups(streams)
    for stream in streams:
        await broker.streams.push(stream, cancel(1))
        await broker.streams.push(stream, cancel(2))
    entries = await broker.streams.read_group(streams, "scheduler", 1, 0)
    assert sorted(entry.stream for entry in entries) == sorted(streams)
    assert len(await broker.streams.read_group(streams, "scheduler", 9, 0)) == 3


async def test_pending_is_given_again_and_counted(broker: Broker, keys: Keys) -> None:
    await broker.streams.make_groups([keys.submit, keys.draft])
    for n in range(3):
        await broker.streams.push(keys.draft if n == 1 else keys.submit, cancel(n))
        await asyncio.sleep(0.003)  # ids are milliseconds
    first = await broker.streams.read_group([keys.submit, keys.draft], "scheduler", 9, 0)
    assert len(first) == 3
    for times in (2, 3, 4):
        again = await broker.streams.read_pending([keys.submit, keys.draft], "scheduler", 9)
        assert [entry.deliveries for entry in again] == [times] * 3
        assert [wire.decode(entry.data) for entry in again] == [cancel(n) for n in range(3)]  # oldest first
    assert len(await broker.streams.read_pending([keys.submit, keys.draft], "scheduler", 1)) == 2
    assert await broker.streams.read_pending([keys.submit, keys.draft], "another", 9) == []
    await broker.streams.ack(keys.draft, [again[1].id])
    left = await broker.streams.read_pending([keys.submit, keys.draft], "scheduler", 9)
    assert [entry.id for entry in left] == [again[0].id, again[2].id]
    assert left[0].deliveries == 6  # the read of one per stream counted too


async def test_push_refuses_at_the_bound(broker: Broker, keys: Keys) -> None:
    for n in range(LIMIT):
        await broker.streams.push(keys.draft, cancel(n))
    with pytest.raises(BrokerFull, match=r"draft holds 64"):
        await broker.streams.push(keys.draft, cancel(0))
    assert await broker.streams.length(keys.draft) == LIMIT


@FOR_DEVICES
async def test_of_many_as_many_are_added_as_there_is_room_for(world: World) -> None:
    broker, device, draft = world.broker, world.device("pi"), world.keys.draft
    messages = [cancel(n) for n in range(LIMIT + 2)]
    await broker.streams.make_groups([draft])
    assert await device.streams.push_many(draft, []) == 0
    assert await device.streams.push_many(draft, messages[:3]) == 3
    assert await device.streams.push_many(draft, messages[3:]) == LIMIT - 3
    assert await device.streams.push_many(draft, messages[-1:]) == 0
    read = await broker.streams.read_group([draft], "scheduler", 2 * LIMIT, 0)
    assert [wire.decode(entry.data) for entry in read] == messages[:LIMIT]
    await broker.streams.ack(draft, [read[0].id])
    assert await device.streams.push_many(draft, messages[-2:]) == 1
    assert await device.streams.push_many(draft, messages[-2:]) == 0
    assert await broker.streams.length(draft) == LIMIT


async def test_groups_begin_at_the_start_and_are_made_once(broker: Broker, keys: Keys) -> None:
    await broker.streams.push(keys.submit, cancel(1))
    await broker.streams.make_groups([keys.submit, keys.draft])
    assert len(await broker.streams.read_group([keys.submit], "scheduler", 9, 0)) == 1
    await broker.streams.make_groups([keys.submit, keys.draft])
    await broker.streams.make_groups([])
    assert await broker.streams.read_group([keys.submit], "scheduler", 9, 0) == []


async def test_a_missing_group_is_made_by_reading(broker: Broker, keys: Keys) -> None:
    assert await broker.streams.read_pending([keys.submit], "scheduler", 9) == []
    assert await broker.streams.read_group([keys.draft], "scheduler", 9, 0.01) == []
    await broker.streams.push(keys.submit, cancel(1))
    await broker.streams.push(keys.draft, cancel(2))
    assert len(await broker.streams.read_group([keys.submit, keys.draft], "scheduler", 9, 0)) == 2


async def test_a_read_waits_for_an_entry_and_not_longer(world: World) -> None:
    loop = asyncio.get_running_loop()
    await world.broker.streams.make_groups([world.keys.submit, world.keys.draft])
    start = loop.time()
    assert await world.broker.streams.read_group([world.keys.submit], "scheduler", 9, 0.1) == []
    assert 0.09 <= loop.time() - start < 1
    waiting = [
        asyncio.create_task(world.broker.streams.read_group([world.keys.submit], "scheduler", 9, 5)),
        asyncio.create_task(world.broker.streams.read_group([world.keys.draft], "scheduler", 9, 5)),
        asyncio.create_task(world.broker.streams.read_inbox(world.keys.inbox("pi:1"), "0", 9, 5)),
    ]
    await asyncio.sleep(0.05)
    await world.broker.streams.push(world.keys.draft, cancel(2))
    await world.broker.streams.push(world.keys.submit, cancel(1))
    await world.broker.streams.send(world.keys.inbox("pi:1"), cancel(3))
    found = [wire.decode(entries[0].data) for entries in await asyncio.gather(*waiting)]
    assert found == [cancel(1), cancel(2), cancel(3)]
    assert loop.time() - start < 2


async def test_one_entry_goes_to_one_of_two_waiting_readers(world: World) -> None:
    await world.broker.streams.make_groups([world.keys.submit])
    readers = [
        asyncio.create_task(world.broker.streams.read_group([world.keys.submit], name, 9, 0.3))
        for name in "ab"
    ]
    await asyncio.sleep(0.05)
    await world.broker.streams.push(world.keys.submit, cancel(1))
    assert sorted(len(entries) for entries in await asyncio.gather(*readers)) == [0, 1]


async def test_dead_letters_are_kept_and_settled(world: World) -> None:
    broker, keys = world.broker, world.keys
    await broker.streams.make_groups([keys.submit])
    await broker.streams.push(keys.submit, cancel(1))
    (entry,) = await broker.streams.read_group([keys.submit], "scheduler", 9, 0)
    await broker.streams.dead_letter(entry, "unknown tag 99")
    assert await broker.streams.length(keys.dead) == 1
    assert await broker.streams.length(keys.submit) == 0
    assert await broker.streams.read_pending([keys.submit], "scheduler", 9) == []
    assert await world.ttl(keys.dead) > 0


# --- inboxes --------------------------------------------------------------------------------------------
@FOR_DEVICES
async def test_inbox_is_read_from_the_start_and_after_an_id(world: World) -> None:
    inbox, device = world.keys.inbox("pi:7"), world.device("pi")
    assert await device.streams.read_inbox(inbox, "0", 9, 0.01) == []
    for n in range(4):
        await world.broker.streams.send(inbox, cancel(n))
    first = await device.streams.read_inbox(inbox, "0", 3, 0)
    rest = await device.streams.read_inbox(inbox, first[-1].id, 9, 0)
    assert [wire.decode(entry.data) for entry in first + rest] == [cancel(n) for n in range(4)]
    assert {(entry.stream, entry.deliveries) for entry in first + rest} == {(inbox, 1)}


@FOR_DEVICES
async def test_a_read_of_an_inbox_waits_for_an_entry_and_not_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "BLOCK_S", 0.02)  # a wait is longer than one block of the server
    inbox, device, loop = world.keys.inbox("pi:7"), world.device("pi"), asyncio.get_running_loop()
    start = loop.time()
    assert await device.streams.read_inbox(inbox, "0", 9, 0.1) == []
    assert 0.09 <= loop.time() - start < 1
    reading = asyncio.create_task(device.streams.read_inbox(inbox, "0", 9, 5))
    await asyncio.sleep(0.05)
    await world.broker.streams.send(inbox, cancel(1))
    assert [wire.decode(entry.data) for entry in await reading] == [cancel(1)]
    assert loop.time() - start < 2


async def test_inbox_is_capped(broker: Broker, keys: Keys) -> None:
    for n in range(limits.INBOX_CAP + 250):
        await broker.streams.send(keys.reply("g:1"), cancel(n))
    assert limits.INBOX_CAP <= await broker.streams.length(keys.reply("g:1")) < limits.INBOX_CAP + 200
    last = (await broker.streams.read_inbox(keys.reply("g:1"), "0", 9999, 0))[-1]
    assert wire.decode(last.data) == cancel(limits.INBOX_CAP + 249)


@FOR_DEVICES
async def test_inbox_goes_unless_its_reader_beats(world: World) -> None:
    inbox, reply = world.keys.inbox("pi:1"), world.keys.reply("gw:2")
    for stream in (inbox, reply):
        await world.broker.streams.send(stream, cancel(1))
    first = await world.ttl(inbox)
    assert 0 < first <= limits.INBOX_KEPT_S
    await asyncio.sleep(0.05)
    await world.broker.streams.send(inbox, cancel(2))
    assert await world.ttl(inbox) < first  # a sender does not keep a dead reader's inbox
    before = await world.ttl(inbox), await world.ttl(reply)
    await world.device("pi").presence.beat(Heartbeat("draft_worker", "pi", 1), 5)
    await world.broker.presence.beat(Heartbeat("gateway", "gw", 2), 5)
    assert await world.ttl(inbox) > before[0]
    assert await world.ttl(reply) > before[1]


# --- the trace, large messages --------------------------------------------------------------------------
@FOR_DEVICES
async def test_a_broker_without_memory_drops_spans_and_says_nothing(world: World) -> None:
    device = world.device("pi")
    await world.memory_full(True)
    await device.streams.trace([Span("draft_worker", "pi", "s1", 1, 0, "draft", 1, 2, 0, 0)])
    await world.memory_full(False)
    assert await world.broker.streams.length(world.keys.trace) == 0


@FOR_DEVICES
async def test_a_device_that_refuses_a_message_goes_on(world: World) -> None:
    inbox, device = world.keys.inbox("pi:1"), world.device("pi")
    await world.broker.streams.send(inbox, cancel(1))
    (entry,) = await device.streams.read_inbox(inbox, "0", 1, 0)
    await world.memory_full(True)
    await device.streams.dead_letter(entry, "a test")
    await world.memory_full(False)
    await world.broker.streams.send(inbox, cancel(2))
    (entry,) = await device.streams.read_inbox(inbox, entry.id, 9, 0)
    assert wire.decode(entry.data) == cancel(2)


async def test_spans_are_appended(world: World) -> None:
    spans = [Span("verifier", "core", "s1", 1, n, "verify", 1, 2, 3, 0) for n in range(3)]
    await world.broker.streams.trace([])
    await world.broker.streams.trace(spans)
    entries = await world.broker.streams.read_inbox(world.keys.trace, "0", 9, 0)
    assert [wire.decode(entry.data) for entry in entries] == spans
    assert 0 < await world.ttl(world.keys.trace) <= limits.TRACE_KEPT_S


async def test_a_message_too_large_is_not_sent(broker: Broker, keys: Keys) -> None:
    with pytest.raises(wire.WireError, match="at most"):
        await broker.streams.send(keys.reply("g:1"), Close("s", 1, "error", "x" * limits.MAX_MESSAGE_BYTES))
    assert await broker.streams.length(keys.reply("g:1")) == 0
