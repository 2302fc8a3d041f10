"""RedisDevice alone. Its contract tests are in the files of the parts (FOR_DEVICES)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.broker.access import device_user
from shared.broker.connections import Argument, Connections
from shared.broker.contract import BrokerAway, Entry
from shared.broker.device_broker import RedisDevice
from shared.broker.redis_broker import RedisBroker
from shared.protocol import limits
from shared.protocol.messages import Draft, Heartbeat, Span
from shared.runtime.connect import DEVICE_CALLS, connect_device
from shared.runtime.settings import DraftWorkerSettings
from tests.shared.broker.worlds import DeviceWorld, RedisWorld, World


class Held(Connections):
    """Connections that do something else before their nth exchange."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, device_user(name), device_user(name))
        self.exchanges = 0
        self.before: dict[int, Callable[[], Awaitable[object]]] = {}

    async def call(self, *command: Argument) -> Any:
        (answer,) = await self.calls(command)
        return answer

    async def calls(self, *commands: tuple[Argument, ...]) -> list[Any]:
        self.exchanges += 1
        if self.exchanges in self.before:
            await self.before[self.exchanges]()
        return await super().calls(*commands)


def draft(n: int) -> Draft:
    return Draft("s", 1, 0, n, "pi:1", (n,), bytes(1))


def beat(generation: int) -> Heartbeat:
    return Heartbeat("draft_worker", "pi", generation)


def test_only_a_device_from_elsewhere_has_a_credential_of_its_own() -> None:
    joined = DraftWorkerSettings(joined=True)
    assert isinstance(connect_device(joined, "pi"), RedisDevice)
    assert isinstance(connect_device(DraftWorkerSettings(), "pi"), RedisBroker)


async def test_few_connections_however_many_calls_coincide(redis_world: RedisWorld) -> None:
    before = len(await redis_world.raw.client_list())
    device = connect_device(DraftWorkerSettings(broker_url=redis_world.url, joined=True), "pi")
    reading = asyncio.create_task(device.streams.read_inbox("or:{s0}:inbox:pi:1", "0", 9, 1.0))
    await asyncio.gather(*(device.records.get("or:{s0}:deployment") for _ in range(16)))
    assert len(await redis_world.raw.client_list()) == before + DEVICE_CALLS + 1
    assert await reading == []
    await device.close()


async def test_generations_grow_over_a_loss_of_data(device_world: DeviceWorld) -> None:
    device = device_world.device("pi")
    before = await device.presence.next_generation()
    await device_world.raw.flushall()
    await asyncio.sleep(0.01)
    assert await device.presence.next_generation() > before


async def test_a_counter_about_to_lapse_does_not_begin_again(device_world: DeviceWorld) -> None:
    counter = device_world.keys.device_generation("pi")
    connections = Held(device_world.url, "pi")
    device = device_world.device_on(connections, "pi")
    before = await device.presence.next_generation()
    sent: list[tuple[Argument, ...]] = []

    async def note(*commands: tuple[Argument, ...]) -> list[Any]:
        sent.extend(commands)
        return await Connections.calls(connections, *commands)

    connections.calls = note  # type: ignore[method-assign]
    assert await device.presence.next_generation() > before
    assert [command[0] for command in sent if command[0] != "TIME"] == ["EXPIRE", "SET", "INCR"]
    assert 86_000 < await device_world.ttl(counter) <= 86_400


async def test_before_the_core_has_come_up_there_is_nothing(device_world: DeviceWorld) -> None:
    with pytest.raises(BrokerAway, match="the core has not come up"):
        await device_world.device("pi").run_id()


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_newer_heartbeat_stands_whenever_it_comes(device_world: DeviceWorld, nth: int) -> None:
    """Between any two steps of an older incarnation's beat."""
    connections, newer = Held(device_world.url, "pi"), device_world.device("pi")
    older = device_world.device_on(connections, "pi")
    connections.before = {nth: lambda: newer.presence.beat(beat(6), 5)}
    await asyncio.gather(older.presence.beat(beat(5), 5), return_exceptions=True)
    assert connections.exchanges >= nth
    await device_world.broker.presence.enlist({"pi": 0})
    assert await device_world.broker.presence.alive("draft_worker") == [beat(6)]


async def test_a_heartbeat_lapses_though_its_sender_was_cut_off(device_world: DeviceWorld) -> None:
    connections = Held(device_world.url, "pi")

    async def cut() -> None:
        raise BrokerAway("cut off")

    connections.before = {2: cut}
    with pytest.raises(BrokerAway):
        await device_world.device_on(connections, "pi").presence.beat(beat(1), 4.0)
    assert 3 < await device_world.ttl(device_world.keys.alive("draft_worker", "pi")) <= 4


async def test_a_broker_without_memory_takes_no_draft_and_no_heartbeat(device_world: DeviceWorld) -> None:
    device = device_world.device("pi")
    await device_world.memory_full(True)
    assert await device.streams.push_many(device_world.keys.draft, [draft(1)]) == 0
    with pytest.raises(BrokerAway, match="memory"):
        await device.presence.beat(beat(1), 4.0)
    await device_world.memory_full(False)
    assert await device.streams.push_many(device_world.keys.draft, [draft(1)]) == 1


async def test_what_it_refuses_and_how_long_it_took_is_not_kept(device_world: DeviceWorld) -> None:
    device, keys = device_world.device("pi"), device_world.keys
    await device.streams.dead_letter(Entry(keys.inbox("pi:1"), "1-0", b"x"), "a test")
    await device.streams.trace([Span("draft_worker", "pi", "s", 1, 0, "draft", 1, 2, 0, 0)])
    assert (
        await device_world.broker.streams.length(keys.dead)
        == await device_world.broker.streams.length(keys.trace)
        == 0
    )


async def test_a_heartbeat_keeps_the_inbox_as_long_as_the_core_says(device_world: DeviceWorld) -> None:
    inbox = device_world.keys.inbox("pi:5")
    await device_world.broker.streams.send(inbox, draft(1))
    await device_world.device("pi").presence.beat(beat(5), 4.0)
    assert limits.INBOX_KEPT_S - 2 < await device_world.ttl(inbox) <= limits.INBOX_KEPT_S


async def test_enlist_lists_live_devices_and_returns_those_with_expired_credentials(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.broker.presence.beat(Heartbeat("draft_worker", name, 7), 4.0)
    assert await world.broker.presence.enlist({}) == []
    assert await world.broker.presence.enlist({"a": 0, "b": 1, "x": 1, "y": 0}) == ["b:7"]
    assert sorted(found.name for found in await world.broker.presence.alive("draft_worker")) == ["a", "c"]
