"""One scheduler on the in-memory broker, with its peers in a test's hands."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import CollectorRegistry

from services.scheduler.scheduler import CONSUMER, Scheduler
from shared.broker.contract import BrokerAway, CommitRow, Entry, UnknownSession
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.broker.memory_scripts import Beat
from shared.compute.compute import InlineCompute
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.limits import PROTOCOL_VERSION
from shared.protocol.messages import (
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
from shared.runtime.settings import SchedulerSettings, load
from shared.speculative.params import SamplingParams
from simulator.virtual_loop import run_virtual

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
        self.requested = asyncio.Event()

    async def after(self, operation: str, received: int) -> None:
        if operation == "alive" and self.late_s:
            self.requested.set()
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
        self.device_version = PROTOCOL_VERSION

    async def beat(self, role: Role, name: str) -> None:
        while True:
            heartbeat = Heartbeat(role, name, 1, capacity=64)
            await self.broker.presence.beat(heartbeat, 4.0)
            if role == "draft_worker" and self.device_version != PROTOCOL_VERSION:
                theirs = bytes([self.device_version]) + wire.encode(heartbeat)[1:]
                self.server.put(KEYS.alive(role, name), Beat(1, theirs))
            await asyncio.sleep(1.0)

    async def verifier(self) -> None:
        """Accepts every draft, up to max_tokens."""
        stream = KEYS.staged("v")
        while True:
            for entry in await self.read(lambda: self.broker.streams.read_group([stream], "v", 1, 1.0)):
                message = wire.decode(entry.data)
                if isinstance(message, StagedBatch):
                    await asyncio.sleep(PASS_S)
                    with suppress(UnknownSession):  # the broker lost its data meanwhile
                        await self.broker.sessions.commit("v", entry.id, await self.answers(message))
                else:
                    self.tunes += [message] if isinstance(message, Tune) else []
                    await self.broker.streams.ack(stream, [entry.id])

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
            head = await self.broker.sessions.head(row.session)
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
            for entry in await self.read(lambda: self.broker.streams.read_inbox(inbox, after, 64, 1.0)):  # noqa: B023
                after = entry.id
                await self.answer(wire.decode(entry.data))

    async def answer(self, message: object) -> None:
        if isinstance(message, Open):
            ready = Resync(message.session, message.epoch, "d:1", message.base_len, "ready")
            await self.broker.streams.push(KEYS.draft, ready)
        elif isinstance(message, Verdict) and message.next_k:
            await asyncio.sleep(DRAFT_S)
            tokens = (5,) * message.next_k
            m = message
            await self.broker.streams.push(
                KEYS.draft,
                Draft(
                    m.session,
                    m.epoch,
                    m.round + 1,
                    m.length,
                    "d:1",
                    tokens,
                    bytes(len(tokens)),
                    draft_us=5000,
                ),
            )

    async def submit(self, *names: str, prompt: int = 20, tokens: int = 30) -> None:
        for name in names:
            spec = SessionSpec(
                name, tuple(range(prompt)), SamplingParams(1, 100), tokens, (), "g:1", deadline_ms=60_000
            )
            await self.broker.sessions.submit(spec, Submit(name, prompt, tokens, 60_000, "g:1"))

    async def finished(self, *names: str, within_s: float = 30.0) -> None:
        async with asyncio.timeout(within_s):
            while await self.broker.sessions.live():
                await asyncio.sleep(0.05)
        for name in names:
            head = await self.broker.sessions.head(name)
            assert (head.finish, head.committed) == ("length", head.max_tokens)

    async def idle(self) -> None:
        """Nothing is left in any work stream."""
        await asyncio.sleep(6.0)
        for stream in (KEYS.submit, KEYS.draft, KEYS.verdicts, KEYS.staged("v")):
            assert await self.broker.streams.length(stream) == 0, stream
            assert await self.broker.streams.read_pending([stream], CONSUMER, 10) == []

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
