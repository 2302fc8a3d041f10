"""The contract of every broker: its connection and its records. Streams, lease, logs and presence have their own files.

What a device does too is done by a device here, of each kind (FOR_DEVICES).
"""

import pytest

from shared.broker.contract import Broker, BrokerAway
from tests.shared.broker.worlds import FOR_DEVICES, World


@FOR_DEVICES
async def test_run_id_stays(world: World) -> None:
    first = await world.broker.run_id()
    assert first
    assert await world.broker.run_id() == first
    assert await (await world.another()).run_id() == first
    assert await world.device("pi").run_id() == first


async def test_ping_takes_time(broker: Broker) -> None:
    assert 0 <= await broker.ping() < 1


@FOR_DEVICES
async def test_closed_is_away(world: World) -> None:
    await world.broker.run_id()
    gone = world.device("pi")
    await gone.run_id()
    await gone.close()
    await gone.close()
    with pytest.raises(BrokerAway):
        await gone.run_id()


@FOR_DEVICES
async def test_small_hashes_are_replaced(world: World) -> None:
    broker, key, device = world.broker, world.keys.deployment, world.device("pi")
    assert await device.records.get(key) == await broker.records.get(key) == {}
    await broker.records.put(key, {"target": "smollm2", "vocabulary": "ab"})
    await broker.records.put(key, {"target": "qwen", "note": "é"})
    assert await device.records.get(key) == await broker.records.get(key) == {"target": "qwen", "note": "é"}
    await broker.records.put(key, {})
    assert await device.records.get(key) == await broker.records.get(key) == {}
