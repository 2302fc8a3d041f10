"""RedisBroker alone: lost connections, lost scripts, lost data, foreign entries."""

import asyncio
import subprocess
from collections.abc import AsyncIterator

import pytest
from redis import Redis
from redis.asyncio.connection import AbstractConnection

from shared.broker import connections
from shared.broker.connections import Connections
from shared.broker.contract import Broker, BrokerAway, BrokerDenied, CommitRow
from shared.broker.embedded import EmbeddedBroker, NoServer, server_argv
from shared.broker.redis_broker import RedisBroker
from shared.broker.script import script
from shared.protocol import wire
from shared.protocol.messages import Cancel, Heartbeat, Span, Verdict
from shared.runtime.connect import connect
from shared.runtime.settings import Common
from tests.shared.broker.logs import open_session, row
from tests.shared.broker.worlds import RedisWorld


async def kill_clients(world: RedisWorld) -> int:
    return int(await world.raw.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES"))


async def test_killed_idle_connections_are_not_noticed(redis_world: RedisWorld) -> None:
    for _ in range(3):
        await asyncio.gather(*(redis_world.broker.ping() for _ in range(5)))
        assert await kill_clients(redis_world) >= 5
        await asyncio.sleep(0.02)
        await redis_world.broker.ping()


async def test_spans_carry_the_offset_of_our_clock(redis_world: RedisWorld) -> None:
    """An entry's id is the broker's clock in milliseconds."""
    broker, loop = redis_world.broker, asyncio.get_running_loop()
    await broker.presence.beat(Heartbeat("verifier", "core", 1), 5)
    now_us = round(loop.time() * 1e6)
    await broker.streams.trace([Span("verifier", "core", "s1", 1, 1, "verify", now_us, now_us + 1, 3, 0)])
    (entry,) = await broker.streams.read_inbox(redis_world.keys.trace, "0", 9, 0)
    span = wire.decode_as(Span, entry.data)
    broker_ms = int(entry.id.partition("-")[0])
    assert abs((span.start_us + span.offset_us) / 1e3 - broker_ms) < 500  # by our clock it would be years


async def test_a_killed_reader_is_away_and_finds_its_entries_again(redis_world: RedisWorld) -> None:
    broker, keys = redis_world.broker, redis_world.keys
    await broker.streams.make_groups([keys.submit])
    for n in range(2):  # and the second time as well
        reader = asyncio.create_task(broker.streams.read_group([keys.submit], "scheduler", 9, 5))
        inbox = asyncio.create_task(broker.streams.read_inbox(keys.inbox("pi:1"), "0", 9, 5))
        await asyncio.sleep(0.05)
        await kill_clients(redis_world)
        for task in (reader, inbox):
            with pytest.raises(BrokerAway):
                await task
        await broker.streams.push(keys.submit, Cancel(f"s{n}"))
        (entry,) = await broker.streams.read_group([keys.submit], "scheduler", 9, 5)
        assert wire.decode(entry.data) == Cancel(f"s{n}")


async def test_kills_in_use_never_mix_answers_up(redis_world: RedisWorld) -> None:
    """Every call succeeds with its own answer or is BrokerAway; commits are neither lost nor doubled."""
    broker = redis_world.broker
    await open_session(broker, "s1")
    away = 0
    stop = asyncio.Event()

    async def killer() -> None:
        while not stop.is_set():
            await kill_clients(redis_world)
            await asyncio.sleep(0.003)

    async def client(n: int) -> None:
        nonlocal away
        key = redis_world.keys.alive("nobody", str(n))
        while not stop.is_set():
            try:
                assert await broker.streams.length(key) == 0
                await broker.records.put(redis_world.keys.policy, {"n": "1"})
                assert await broker.records.get(redis_world.keys.policy) == {"n": "1"}
            except BrokerAway:
                away += 1

    tasks = [asyncio.create_task(killer()), *(asyncio.create_task(client(n)) for n in range(4))]
    length = 4
    while length < 104:
        try:
            (outcome,) = await broker.sessions.commit("v", "", [row(length, length)])
        except BrokerAway:
            away += 1
            continue
        assert outcome.length == length + 1
        length += 1
    stop.set()
    await asyncio.gather(*tasks)
    assert (await broker.sessions.load("s1")).committed == tuple(range(4, 104))
    assert away > 0


async def test_a_call_cancelled_before_it_is_sent_leaves_no_open_connection(
    redis_world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = Connections(redis_world.url)
    await used.ping()
    looking = asyncio.Event()
    looked_at = []

    async def can_read(connection: AbstractConnection, timeout: float = 0) -> bool:
        looked_at.append(connection)
        looking.set()
        await asyncio.sleep(10)
        return False

    monkeypatch.setattr(AbstractConnection, "can_read", can_read)
    call = asyncio.create_task(used.ping())
    await looking.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert [connection.is_connected for connection in looked_at] == [False]
    await used.close()


async def test_cancelled_calls_leave_no_half_read_connection(redis_world: RedisWorld) -> None:
    broker, keys = redis_world.broker, redis_world.keys
    await open_session(broker, "s1")
    for delay in range(40):
        calls = [asyncio.create_task(broker.sessions.head("s1")) for _ in range(4)]
        await asyncio.sleep(delay * 0.00005)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await broker.streams.length(keys.submit) == 1
        assert await broker.sessions.live() == {"s1"}


async def test_an_entry_read_by_a_cancelled_call_is_pending(redis_world: RedisWorld) -> None:
    broker, keys = redis_world.broker, redis_world.keys
    await broker.streams.make_groups([keys.submit])
    reader = asyncio.create_task(broker.streams.read_group([keys.submit], "scheduler", 9, 5))
    await asyncio.sleep(0.05)
    with Redis.from_url(redis_world.url) as other:  # the loop stands still, so the answer lies unread
        other.xadd(keys.submit, {"d": wire.encode(Cancel("s1"))})
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await broker.streams.read_group([keys.submit], "scheduler", 9, 0) == []
    (entry,) = await broker.streams.read_pending([keys.submit], "scheduler", 9)
    assert wire.decode(entry.data) == Cancel("s1")


async def test_more_calls_than_connections(redis_world: RedisWorld) -> None:
    await asyncio.gather(*(redis_world.broker.ping() for _ in range(8 * connections.MAX_CALLS)))
    clients = await redis_world.raw.client_list(_type="normal")
    assert len(clients) <= connections.MAX_CALLS + 1


async def test_close_ends_waiting_reads(redis_world: RedisWorld) -> None:
    broker = RedisBroker(redis_world.url)
    reader = asyncio.create_task(broker.streams.read_inbox("or:{s0}:inbox:pi:1", "0", 9, 5))
    await asyncio.sleep(0.05)
    await broker.close()
    with pytest.raises(BrokerAway):
        await reader


async def test_a_broker_that_lost_its_scripts_is_given_them_again(redis_world: RedisWorld) -> None:
    await redis_world.broker.presence.next_generation()
    await redis_world.raw.script_flush()
    await redis_world.broker.presence.next_generation()


async def test_an_emptied_server_is_another_one(redis_world: RedisWorld) -> None:
    broker = redis_world.broker
    run_id, generation = await broker.run_id(), await broker.presence.next_generation()
    term = await broker.lease.acquire("a:1", 5)
    await redis_world.raw.flushall()
    await asyncio.sleep(0.003)  # counters start at the clock in milliseconds
    assert await broker.run_id() != run_id
    assert await broker.presence.next_generation() > generation
    assert await broker.lease.acquire("a:1", 5) > term
    assert await broker.streams.read_group([redis_world.keys.submit], "scheduler", 9, 0.01) == []


async def test_strangers_entries_are_no_messages(redis_world: RedisWorld) -> None:
    broker, keys = redis_world.broker, redis_world.keys
    await broker.streams.make_groups([keys.submit])
    await redis_world.raw.xadd(keys.submit, {"x": "y", "z": b"\xff"})
    await redis_world.raw.xadd(keys.submit, {"d": b"\xff" * 100_000})
    first, second = await broker.streams.read_group([keys.submit], "scheduler", 9, 0)
    for entry in (first, second):
        with pytest.raises(wire.WireError):
            wire.decode(entry.data)
        await broker.streams.dead_letter(entry, "no message")
    dead = await redis_world.raw.xrange(keys.dead)
    assert [(fields[b"size"], len(fields[b"d"])) for _, fields in dead] == [(b"0", 0), (b"100000", 4096)]
    assert dead[0][1][b"source"] == keys.submit.encode()
    assert dead[0][1][b"reason"] == b"no message"


async def test_an_entry_deleted_while_pending_is_forgotten(redis_world: RedisWorld) -> None:
    broker, keys = redis_world.broker, redis_world.keys
    await broker.streams.make_groups([keys.submit])
    await broker.streams.push(keys.submit, Cancel("s1"))
    await broker.streams.push(keys.submit, Cancel("s2"))
    first, second = await broker.streams.read_group([keys.submit], "scheduler", 9, 0)
    await redis_world.raw.xdel(keys.submit, first.id)
    assert [e.id for e in await broker.streams.read_pending([keys.submit], "scheduler", 9)] == [second.id]
    assert (await redis_world.raw.xpending(keys.submit, "outrider"))["pending"] == 1


async def test_a_row_that_is_no_verdict_leaves_the_batch_undone(redis_world: RedisWorld) -> None:
    """Below the contract: bytes that RedisBroker would never send."""
    broker, raw, keys = redis_world.broker, redis_world.raw, redis_world.keys
    await open_session(broker, "s1")
    good = wire.encode(row(4, 10).verdict)
    log = [keys.session("s1"), keys.session_ids("s1"), keys.session_logprobs("s1"), keys.live, keys.live]
    names = [keys.verdicts, keys.staged("v"), keys.live, *log, *log]
    with pytest.raises(Exception, match=r"(?i)unpack|msgpack|bad data|missing bytes"):
        await raw.eval(script("commit").text, len(names), *names, "", good, b"\x01\xdc")
    assert (await broker.sessions.head("s1")).committed == 0
    assert await broker.streams.length(keys.verdicts) == 0


async def test_nobody_listens() -> None:
    broker = RedisBroker("redis://127.0.0.1:1/0")
    with pytest.raises(BrokerAway):
        await broker.ping()
    with pytest.raises(BrokerAway):
        await broker.streams.read_inbox("or:{s0}:inbox:pi:1", "0", 9, 5)
    await broker.close()


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A server that accepts and never answers."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_broker_that_does_not_answer_is_away(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CALL_S", 0.1)
    broker = RedisBroker(f"redis://127.0.0.1:{silent_port}/0")
    with pytest.raises(BrokerAway, match="no answer within"):
        await broker.ping()
    with pytest.raises(BrokerAway, match="no answer within"):
        await broker.streams.read_inbox("or:{s0}:inbox:pi:1", "0", 9, 0.1)
    await broker.close()


async def test_a_wrong_password_is_reported(redis_world: RedisWorld) -> None:
    broker = RedisBroker(redis_world.url.replace("redis://", "redis://nobody:wrong@"))
    with pytest.raises(BrokerDenied, match=r"(?i)password|user"):
        await broker.ping()
    await broker.close()


async def test_connect_reads_the_settings(redis_world: RedisWorld) -> None:
    broker = connect(Common(broker_url=redis_world.url, shard="s0", stream_limit=8))
    assert await broker.run_id() == await redis_world.broker.run_id()
    await broker.close()
    with pytest.raises(ValueError, match="redis://"):
        connect(Common(broker_url="http://127.0.0.1"))


async def test_a_restarted_server_has_another_run_id() -> None:
    async with EmbeddedBroker() as first:
        broker: Broker = RedisBroker(first.url)
        run_id, generation = await broker.run_id(), await broker.presence.next_generation()
        waiting = asyncio.create_task(broker.streams.read_inbox("or:{s0}:inbox:pi:1", "0", 9, 5))
        await asyncio.sleep(0.05)
    with pytest.raises(BrokerAway):
        await waiting
    with pytest.raises(BrokerAway):
        await broker.run_id()
    async with EmbeddedBroker(first.port):
        assert await broker.run_id() != run_id
        assert await broker.presence.next_generation() > generation
        unknown = CommitRow(Verdict("s1", 0, 1, 4, (1,), 5), "", "")
        assert (await broker.sessions.commit("v", "", [unknown]))[0].outcome == "unknown"
    await broker.close()


def test_the_embedded_broker_keeps_to_loopback_and_memory() -> None:
    argv = server_argv("127.0.0.1", 7000, memory_mb=64)
    assert argv[argv.index("--bind") + 1] == "127.0.0.1"
    assert argv[argv.index("--maxmemory-policy") + 1] == "noeviction"
    assert argv[argv.index("--maxmemory") + 1] == "64mb"
    assert subprocess.run([argv[0], "--version"], capture_output=True, check=True, timeout=10).stdout


async def test_the_embedded_broker_refuses_a_taken_port(redis_port: int) -> None:
    with pytest.raises(NoServer, match="ended with"):
        async with EmbeddedBroker(redis_port):
            pytest.fail("two servers on one port")


async def test_an_inbox_lets_go_of_what_is_older_than_it_is_kept(redis_world: RedisWorld) -> None:
    inbox = redis_world.keys.inbox("pi:1")
    for n in range(300):
        await redis_world.raw.xadd(inbox, {"d": b"old"}, id=f"{n + 1}-0")
    await redis_world.broker.streams.send(inbox, Cancel("s1", "cancel"))
    left = await redis_world.raw.xrange(inbox)
    assert len(left) <= 101  # whole nodes of the stream go
    assert wire.decode(left[-1][1][b"d"]) == Cancel("s1", "cancel")


async def test_connections_that_nobody_needs_are_closed(
    redis_world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(await redis_world.raw.client_list())
    pool = connections.Connections(redis_world.url)

    async def opened() -> int:
        await asyncio.sleep(0.05)  # the server sees what was closed
        return len(await redis_world.raw.client_list()) - before

    await asyncio.gather(*(pool.ping() for _ in range(12)))
    for _ in range(20):
        await pool.ping()
    assert await opened() == 12  # kept for the next time that calls coincide
    monkeypatch.setattr(connections, "SPARE_S", 0.01)
    for _ in range(12):
        await pool.ping()
    assert await opened() == 1
    await pool.close()
