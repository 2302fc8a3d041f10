"""One draft worker on the in-memory broker, with its core in a test's hands."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics
from services.draft_worker.worker import DraftWorker
from shared.broker.contract import Broker
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.compute import InlineCompute
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_tree_drafter import ModelledTreeDrafter
from shared.protocol.keys import Keys
from shared.protocol.limits import PROTOCOL_VERSION
from shared.protocol.messages import (
    Draft,
    Heartbeat,
    Message,
    Open,
    Resync,
    Submit,
    Verdict,
)
from shared.protocol.session import SessionSpec
from shared.protocol.wire import decode
from shared.runtime.ids import Ids
from shared.runtime.settings import DraftWorkerSettings, load
from shared.speculative.params import SamplingParams
from simulator.virtual_loop import run_virtual

VOCAB = 500
PROMPT = tuple(range(1, 25))
KEYS = Keys()
DEPLOYMENT = {"protocol": str(PROTOCOL_VERSION), "target": "modelled", "vocabulary": f"modelled-{VOCAB}"}


class World:
    """The device under test, and a manual stand-in for the rest of the stack."""

    def __init__(self, **settings: Any) -> None:
        self.server = MemoryServer()
        self.broker = MemoryBroker(self.server)
        self.settings = load(DraftWorkerSettings, name="d", drafter="modelled", **settings)
        self.registry = CollectorRegistry()
        self.drafter = ModelledDrafter(0.8, draft_ms=8, vocab=VOCAB, capacity=2, kv_tokens=200)
        self.trees = ModelledTreeDrafter(draft_ms=8, vocab=VOCAB, capacity=2, kv_tokens=200)
        self.stop = asyncio.Event()
        self.address = ""
        self.worker: DraftWorker
        self.task: asyncio.Task[None]

    async def start(self, broker: Broker | None = None, deployment: dict[str, str] | None = None) -> None:
        """Run the device and wait until it has registered."""
        self.launch(broker)
        await self.broker.records.put(KEYS.deployment, deployment or DEPLOYMENT)
        await self.broker.streams.make_groups([KEYS.draft])
        await self.registered()

    def launch(self, broker: Broker | None = None) -> None:
        self.worker = DraftWorker(
            self.settings,
            broker or MemoryBroker(self.server),
            self.drafter,
            InlineCompute(),
            Ids(1),
            Metrics(self.registry),
            trees=self.make_trees,
        )
        self.task = asyncio.create_task(self.worker.run(self.stop))

    def make_trees(self) -> ModelledTreeDrafter:
        return self.trees

    async def registered(self) -> Heartbeat:
        for _ in range(200):
            beats = await self.broker.presence.alive("draft_worker")
            if beats and f"d:{beats[0].generation}" != self.address:
                self.address = f"d:{beats[0].generation}"
                return beats[0]
            await asyncio.sleep(0.1)
        raise AssertionError("the device did not register")

    async def submit(self, session: str = "s", prompt: tuple[int, ...] = PROMPT) -> None:
        """A session placed on the device, with its log."""
        spec = SessionSpec(session, prompt, SamplingParams(7, VOCAB), 64, (), "g:1", 60_000)
        await self.broker.sessions.submit(spec, Submit(session, len(prompt), 64, 60_000, "g:1"))
        await self.broker.sessions.place(session, 1, "v", self.address)

    async def send(self, *messages: Message) -> None:
        for message in messages:
            if isinstance(message, Open):
                await self.broker.sessions.open(self.address, message)
            else:
                await self.broker.streams.send(KEYS.inbox(self.address), message)

    async def replies(self, wait_s: float = 1.0) -> list[Draft | Resync]:
        """Messages that the device has sent within wait_s."""
        await asyncio.sleep(wait_s)
        entries = await self.broker.streams.read_group([KEYS.draft], "scheduler", 100, 0.01)
        await self.broker.streams.ack(KEYS.draft, [entry.id for entry in entries])
        messages = [decode(entry.data) for entry in entries]
        assert all(isinstance(message, Draft | Resync) for message in messages)
        return [message for message in messages if isinstance(message, Draft | Resync)]

    async def opened(self, session: str = "s", prompt: tuple[int, ...] = PROMPT) -> None:
        """Open a session and wait until it is ready."""
        await self.submit(session, prompt)
        await self.send(Open(session, 1, len(prompt)))
        assert await self.replies() == [Resync(session, 1, self.address, len(prompt), "ready")]

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def verdict(base: int, tokens: tuple[int, ...], next_k: int = 4, session: str = "s") -> Verdict:
    return Verdict(session, 1, 1, base, tokens, base + len(tokens), next_k=next_k)


def play(scene: Callable[[World], Awaitable[None]], kind: type[World] = World, **settings: Any) -> None:
    """Run a test on a virtual clock; at its end the device stops and must hold nothing."""

    async def run() -> None:
        world = kind(**settings)
        try:
            await scene(world)
        finally:
            world.stop.set()
            if hasattr(world, "task"):
                await asyncio.wait([world.task])
        if world.task.exception() is None:
            assert world.drafter.sessions() == frozenset()
            assert world.trees.sessions() == frozenset()

    run_virtual(run())
