"""Who is alive, on every broker: generations, heartbeats and their expiry, as the core and as a device see them."""

import asyncio

import pytest

from shared.broker.contract import Broker, LeaseLost
from shared.protocol import limits
from shared.protocol.messages import Heartbeat, Tune
from tests.shared.broker.worlds import DEVICES, FOR_DEVICES, World


def beat(generation: int, name: str = "pi", load: int = 0) -> Heartbeat:
    return Heartbeat("draft_worker", name, generation, load=load)


async def devices(world: World) -> list[Heartbeat]:
    """Live devices. The core lists those that may not list themselves."""
    await world.broker.presence.enlist(dict.fromkeys(DEVICES, 0))
    return sorted(await world.broker.presence.alive("draft_worker"), key=lambda heartbeat: heartbeat.name)


# --- who is there ---------------------------------------------------------------------------------------
@FOR_DEVICES
async def test_generations_grow(world: World) -> None:
    for each in ([world.broker, await world.another()], [world.device("pi"), world.device("pi")]):
        given = [await broker.presence.next_generation() for broker in (*each, *each)]
        assert given == sorted(set(given))
        assert all(0 < number < 10**15 for number in given)  # an address takes 15 digits


@FOR_DEVICES
async def test_heartbeats_are_seen_until_they_lapse(world: World) -> None:
    broker, pi, mac = world.broker, world.device("pi"), world.device("mac")
    assert await devices(world) == []
    await pi.presence.beat(beat(1, "pi"), 5)
    await broker.presence.beat(Heartbeat("verifier", "core", 3), 5)
    assert await devices(world) == [beat(1, "pi")]
    await mac.presence.beat(beat(2, "mac"), 0.1)  # sooner over than the other's
    assert await devices(world) == [beat(2, "mac"), beat(1, "pi")]
    assert await broker.presence.alive("verifier") == [Heartbeat("verifier", "core", 3)]
    assert await broker.presence.alive("gateway") == []
    await asyncio.sleep(0.15)
    assert await devices(world) == [beat(1, "pi")]
    await pi.presence.beat(beat(1, "pi", load=3), 5)
    assert await devices(world) == [beat(1, "pi", load=3)]


async def test_a_name_is_found_as_long_as_its_own_heartbeat_lasts(world: World) -> None:
    """Only the devices list these names."""
    await world.device("pi").presence.beat(beat(1, "pi"), 5)
    await world.device("mac").presence.beat(beat(2, "mac"), 0.05)
    await asyncio.sleep(0.1)
    assert await world.broker.presence.alive("draft_worker") == [beat(1, "pi")]


async def test_who_leaves_is_not_alive_any_more(broker: Broker) -> None:
    for name in ("a", "b"):
        await broker.presence.beat(Heartbeat("verifier", name, 3), 5)
    await broker.presence.leave("verifier", "a", 2)  # an older incarnation takes nothing back
    assert sorted(h.name for h in await broker.presence.alive("verifier")) == ["a", "b"]
    await broker.presence.leave("verifier", "a", 3)
    await broker.presence.leave("verifier", "a", 3)
    assert [h.name for h in await broker.presence.alive("verifier")] == ["b"]
    await broker.presence.beat(Heartbeat("verifier", "a", 4), 5)
    assert sorted(h.name for h in await broker.presence.alive("verifier")) == ["a", "b"]


async def test_a_verifiers_stream_goes_some_time_after_it(world: World) -> None:
    staged = world.keys.staged("core")
    await world.broker.streams.make_groups([staged, world.keys.draft])
    assert 0 < await world.ttl(staged) <= limits.INBOX_KEPT_S
    assert await world.ttl(world.keys.draft) < 0
    await world.broker.presence.beat(Heartbeat("verifier", "core", 3), 5)
    assert 0 < await world.ttl(staged) <= limits.INBOX_KEPT_S


async def test_a_stream_made_for_a_verifier_that_is_dead_already_goes_too(world: World) -> None:
    staged = world.keys.staged("dead")
    await world.broker.streams.push(staged, Tune(1))
    assert 0 < await world.ttl(staged) <= limits.INBOX_KEPT_S


@FOR_DEVICES
async def test_an_older_incarnation_never_overwrites(world: World) -> None:
    older, newer, alive = world.device("pi"), world.device("pi"), world.keys.alive("draft_worker", "pi")
    await newer.presence.beat(beat(5), 5)
    with pytest.raises(LeaseLost, match="newer generation"):
        await older.presence.beat(beat(4), 60)
    assert await devices(world) == [beat(5)]
    assert 0 < await world.ttl(alive) <= 5  # nor does it keep it longer
    await newer.presence.beat(beat(6), 0.05)
    await asyncio.sleep(0.1)
    await older.presence.beat(beat(4), 5)  # nobody has the name any more
    assert await devices(world) == [beat(4)]


@FOR_DEVICES
async def test_of_incarnations_that_beat_at_once_the_newest_is_seen(world: World) -> None:
    incarnations = {generation: world.device("pi") for generation in range(1, 9)}
    for _ in range(10):
        beats = [device.presence.beat(beat(generation), 5) for generation, device in incarnations.items()]
        done = await asyncio.gather(*beats, return_exceptions=True)
        assert {type(error) for error in done} <= {type(None), LeaseLost}
        assert done[-1] is None
        assert await devices(world) == [beat(8)]


@FOR_DEVICES
async def test_an_undecodable_heartbeat_is_left_out(world: World) -> None:
    await world.device("pi").presence.beat(beat(1, "pi"), 5)
    await world.device("mac").presence.beat(beat(2, "mac"), 5)
    await devices(world)
    await world.spoil("draft_worker", "mac")
    assert await devices(world) == [beat(1, "pi")]
    await world.device("mac").presence.beat(beat(2, "mac"), 5)
    assert await devices(world) == [beat(2, "mac"), beat(1, "pi")]
