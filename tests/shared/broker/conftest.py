"""A broker of each kind per test, and the check that no test leaves a key that never goes."""

import re
from collections.abc import AsyncIterator

import pytest

from shared.broker.contract import Broker
from shared.protocol.keys import Keys
from tests.shared.broker.logs import Ears
from tests.shared.broker.worlds import MemoryWorld, RedisWorld, World

LASTING = re.compile(
    r"or:\{s0\}:(submit|draft|verdicts|staged:[^:]+|live|generation|term|deployment|policy|birth)"
)


async def no_key_lasts(world: World) -> None:
    assert {key for key in await world.lasting() if not LASTING.fullmatch(key)} == set()


@pytest.fixture
async def redis_world(redis_url: str) -> AsyncIterator[RedisWorld]:
    world = RedisWorld(redis_url)
    yield world
    await no_key_lasts(world)
    await world.close()


@pytest.fixture
async def memory_world() -> AsyncIterator[MemoryWorld]:
    world = MemoryWorld()
    yield world
    await no_key_lasts(world)


@pytest.fixture(params=["memory", "redis"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.getfixturevalue(f"{request.param}_world")
    return chosen


@pytest.fixture
def broker(world: World) -> Broker:
    return world.broker


@pytest.fixture
def keys(world: World) -> Keys:
    return world.keys


@pytest.fixture
def ears(world: World) -> Ears:
    return Ears(world)
