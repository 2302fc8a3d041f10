"""A broker of each kind per test, and the check that no test leaves a key without an expiry."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.broker.access import Account, acl_file, device_user, secret_of
from shared.broker.contract import Broker
from shared.broker.embedded import HOST
from shared.protocol.keys import Keys
from tests.broker_server import other_binary, served
from tests.shared.broker.logs import Receivers
from tests.shared.broker.worlds import DEVICES, TESTER, DeviceWorld, MemoryWorld, RedisWorld, World

LASTING = re.compile(
    r"or:\{s0\}:(submit|draft|verdicts|staged:[^:]+|live|generation|term|deployment|policy|birth)"
)


async def no_key_lasts(world: World) -> None:
    assert {key for key in await world.keys_without_expiry() if not LASTING.fullmatch(key)} == set()


@pytest.fixture
async def redis_world(redis_url: str) -> AsyncIterator[RedisWorld]:
    async with emptied(RedisWorld(redis_url)) as world:
        yield world


def access_list(folder: Path) -> str:
    """A file of users whose passwords are their names: DEVICES, and TESTER."""
    file = folder / "users.acl"
    accounts = [Account(user, secret_of(user)) for user in map(device_user, DEVICES)]
    file.write_text(acl_file(accounts, "s0") + f"user {TESTER} on >{TESTER} ~* &* +@all\n")
    return str(file)


@pytest.fixture(scope="session")
def guarded_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(access_list(tmp_path_factory.mktemp("guarded"))) as port:
        yield port


@pytest.fixture(scope="session")
def other_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(access_list(tmp_path_factory.mktemp("other")), other_binary()) as port:
        yield port


@asynccontextmanager
async def emptied(world: RedisWorld) -> AsyncIterator[RedisWorld]:
    await world.raw.flushall()
    yield world
    await no_key_lasts(world)
    await world.close()


def tester_url(port: int) -> str:
    return f"redis://{TESTER}:{TESTER}@{HOST}:{port}/0"


@pytest.fixture
async def device_world(guarded_port: int) -> AsyncIterator[RedisWorld]:
    async with emptied(DeviceWorld(tester_url(guarded_port))) as world:
        yield world


@pytest.fixture
async def other_world(other_port: int) -> AsyncIterator[RedisWorld]:
    async with emptied(RedisWorld(tester_url(other_port))) as world:
        yield world


@pytest.fixture
async def other_device_world(other_port: int) -> AsyncIterator[RedisWorld]:
    async with emptied(DeviceWorld(tester_url(other_port))) as world:
        yield world


@pytest.fixture
async def memory_world() -> AsyncIterator[MemoryWorld]:
    world = MemoryWorld()
    yield world
    await no_key_lasts(world)


@pytest.fixture(params=["memory", "redis", pytest.param("other", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest) -> World:
    """ "other": another server, where there is one. FOR_DEVICES adds those that a device sees."""
    chosen: World = request.getfixturevalue(f"{request.param}_world")
    return chosen


@pytest.fixture
def broker(world: World) -> Broker:
    return world.broker


@pytest.fixture
def keys(world: World) -> Keys:
    return world.keys


@pytest.fixture
def receivers(world: World) -> Receivers:
    return Receivers(world)
