"""The rights of each user of the broker, on a real server: a device may use only its own keys."""

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from shared.broker.access import (
    CORE,
    OPERATOR,
    Account,
    acl_file,
    device_user,
    rules,
    secret_of,
    set_user,
)
from shared.broker.connections import Connections
from shared.broker.contract import BrokerDenied
from shared.broker.device_broker import RedisDevice
from shared.broker.embedded import HOST
from shared.broker.redis_broker import RedisBroker
from shared.protocol.keys import Keys
from shared.protocol.messages import Draft, Heartbeat, Open, Resync, StagedBatch, StagedRow
from tests.broker_server import served
from tests.shared.broker.logs import open_session, row, spec_of, submit_of
from tests.shared.broker.worlds import TESTER

KEYS = Keys()
DEVICES = ("kitchen", "attic")
USERS = (*CORE, OPERATOR, *(device_user(name) for name in DEVICES))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A broker whose users' passwords are their names. TESTER may do everything."""
    file = tmp_path_factory.mktemp("access") / "users.acl"
    accounts = [Account(user, secret_of(user)) for user in USERS]
    file.write_text(acl_file(accounts, "s0") + f"user {TESTER} on >{TESTER} ~* &* +@all\n")
    with served(str(file)) as port:
        yield port


@pytest.fixture
async def url(port: int) -> str:
    """The broker, without data."""
    url = f"redis://{HOST}:{port}/0"
    raw = Redis.from_url(url, username=TESTER, password=TESTER, protocol=2)
    await raw.flushall()
    await raw.aclose()
    return url


def core(url: str, role: str) -> RedisBroker:
    return RedisBroker(Connections(url, role, role))


def device(url: str, name: str) -> RedisDevice:
    user = device_user(name)
    return RedisDevice(Connections(url, user, user), name, "s0", 64)


FORBIDDEN = {
    "the log of a session": ("HGETALL", KEYS.session("s1")),
    "its tokens": ("LRANGE", KEYS.session_ids("s1"), 0, -1),
    "a change of it": ("HSET", KEYS.session("s1"), "epoch", 9),
    "staged batches": ("XREAD", "STREAMS", KEYS.staged("v"), "0"),
    "a staged batch of its own": ("XADD", KEYS.staged("v"), "*", "d", "x"),
    "verdicts": ("XREAD", "STREAMS", KEYS.verdicts, "0"),
    "a verdict of its own": ("XADD", KEYS.verdicts, "*", "d", "x"),
    "requests": ("XADD", KEYS.submit, "*", "d", "x"),
    "drafts of others": ("XREAD", "STREAMS", KEYS.draft, "0"),
    "drafts, from the end": ("XREVRANGE", KEYS.draft, "+", "-"),
    "drafts, deleted": ("XDEL", KEYS.draft, "0-1"),
    "drafts, cut": ("XTRIM", KEYS.draft, "MAXLEN", 0),
    "all drafts": ("DEL", KEYS.draft),
    "another's inbox": ("XREAD", "STREAMS", KEYS.inbox("attic:1"), "0"),
    "a message to another": ("XADD", KEYS.inbox("attic:1"), "*", "d", "x"),
    "an inbox like its own": ("XREAD", "STREAMS", KEYS.inbox("kitchen2:1"), "0"),
    "another's heartbeat": ("XADD", KEYS.alive("draft_worker", "attic"), "9-*", "d", "x"),
    "the time of another's heartbeat": ("PEXPIRE", KEYS.alive("draft_worker", "attic"), 1),
    "the verifier's heartbeat": ("XREAD", "STREAMS", KEYS.alive("verifier", "v"), "0"),
    "another's generations": ("INCR", KEYS.device_generation("attic")),
    "answers to clients": ("XREAD", "STREAMS", KEYS.reply("gw:1"), "0"),
    "the names": ("ZADD", KEYS.names("draft_worker"), 1, "kitchen"),
    "another deployment": ("HSET", KEYS.deployment, "protocol", "9"),
    "another birth": ("SET", KEYS.birth, "x"),
    "the lease": ("HSET", KEYS.lease, "holder", "me"),
    "the policy": ("HSET", KEYS.policy, "policy", "me"),
    "live sessions": ("SMEMBERS", KEYS.live),
    "refused messages": ("XREAD", "STREAMS", KEYS.dead, "0"),
    "timelines": ("XADD", KEYS.trace, "*", "d", "x"),
    "a script": ("EVAL", "return 1", 0),
    "a script on its own keys": ("EVAL", "while true do end", 1, KEYS.inbox("kitchen:1")),
    "a known script": ("EVALSHA", "0" * 40, 0),
    "a function": ("FCALL", "f", 0),
    "all keys": ("KEYS", "*"),
    "a scan": ("SCAN", 0),
    "everything gone": ("FLUSHALL",),
    "this database gone": ("FLUSHDB",),
    "settings": ("CONFIG", "GET", "*"),
    "other settings": ("CONFIG", "SET", "maxmemory", 1),
    "the server's state": ("INFO",),
    "all clients": ("CLIENT", "LIST"),
    "others cut off": ("CLIENT", "KILL", "TYPE", "normal"),
    "users": ("ACL", "LIST"),
    "a user": ("ACL", "SETUSER", "me", "on"),
    "all traffic": ("MONITOR",),
    "messages beside": ("PUBLISH", "x", "y"),
    "the end": ("SHUTDOWN", "NOSAVE"),
    "a copy elsewhere": ("REPLICAOF", "127.0.0.1", 1),
    "a dump": ("DUMP", KEYS.session("s1")),
    "a key of no shard": ("SET", "anything", 1),
    "another shard": ("XADD", Keys("s1").draft, "*", "d", "x"),
}


@pytest.mark.parametrize("command", FORBIDDEN.values(), ids=FORBIDDEN)
async def test_a_device_is_refused_everything_else(url: str, command: tuple[object, ...]) -> None:
    gateway = core(url, "gateway")
    await open_session(gateway)
    await gateway.close()
    raw = Redis.from_url(url, username="device:kitchen", password="device:kitchen", protocol=2)  # noqa: S106
    with pytest.raises(NoPermissionError):
        await raw.execute_command(*command)
    await raw.aclose()


async def test_a_device_can_do_its_work(url: str) -> None:
    verifier, scheduler, kitchen = (
        core(url, "verifier"),
        core(url, "scheduler"),
        device(url, "kitchen"),
    )
    await verifier.run_id()
    await verifier.records.put(KEYS.deployment, {"protocol": "2"})
    await scheduler.streams.make_groups([KEYS.draft])
    assert await kitchen.run_id() == await verifier.run_id()
    assert await kitchen.records.get(KEYS.deployment) == {"protocol": "2"}
    generation = await kitchen.presence.next_generation()
    await kitchen.presence.beat(Heartbeat("draft_worker", "kitchen", generation), 4.0)
    assert await scheduler.presence.alive("draft_worker") == []  # its name it may not write
    assert await scheduler.presence.enlist({"kitchen": 0, "attic": 0}) == []
    assert [beat.name for beat in await scheduler.presence.alive("draft_worker")] == ["kitchen"]
    gateway = core(url, "gateway")
    await open_session(gateway)
    address = f"kitchen:{generation}"
    assert await scheduler.sessions.open(address, Open("s1", 1, 4))
    (entry,) = await kitchen.streams.read_inbox(KEYS.inbox(address), "0", 9, 0)
    assert b"s1" in entry.data
    assert await kitchen.streams.push_many(KEYS.draft, [Draft("s1", 1, 0, 4, address, (1,), bytes(1))]) == 1
    assert len(await scheduler.streams.read_group([KEYS.draft], "scheduler", 9, 0)) == 1
    for broker in (verifier, scheduler, kitchen, gateway):
        await broker.close()


async def test_the_core_s_roles_can_do_their_work(url: str) -> None:
    gateway, scheduler, verifier, own = (core(url, role) for role in CORE)
    for broker in (gateway, scheduler, verifier, own):
        assert await broker.run_id()
        assert await broker.presence.next_generation()
    await gateway.presence.beat(Heartbeat("gateway", "g", 1), 4.0)
    await scheduler.presence.beat(Heartbeat("scheduler", "s", 1), 4.0)
    await verifier.presence.beat(Heartbeat("verifier", "v", 1), 4.0)
    await own.presence.beat(Heartbeat("draft_worker", "d", 1), 4.0)
    for role in ("gateway", "scheduler", "verifier", "draft_worker"):
        assert len(await gateway.presence.alive(role)) == len(await scheduler.presence.alive(role)) == 1
    await scheduler.streams.make_groups([KEYS.submit, KEYS.draft, KEYS.verdicts])
    await verifier.streams.make_groups([KEYS.staged("v")])
    await gateway.sessions.submit(spec_of(), submit_of(spec_of()))
    assert len(await scheduler.streams.read_group([KEYS.submit], "scheduler", 9, 0)) == 1
    term = await scheduler.lease.acquire("s:1", 3.0)
    assert await scheduler.lease.renew("s:1", term, 3.0)
    assert await scheduler.sessions.place("s1", 1, "v", "d:1")
    batch = StagedBatch(term, 1, (StagedRow("s1", 1, 0, 4, 4, 0, "d:1", "gw:1"),))
    await scheduler.lease.stage("v", batch, [], "s:1")
    (entry,) = await verifier.streams.read_group([KEYS.staged("v")], "verifier", 9, 0)
    done = await verifier.sessions.commit("v", entry.id, [row(4, 9, epoch=1, device="d:1")])
    assert [outcome.outcome for outcome in done] == ["committed"]
    assert len(await own.streams.read_inbox(KEYS.inbox("d:1"), "0", 9, 0)) == 1
    assert len(await gateway.streams.read_inbox(KEYS.reply("gw:1"), "0", 9, 0)) == 1
    assert (await gateway.sessions.load("s1")).committed == (9,)
    assert await own.streams.push_many(KEYS.draft, [Resync("s1", 1, "d:1", 4, "ready")]) == 1
    await own.streams.dead_letter((await own.streams.read_inbox(KEYS.inbox("d:1"), "0", 9, 0))[0], "a test")
    await scheduler.records.put(KEYS.policy, {"policy": "fixed-k"})
    assert await gateway.records.get(KEYS.policy) == {"policy": "fixed-k"}
    await scheduler.lease.release("s:1", term)
    for broker in (gateway, scheduler, verifier, own):
        await broker.close()


@pytest.mark.parametrize("role", CORE)
@pytest.mark.parametrize("command", [("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("ACL", "LIST")])
async def test_no_role_of_the_core_governs_the_broker(url: str, role: str, command: tuple[str, ...]) -> None:
    raw = Redis.from_url(url, username=role, password=role, protocol=2)
    with pytest.raises(NoPermissionError):
        await raw.execute_command(*command)
    await raw.aclose()


async def test_nobody_comes_in_without_a_credential(url: str) -> None:
    raw = Redis.from_url(url, protocol=2)
    with pytest.raises(AuthenticationError):
        await raw.ping()
    await raw.aclose()
    wrong = RedisDevice(Connections(url, "device:kitchen", "wrong"), "kitchen", "s0", 64)
    with pytest.raises(BrokerDenied, match=r"device:kitchen.*(?i:password)"):
        await wrong.run_id()
    await wrong.close()


async def test_the_operator_adds_and_removes_users_and_a_removed_one_is_cut_off(
    url: str,
) -> None:
    operator, late = Connections(url, OPERATOR, OPERATOR), device_user("late")
    verifier = core(url, "verifier")
    await verifier.run_id()
    await verifier.close()
    await operator.call("ACL", "SETUSER", *set_user(Account(late, secret_of("pw")), "s0"))
    device = RedisDevice(Connections(url, late, "pw"), "late", "s0", 64)
    await device.run_id()
    await operator.call("ACL", "DELUSER", late)
    with pytest.raises((BrokerDenied, ConnectionError)):
        await device.run_id()
    with pytest.raises(BrokerDenied):
        await device.run_id()
    await operator.close()
    await device.close()


@pytest.mark.parametrize("name", ["", "a b", "a*", "a:b", "x" * 65, "ä"])
def test_what_is_no_name_is_no_user(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a device"):
        device_user(name)
    with pytest.raises(ValueError, match="no user"):
        rules(f"device:{name}", "s0")


def test_a_list_holds_no_password() -> None:
    text = acl_file([Account("device:kitchen", secret_of("correct horse"))], "s0")
    assert "correct horse" not in text
    assert text.startswith("user default off")
