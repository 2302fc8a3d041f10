"""The contract of the scheduler's lease on every broker, and of the staging that it fences."""

import asyncio

import pytest

from shared.broker.contract import Broker, BrokerFull, LeaseLost
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Draft, StagedBatch, StagedRow
from tests.shared.broker.logs import cancel
from tests.shared.broker.worlds import LIMIT


async def test_lease_has_one_holder_and_growing_terms(broker: Broker) -> None:
    first = await broker.lease.acquire("a:1", 5)
    assert first > 0
    assert await broker.lease.acquire("b:2", 5) == 0
    assert await broker.lease.renew("a:1", first, 5)
    assert not await broker.lease.renew("b:2", first, 5)
    assert not await broker.lease.renew("a:1", first + 1, 5)
    await broker.lease.release("b:2", first)
    await broker.lease.release("a:1", first + 1)
    assert await broker.lease.acquire("b:2", 5) == 0
    again = await broker.lease.acquire("a:1", 5)  # its own
    assert again > first
    assert not await broker.lease.renew("a:1", first, 5)
    await broker.lease.release("a:1", again)
    assert await broker.lease.acquire("b:2", 5) > again


async def test_lease_lapses(broker: Broker) -> None:
    term = await broker.lease.acquire("a:1", 0.05)
    await asyncio.sleep(0.03)
    assert await broker.lease.renew("a:1", term, 0.05)
    await asyncio.sleep(0.1)
    assert not await broker.lease.renew("a:1", term, 5)
    assert await broker.lease.acquire("b:2", 5) > term


def batch(term: int, number: int = 1) -> StagedBatch:
    return StagedBatch(term, number, (StagedRow("s1", 1, 1, 10, 10, 4, "pi:1", "gw:1", (5, 6)),))


async def test_stage_adds_the_batch_and_settles_its_drafts(broker: Broker, keys: Keys) -> None:
    term = await broker.lease.acquire("a:1", 5)
    await broker.streams.make_groups([keys.draft, keys.staged("v")])
    for n in range(3):
        await broker.streams.push(keys.draft, Draft("s1", 1, n, 10, "pi:1", (5, 6), bytes(2)))
    drafts = await broker.streams.read_group([keys.draft], "scheduler", 9, 0)
    await broker.lease.stage("v", batch(term), [drafts[0].id, drafts[2].id], "a:1")
    (entry,) = await broker.streams.read_group([keys.staged("v")], "v", 9, 0)
    assert wire.decode(entry.data) == batch(term)
    assert [e.id for e in await broker.streams.read_pending([keys.draft], "scheduler", 9)] == [drafts[1].id]
    assert await broker.streams.length(keys.draft) == 1


async def test_stage_without_the_lease_does_nothing(broker: Broker, keys: Keys) -> None:
    await broker.streams.make_groups([keys.draft])
    await broker.streams.push(keys.draft, cancel(1))
    (draft,) = await broker.streams.read_group([keys.draft], "scheduler", 9, 0)
    with pytest.raises(LeaseLost):
        await broker.lease.stage("v", batch(1), [draft.id], "a:1")
    term = await broker.lease.acquire("a:1", 0.03)
    await asyncio.sleep(0.06)
    await broker.lease.acquire("b:2", 5)
    with pytest.raises(LeaseLost):
        await broker.lease.stage("v", batch(term), [draft.id], "a:1")
    assert await broker.streams.length(keys.staged("v")) == 0
    assert len(await broker.streams.read_pending([keys.draft], "scheduler", 9)) == 1


async def test_stage_refuses_at_the_bound(broker: Broker, keys: Keys) -> None:
    term = await broker.lease.acquire("a:1", 5)
    await broker.streams.make_groups([keys.draft])
    await broker.streams.push(keys.draft, cancel(1))
    (draft,) = await broker.streams.read_group([keys.draft], "scheduler", 9, 0)
    for n in range(LIMIT):
        await broker.lease.stage("v", batch(term, n), [], "a:1")
    with pytest.raises(BrokerFull):
        await broker.lease.stage("v", batch(term), [draft.id], "a:1")
    assert await broker.streams.length(keys.staged("v")) == LIMIT
    assert await broker.streams.length(keys.draft) == 1
