"""The in-memory broker and the Lua scripts have the same rules: equal answers and equal keys after random commands."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from shared.broker import script
from shared.broker.connections import Argument, Connections
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.broker.memory_scripts import Beat, Lease, Log
from shared.broker.memory_server import Stream
from shared.broker.redis_broker import RedisBroker
from shared.protocol import wire
from shared.protocol.keys import GROUP
from tests.shared.broker.twins import BOUND, KEYS, Commands, Side, answer_of, read
from tests.shared.broker.worlds import RedisWorld

STEPS = 400
QUICK = range(6)
SCRIPTS = {file.stem for file in (Path(script.__file__).parent / "scripts").glob("*.lua")} - {"common"}
FIELDS = (
    "spec",
    "prompt_len",
    "max_tokens",
    "gateway",
    "device_wanted",
    "epoch",
    "verifier",
    "device",
    "finish",
    "untold",
)
OWN = {KEYS.birth, KEYS.generation, KEYS.term}  # their values start at each broker's clock
CLOCK_S = 20.0  # how much the two may differ in what is left of an expiry


class Counted(Connections):
    """Connections that note which scripts they have run."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.ran: set[str] = set()

    async def run(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        self.ran.add(name)
        return await super().run(name, keys, *arguments)


@pytest.mark.parametrize("seed", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in range(6, 60))])
async def test_memory_and_scripts_agree_after_every_command(redis_world: RedisWorld, seed: int) -> None:
    server, connections = MemoryServer(), Counted(redis_world.url)
    memory = Side(MemoryBroker(server, stream_limit=BOUND))
    redis = Side(RedisBroker(connections, stream_limit=BOUND))
    try:
        for step, command in enumerate(islice(Commands(seed), STEPS)):
            here, there = await answer_of(memory, command), await answer_of(redis, command)
            assert here == there, f"seed {seed}, step {step}, {command.__qualname__}"
        here, there = memory_keys(server), await redis_keys(redis_world.raw)
        assert {key: value for key, (value, _) in here.items()} == {
            key: value for key, (value, _) in there.items()
        }
        for key, (_, ttl) in here.items():
            assert (ttl < 0) == (there[key][1] < 0), key
            assert abs(ttl - there[key][1]) < CLOCK_S, key
        if seed in QUICK:
            assert connections.ran == SCRIPTS  # a script that no command runs has no twin that is compared
    finally:
        await connections.close()


def memory_keys(server: MemoryServer) -> dict[str, tuple[Any, float]]:
    """Every key's value, and the seconds until it expires."""
    values: dict[str, Any] = {}
    for key in server.keys() - OWN:
        match value := server.get(key, object):
            case Stream():
                values[key] = memory_stream(value)
            case Log():
                fields = {name: getattr(value, name) for name in FIELDS}
                values[key] = log_of(fields, value.ids, value.logprobs)
            case Lease():
                values[key] = value.holder
            case Beat():
                values[key] = value.generation, read(value.data)
            case dict() | set():
                values[key] = set(value) if ":names:" in key else value
    return {key: (value, server.ttl(key)) for key, value in values.items() if value}


def memory_stream(stream: Stream) -> Any:
    """Messages; those not delivered yet; pending ones with consumer and deliveries."""
    entries, group = dict(stream.entries), stream.group
    if group is None:
        return [read(data) for data in entries.values()], None, None
    new = [read(data) for number, data in entries.items() if number > group.last]
    pending = [
        (read(entries[number]), given.consumer, given.times) for number, given in group.pending.items()
    ]
    return [read(data) for data in entries.values()], new, sorted(pending)


async def redis_keys(raw: Any) -> dict[str, tuple[Any, float]]:
    """The same of a server."""
    found = {}
    for key in {name.decode() for name in await raw.keys("*")} - OWN:
        if not key.endswith((":ids", ":logprobs")):
            found[key] = await redis_value(raw, key), await raw.pttl(key) / 1000
    return {key: (value, ttl if ttl >= 0 else -1) for key, (value, ttl) in found.items()}


async def redis_value(raw: Any, key: str) -> Any:
    """A key's value in the form of `memory_keys`."""
    value: Any
    match (await raw.type(key)).decode():
        case "stream" if ":alive:" in key:
            ((id_, fields),) = await raw.xrange(key)
            value = int(id_.partition(b"-")[0]), read(fields[b"d"])
        case "stream":
            value = await redis_stream(raw, key)
        case "set":
            value = {name.decode() for name in await raw.smembers(key)}
        case "zset":
            value = {name.decode() for name in await raw.zrange(key, 0, -1)}
        case "hash" if ":session:" in key:
            value = await redis_log(raw, key)
        case "hash" if key == KEYS.lease:
            value = (await raw.hget(key, "holder")).decode()
        case "hash":
            value = {name.decode(): field.decode() for name, field in (await raw.hgetall(key)).items()}
        case kind:
            raise AssertionError(f"{key} is a {kind}")
    return value


async def redis_stream(raw: Any, key: str) -> Any:
    """A stream in the form of `memory_stream`."""
    entries = {id_: read(fields[b"d"]) for id_, fields in await raw.xrange(key)}
    groups = await raw.xinfo_groups(key)
    if not groups:
        return [*entries.values()], None, None
    order = {id_: tuple(map(int, id_.split(b"-"))) for id_ in (*entries, groups[0]["last-delivered-id"])}
    new = [entries[id_] for id_ in entries if order[id_] > order[groups[0]["last-delivered-id"]]]
    given = await raw.xpending_range(key, GROUP, "-", "+", 1000)
    pending = [(entries[g["message_id"]], g["consumer"].decode(), g["times_delivered"]) for g in given]
    return [*entries.values()], new, sorted(pending)


async def redis_log(raw: Any, key: str) -> Any:
    """A session's log. Its three keys expire together."""
    fields = await raw.hgetall(key)
    ids, packed = await raw.lrange(f"{key}:ids", 0, -1), await raw.lrange(f"{key}:logprobs", 0, -1)
    for part, there in ((":ids", ids), (":logprobs", packed)):
        assert not there or abs(await raw.pttl(key + part) - await raw.pttl(key)) < 1000 * CLOCK_S
    return log_of({name: fields.get(name.encode()) for name in FIELDS}, ids, packed)


def log_of(fields: Mapping[str, Any], ids: Sequence[Any], logprobs: Sequence[bytes]) -> Any:
    """A session's log: its fields as bytes, its ids, its log-probabilities."""
    as_bytes = {
        name: value if value is None or isinstance(value, bytes) else str(value).encode()
        for name, value in fields.items()
    }
    return as_bytes, [int(token) for token in ids], [wire.decode_logprobs(entry) for entry in logprobs]
