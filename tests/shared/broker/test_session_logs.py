"""The contract of session logs on every broker: submit, place, end, and a broker without memory."""

import asyncio

import pytest

from shared.broker.contract import Broker, BrokerFull, CommitOutcome, UnknownSession
from shared.protocol import limits, wire
from shared.protocol.keys import Keys
from shared.protocol.messages import (
    Cancel,
    Close,
    Heartbeat,
    Open,
    Span,
    StagedBatch,
)
from tests.shared.broker.logs import (
    DEVICE,
    GATEWAY,
    PROMPT,
    Receivers,
    open_session,
    row,
    spec_of,
    submit_of,
)
from tests.shared.broker.worlds import LIMIT, World


# --- submit, head, load -----------------------------------------------------------------------------------
async def test_submit_creates_the_log_and_adds_submit(world: World) -> None:
    broker, keys = world.broker, world.keys
    await broker.streams.make_groups([keys.submit])
    await open_session(broker)
    (entry,) = await broker.streams.read_group([keys.submit], "scheduler", 9, 0)
    assert wire.decode(entry.data) == submit_of(spec_of())
    assert await broker.sessions.live() == {"s1"}
    head = await broker.sessions.head("s1")
    assert (head.session, head.prompt_len, head.max_tokens, head.gateway) == ("s1", 4, 64, GATEWAY)
    assert (head.device_wanted, head.epoch, head.verifier, head.device) == ("pi", 0, "", "")
    assert (head.committed, head.length, head.finish) == (0, 4, "")
    assert 59_000 < head.deadline_ms <= 60_000
    log = await broker.sessions.load("s1")
    assert log.spec == spec_of()
    assert (log.ids, log.committed, log.logprobs) == (PROMPT, (), ())
    kept_s = await world.ttl(keys.session("s1")) - limits.LOG_KEPT_S  # beyond the deadline
    assert 50 < kept_s <= 60


async def test_open_carries_the_log_unchanged(world: World) -> None:
    broker = world.broker
    await open_session(broker)
    await broker.sessions.commit("v", "", [row(4, 10), row(5, 11, 12)])
    assert await broker.sessions.open(DEVICE, Open("s1", 3, 5, spec=b"not the log", committed=(99,)))
    opened = [message for message in await Receivers(world).received("device") if isinstance(message, Open)]
    assert opened == [Open("s1", 3, 5, spec=wire.encode_spec(spec_of()), committed=(10, 11, 12))]
    assert wire.decode_spec(opened[0].spec).sampling.seed == spec_of().sampling.seed > 1 << 53
    assert not await broker.sessions.open(DEVICE, Open("never heard of", 1, 4))


async def test_a_log_that_fits_no_message_is_not_sent(world: World) -> None:
    broker = world.broker
    await open_session(broker, prompt=tuple(range(100_000, 300_000)))
    await broker.sessions.commit("v", "", [row(200_000 + n, *[1 << 23] * 500) for n in range(0, 50_000, 500)])
    assert await broker.sessions.open(DEVICE, Open("s1", 1, 4))
    assert not [message for message in await Receivers(world).received("device") if isinstance(message, Open)]


async def test_a_repeated_submit_changes_nothing(broker: Broker, keys: Keys) -> None:
    await open_session(broker)
    await broker.sessions.commit("v", "", [row(4, 10)])
    assert not await broker.sessions.submit(spec_of(max_tokens=9), submit_of(spec_of()))
    assert (await broker.sessions.head("s1")).committed == 1
    assert (await broker.sessions.load("s1")).spec.max_tokens == 64
    assert await broker.streams.length(keys.submit) == 1


async def test_submit_refuses_at_the_bound_and_leaves_nothing(broker: Broker, keys: Keys) -> None:
    for n in range(LIMIT):
        await broker.streams.push(keys.submit, Cancel(f"c{n}"))
    with pytest.raises(BrokerFull):
        await open_session(broker)
    assert await broker.sessions.live() == set()
    with pytest.raises(UnknownSession):
        await broker.sessions.head("s1")
    with pytest.raises(UnknownSession):
        await broker.sessions.load("s1")


async def test_the_deadline_counts_down_on_the_brokers_clock(broker: Broker) -> None:
    await open_session(broker, deadline_ms=80)
    first = (await broker.sessions.head("s1")).deadline_ms
    await asyncio.sleep(0.03)
    assert 0 < (await broker.sessions.head("s1")).deadline_ms < first <= 80
    await asyncio.sleep(0.08)
    assert (await broker.sessions.head("s1")).deadline_ms == 0


# --- place ------------------------------------------------------------------------------------------------
async def test_place_is_fenced_by_epoch_and_finish(broker: Broker) -> None:
    await open_session(broker)
    assert await broker.sessions.place("s1", 1, "v", DEVICE)
    assert await broker.sessions.place("s1", 1, "v", "mac:3")  # the same epoch, another device
    head = await broker.sessions.head("s1")
    assert (head.epoch, head.verifier, head.device) == (1, "v", "mac:3")
    assert not await broker.sessions.place("s1", 0, "w", DEVICE)
    assert await broker.sessions.place("s1", 2, "w", "")
    assert not await broker.sessions.place("nobody", 1, "v", DEVICE)
    await broker.sessions.end("s1", Close("s1", 2, "cancel"), "", "", "")
    assert not await broker.sessions.place("s1", 3, "v", DEVICE)
    head = await broker.sessions.head("s1")
    assert (head.epoch, head.verifier, head.device) == (2, "w", "")


# --- end --------------------------------------------------------------------------------------------------
async def test_end_sends_close_to_all_and_can_be_repeated(world: World, receivers: Receivers) -> None:
    broker, keys = world.broker, world.keys
    await broker.streams.make_groups([keys.staged("v")])
    await open_session(broker)
    await broker.sessions.commit("v", "", [row(4, 10, logprobs=((-1.5, (), ()),))])
    await receivers.all()
    close = Close("s1", 1, "deadline", "too late")
    assert await broker.sessions.end("s1", close, "v", DEVICE, GATEWAY)
    assert await broker.sessions.live() == set()
    assert (await broker.sessions.head("s1")).finish == "deadline"
    for key in (keys.session("s1"), keys.session_ids("s1"), keys.session_logprobs("s1")):
        assert await world.ttl(key) <= limits.LOG_KEPT_S
    assert not await broker.sessions.end("s1", Close("s1", 1, "error"), "v", DEVICE, "")
    assert (await broker.sessions.head("s1")).finish == "deadline"
    staged = await broker.streams.read_group([keys.staged("v")], "v", 9, 0)
    assert [wire.decode(entry.data) for entry in staged] == [close, Close("s1", 1, "error")]
    device, gateway, _ = await receivers.all()
    assert device == [close, Close("s1", 1, "error")]
    assert gateway == [close]


async def test_end_of_an_unknown_session_and_without_receivers(broker: Broker, keys: Keys) -> None:
    assert not await broker.sessions.end("s9", Close("s9", 1, "cancel"), "", "", "")
    assert not await broker.sessions.end("s9", Close("s9", 1, "cancel"), "", DEVICE, "")
    assert await broker.streams.length(keys.inbox(DEVICE)) == 1
    with pytest.raises(ValueError, match="finish"):
        await broker.sessions.end("s9", Close("s9", 1, ""), "", "", "")


async def test_end_does_not_need_room_at_the_verifier(broker: Broker, keys: Keys) -> None:
    await open_session(broker)
    for n in range(LIMIT):
        await broker.streams.push(keys.staged("v"), Close(f"s{n}", 1, ""))
    assert await broker.sessions.end("s1", Close("s1", 1, "cancel"), "v", "", GATEWAY)
    assert await broker.streams.length(keys.staged("v")) == LIMIT
    assert await broker.streams.length(keys.reply(GATEWAY)) == 1


# --- memory full ------------------------------------------------------------------------------------------
async def test_full_memory_refuses_new_sessions_and_lets_the_others_end(
    world: World, receivers: Receivers
) -> None:
    broker, keys = world.broker, world.keys
    await open_session(broker, "s1")
    await open_session(broker, "s2")
    await broker.streams.make_groups([keys.staged("v"), keys.submit])
    await world.memory_full(True)
    with pytest.raises(BrokerFull, match="memory"):
        await open_session(broker, "s3")
    with pytest.raises(BrokerFull, match="memory"):
        await broker.records.put(keys.deployment, {"a": "b"})
    await broker.streams.trace([Span("gateway", "g", "s1", 0, 0, "wait", 1, 2, 0, 0)])
    assert await broker.streams.length(keys.trace) == 0
    assert await broker.sessions.live() == {"s1", "s2"}
    assert await broker.run_id()
    generation = await broker.presence.next_generation()
    await broker.presence.beat(Heartbeat("scheduler", "sch", generation), 5)
    holder = f"sch:{generation}"
    term = await broker.lease.acquire(holder, 5)
    await broker.streams.make_groups([keys.submit, keys.verdicts])
    assert len(await broker.streams.read_group([keys.submit], "scheduler", 9, 0)) == 2
    assert await broker.sessions.place("s1", 1, "v", DEVICE)
    await broker.lease.stage("v", StagedBatch(term, 1, ()), [], holder)
    (entry,) = await broker.streams.read_group([keys.staged("v")], "v", 9, 0)
    await broker.streams.push(keys.submit, Cancel("s2"))
    assert await broker.sessions.commit("v", entry.id, [row(4, 10, epoch=1, finish="stop")]) == [
        CommitOutcome("committed", 5)
    ]
    assert await broker.sessions.end("s2", Close("s2", 0, "cancel"), "v", DEVICE, GATEWAY)
    await broker.streams.dead_letter(
        (await broker.streams.read_pending([keys.submit], "scheduler", 9))[0], "a test"
    )
    assert await broker.sessions.live() == set()
    await world.memory_full(False)
    await open_session(broker, "s3")
