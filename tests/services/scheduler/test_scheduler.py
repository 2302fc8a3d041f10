"""The scheduler's shell on the in-memory broker and a virtual clock, with a minimal verifier and device."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.scheduler.scheduler import CONSUMER, Scheduler
from shared.broker.contract import BrokerAway, CommitRow, Entry, UnknownSession
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.compute import InlineCompute
from shared.planning.policies import POLICY_NAMES, make_policy
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import (
    Cancel,
    Control,
    Draft,
    Heartbeat,
    Open,
    Resync,
    Role,
    StagedBatch,
    Submit,
    Tune,
    Verdict,
)
from shared.protocol.session import SessionSpec
from shared.runtime.ids import Ids
from shared.runtime.settings import SchedulerSettings, SettingsError, load
from shared.speculative.params import SamplingParams
from tests.harness.virtual import run_virtual

KEYS = Keys()
PASS_S, DRAFT_S = 0.03, 0.005


class Cut:
    """A link that a test can cut."""

    def __init__(self) -> None:
        self.off = False

    async def before(self, operation: str, sent: int) -> None:
        await asyncio.sleep(0.0001)
        if self.off:
            raise BrokerAway("cut")

    async def after(self, operation: str, received: int) -> None:
        if self.off:
            raise BrokerAway("cut")

    def copies(self, stream: str, data: bytes) -> int:
        return 1


class LateNews(Cut):
    """A link on which the next answer to who is alive can be made to come late."""

    def __init__(self) -> None:
        super().__init__()
        self.late_s = 0.0
        self.asked = asyncio.Event()

    async def after(self, operation: str, received: int) -> None:
        if operation == "alive" and self.late_s:
            self.asked.set()
            await asyncio.sleep(self.late_s)


class Stack:
    """A broker and all roles but the scheduler."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.broker = MemoryBroker(self.server)
        self.tunes: list[Tune] = []
        self.widest = 0
        self.batches = 0
        self.longest_draft = 0

    async def beat(self, role: Role, name: str) -> None:
        while True:
            await self.broker.beat(Heartbeat(role, name, 1, capacity=64), 4.0)
            await asyncio.sleep(1.0)

    async def verifier(self) -> None:
        """Accepts every draft, up to max_tokens."""
        stream = KEYS.staged("v")
        while True:
            for entry in await self.read(lambda: self.broker.read_group([stream], "v", 1, 1.0)):
                message = wire.decode(entry.data)
                if isinstance(message, StagedBatch):
                    await asyncio.sleep(PASS_S)
                    with suppress(UnknownSession):  # the broker lost its data meanwhile
                        await self.broker.commit("v", entry.id, await self.answers(message))
                else:
                    self.tunes += [message] if isinstance(message, Tune) else []
                    await self.broker.ack(stream, [entry.id])

    async def read(self, read: Callable[[], Awaitable[list[Entry]]]) -> list[Entry]:
        try:
            return await read()
        except BrokerAway:
            return []

    async def answers(self, batch: StagedBatch) -> list[CommitRow]:
        self.batches += 1
        self.widest = max(self.widest, len(batch.rows))
        rows = []
        for row in batch.rows:
            head = await self.broker.head(row.session)
            self.longest_draft = max(self.longest_draft, len(row.tokens))
            left = head.prompt_len + head.max_tokens - row.base_len
            tokens = (*row.tokens, 1)[:left] if row.feed_to == row.base_len else ()
            done = len(tokens) == left
            verdict = Verdict(
                session=row.session,
                epoch=row.epoch,
                round=row.round,
                base_len=row.base_len,
                tokens=tokens,
                length=row.base_len + len(tokens),
                drafted=len(row.tokens),
                accepted=min(len(row.tokens), len(tokens)),
                next_k=0 if done else row.next_k,
                finish="length" if done else "",
                status="ok" if tokens else "prefilled",
                cached_len=row.feed_to,
                batch=batch.batch,
                verify_us=int(PASS_S * 1e6) if tokens else 0,
            )
            rows.append(CommitRow(verdict, row.device, row.gateway))
        return rows

    async def device(self) -> None:
        inbox, after = KEYS.inbox("d:1"), "0"
        while True:
            for entry in await self.read(lambda: self.broker.read_inbox(inbox, after, 64, 1.0)):  # noqa: B023
                after = entry.id
                await self.answer(wire.decode(entry.data))

    async def answer(self, message: object) -> None:
        if isinstance(message, Open):
            ready = Resync(message.session, message.epoch, "d:1", message.base_len, "ready")
            await self.broker.push(KEYS.draft, ready)
        elif isinstance(message, Verdict) and message.next_k:
            await asyncio.sleep(DRAFT_S)
            tokens = (5,) * message.next_k
            m = message
            await self.broker.push(
                KEYS.draft, Draft(m.session, m.epoch, m.round + 1, m.length, "d:1", tokens, draft_us=5000)
            )

    async def submit(self, *names: str, prompt: int = 20, tokens: int = 30) -> None:
        for name in names:
            spec = SessionSpec(
                name, tuple(range(prompt)), SamplingParams(1, 100), tokens, (), "g:1", deadline_ms=60_000
            )
            await self.broker.submit(spec, Submit(name, prompt, tokens, 60_000, "g:1"))

    async def finished(self, *names: str, within_s: float = 30.0) -> None:
        async with asyncio.timeout(within_s):
            while await self.broker.live():
                await asyncio.sleep(0.05)
        for name in names:
            head = await self.broker.head(name)
            assert (head.finish, head.committed) == ("length", head.max_tokens)

    async def idle(self) -> None:
        """Nothing is left in any work stream."""
        await asyncio.sleep(6.0)
        for stream in (KEYS.submit, KEYS.draft, KEYS.verdicts, KEYS.staged("v")):
            assert await self.broker.length(stream) == 0, stream
            assert await self.broker.read_pending([stream], CONSUMER, 10) == []

    def scheduler(self, name: str = "scheduler", link: Cut | None = None, **settings: Any) -> Scheduler:
        loaded = load(SchedulerSettings, name=name, seed=1, **settings)
        return Scheduler(
            loaded, MemoryBroker(self.server, link=link), Ids(1), CollectorRegistry(), InlineCompute()
        )


@asynccontextmanager
async def running(*loops: Awaitable[None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def on_a_stack(play: Callable[[Stack], Awaitable[None]]) -> None:
    """Run a test on a fresh stack and a virtual clock."""

    async def main() -> None:
        stack = Stack()
        beats = [stack.beat(*who) for who in (("draft_worker", "d"), ("verifier", "v"), ("gateway", "g"))]
        async with running(*beats, stack.verifier(), stack.device()) as tasks:
            await asyncio.sleep(0.01)
            await play(stack)
            assert not any(task.done() for task in tasks), "a role of the test died"

    run_virtual(main())


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_sessions_are_served_to_their_end_and_nothing_is_left(policy: str) -> None:
    async def play(stack: Stack) -> None:
        stop = asyncio.Event()
        scheduler = stack.scheduler(policy=policy, prefill_tokens=16)
        async with running(scheduler.run(stop)) as (served,):
            names = [f"s{n}" for n in range(6)]
            await stack.submit(*names)
            await stack.finished(*names)
            await stack.idle()
            stop.set()
            await served
        assert await stack.broker.acquire_lease("next", 1.0) > 0  # given back
        if policy in (
            "autoregressive",
            "greedy-batch",
            "fixed-k",
        ):  # in the others it comes of what was measured
            assert stack.longest_draft == (4 if policy == "fixed-k" else 0)
            assert stack.widest == (1 if policy == "autoregressive" else 6)
        if make_policy(policy).plans:
            assert scheduler.metrics.plans.labels("made")._value.get() > 0
        assert scheduler.metrics.bytes_in.labels(KEYS.verdicts)._value.get() > 0

    on_a_stack(play)


def test_speculation_takes_fewer_batches() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler(policy="fixed-k").run(asyncio.Event())):
            await stack.submit("s")
            await stack.finished("s")
        assert stack.batches <= 30 / 5 + 3

    on_a_stack(play)


def test_bad_bytes_are_dead_letters_and_nobody_else_is_affected() -> None:
    async def play(stack: Stack) -> None:
        scheduler = stack.scheduler()
        stack.server.add(KEYS.submit, b"\x01\xff")
        stack.server.add(KEYS.draft, b"")
        stack.server.add(KEYS.verdicts, wire.encode(Open("s", 1, 1)))
        async with running(scheduler.run(asyncio.Event())):
            await stack.submit("s")
            await stack.finished("s")
            await stack.idle()
        assert await stack.broker.length(KEYS.dead) == 3

    on_a_stack(play)


def test_cancel_ends_a_session() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler().run(asyncio.Event())):
            await stack.submit("s", tokens=1000)
            await asyncio.sleep(1.0)
            await stack.broker.push(KEYS.submit, Cancel("s"))
            await asyncio.sleep(0.5)
            assert (await stack.broker.head("s")).finish == "cancel"
            await stack.idle()

    on_a_stack(play)


def test_control_changes_the_policy_and_the_next_scheduler_keeps_it() -> None:
    async def play(stack: Stack) -> None:
        first = stack.scheduler(policy="greedy-batch")
        stop = asyncio.Event()
        async with running(first.run(stop)) as (served,):
            await asyncio.sleep(1.0)
            assert (await stack.broker.get(KEYS.policy))["policy"] == "greedy-batch"
            await stack.broker.push(KEYS.submit, Control("cyclic-k", 7, verifier_threads=2))
            await stack.submit("a", "b")
            await stack.finished("a", "b")
            assert stack.longest_draft == 7
            assert stack.tunes == [Tune(2)]
            stop.set()
            await served
        second = stack.scheduler(policy="greedy-batch")
        async with running(second.run(asyncio.Event())):
            await asyncio.sleep(1.0)
            assert second.core is not None
            assert (second.core.policy.name, second.core.policy.k) == ("cyclic-k", 7)

    on_a_stack(play)


def test_a_scheduler_that_is_killed_is_followed_by_a_standby() -> None:
    async def play(stack: Stack) -> None:
        first, second = stack.scheduler("one"), stack.scheduler("two")
        async with running(first.run(asyncio.Event())) as (killed,):
            await asyncio.sleep(0.5)
            async with running(second.run(asyncio.Event())):
                names = [f"s{n}" for n in range(4)]
                await stack.submit(*names, tokens=400)
                await asyncio.sleep(0.7)
                assert second.core is None
                assert second.not_ready_reason() is None
                killed.cancel()
                await stack.finished(*names)
                assert second.core is not None
                await stack.idle()

    on_a_stack(play)


def test_twice_in_a_row() -> None:
    async def play(stack: Stack) -> None:
        names = [f"s{n}" for n in range(4)]
        await stack.submit(*names, tokens=600)
        for _ in range(2):
            async with running(stack.scheduler().run(asyncio.Event())):
                await asyncio.sleep(4.0)
        async with running(stack.scheduler().run(asyncio.Event())):
            await stack.finished(*names)
            await stack.idle()

    on_a_stack(play)


def test_one_that_was_cut_off_stops_staging_and_stands_by() -> None:
    async def play(stack: Stack) -> None:
        link = Cut()
        first, second = stack.scheduler("one", link), stack.scheduler("two")
        async with running(first.run(asyncio.Event())):
            await asyncio.sleep(0.5)
            async with running(second.run(asyncio.Event())):
                await stack.submit("s", tokens=600)
                await asyncio.sleep(0.5)
                assert first.core is not None
                link.off = True
                await asyncio.sleep(4.5)
                assert first.core is None
                assert first.not_ready_reason() == "broker away"
                assert second.core is not None
                link.off = False
                await stack.finished("s")
                assert first.core is None
                await stack.idle()

    on_a_stack(play)


def test_a_broker_that_is_away_for_a_moment_only_costs_time() -> None:
    async def play(stack: Stack) -> None:
        link = Cut()
        async with running(stack.scheduler(link=link).run(asyncio.Event())):
            names = [f"s{n}" for n in range(4)]
            await stack.submit(*names, tokens=300)
            for _ in range(2):
                await asyncio.sleep(0.7)
                link.off = True
                await asyncio.sleep(0.3)
                link.off = False
            await stack.finished(*names)
            await stack.idle()

    on_a_stack(play)


def test_a_broker_that_lost_its_data_is_begun_with_anew() -> None:
    async def play(stack: Stack) -> None:
        scheduler = stack.scheduler()
        async with running(scheduler.run(asyncio.Event())):
            await stack.submit("old", tokens=100_000)
            await asyncio.sleep(1.0)
            stack.server.wipe()
            await asyncio.sleep(3.0)
            assert scheduler.core is not None
            assert not scheduler.core.sessions
            await stack.submit("new")
            await stack.finished("new")

    on_a_stack(play)


def test_a_live_session_whose_submit_was_lost_is_found() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler().run(asyncio.Event())):
            await asyncio.sleep(0.5)
            stray = MemoryBroker(stack.server)
            spec = SessionSpec("s", (1, 2), SamplingParams(1, 100), 5, (), "g:1", deadline_ms=60_000)
            reader = asyncio.ensure_future(stray.read_group([KEYS.submit], CONSUMER, 1, 1.0))
            await asyncio.sleep(0.3)  # the scheduler is between two reads, the stray reader is first
            await stray.submit(spec, Submit("s", 2, 5, 60_000, "g:1"))
            await reader
            await stack.finished("s")
            await stack.idle()

    on_a_stack(play)


def test_an_unknown_policy_is_a_setting_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match=r"OUTRIDER_POLICY.*'best'.*cyclic-k"):
        Stack().scheduler(policy="best")


def test_a_device_that_has_just_come_gets_its_share_of_new_sessions() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler().run(asyncio.Event())):
            await asyncio.sleep(0.2)  # after a look at the fleet, well before the next
            await stack.broker.beat(Heartbeat("draft_worker", "e", 1, capacity=64), 4.0)
            await stack.submit("s", "t")
            await asyncio.sleep(0.02)
            heads = [await stack.broker.head(name) for name in ("s", "t")]
            assert {head.device for head in heads} == {"d:1", "e:1"}

    on_a_stack(play)


def test_a_look_at_the_fleet_that_is_answered_late_undoes_no_later_one() -> None:
    async def play(stack: Stack) -> None:
        link = LateNews()
        scheduler = stack.scheduler(link=link)
        async with running(scheduler.run(asyncio.Event())):
            await asyncio.sleep(5.0)  # who is not seen any more counts as gone by now
            link.late_s = 0.2
            await link.asked.wait()
            link.late_s = 0.0
            await asyncio.sleep(0.06)  # what was known before is too old to place by
            await stack.broker.beat(Heartbeat("draft_worker", "e", 1, capacity=64), 4.0)
            await stack.submit("s", "t", tokens=60)
            await asyncio.sleep(0.4)  # and has been answered
            heads = [await stack.broker.head(name) for name in ("s", "t")]
            assert {head.device for head in heads} == {"d:1", "e:1"}
            assert scheduler.metrics.moves.labels("device")._value.get() == 0

    on_a_stack(play)
