"""A real gateway on a real port, with an in-memory broker and a minimal core."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from services.gateway.gateway import Gateway
from shared.broker.contract import BrokerAway, CommitRow
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.broker.memory_link import Direct
from shared.compute.compute import InlineCompute
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.limits import PROTOCOL_VERSION
from shared.protocol.messages import Cancel, Close, Control, Finish, Message, Submit, Verdict
from shared.protocol.session import SessionLog
from shared.runtime.ids import Ids
from shared.runtime.settings import GatewaySettings
from tests.services.gateway.tokenizers_for_tests import HASH, byte_bpe

KEYS = Keys("s0")
MODEL = "test-model"
CONTEXT = 512


class Link(Direct):
    """A link to a broker that can be away and can lose its data."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.broker = MemoryBroker(self.server, link=self)
        self.lose_data = self.server.wipe
        self.away = False

    async def before(self, operation: str, sent: int) -> None:
        self._check()
        await super().before(operation, sent)

    async def after(self, operation: str, received: int) -> None:
        self._check()

    def _check(self) -> None:
        if self.away:
            raise BrokerAway("taken away by the test")


@dataclass
class Core:
    """Scheduler, device and verifier in one: commits a given text in rounds of `width` tokens."""

    broker: MemoryBroker
    text: Callable[[SessionLog], list[int]] = lambda log: byte_bpe().encode("hello world, hello there")
    width: int = 3
    drafted: int = 4
    pause_s: float = 0.0
    hold: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: nothing is committed
    mangle: Callable[[Verdict], list[Verdict]] = lambda verdict: [verdict]  # what the gateway is sent instead
    cancels: list[Cancel] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    submits: list[Submit] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def announce(self, **fields: str) -> None:
        record = {
            "protocol": str(PROTOCOL_VERSION),
            "target": "test",
            "vocabulary": HASH,
            "vocab": str(byte_bpe().vocabulary.size),
            "max_context": str(CONTEXT),
            "pool_tokens": "4096",
        }
        await self.broker.records.put(KEYS.deployment, record | fields)

    async def run(self) -> None:
        self.hold.set()
        while True:
            try:
                await self.broker.streams.make_groups([KEYS.submit])
                for entry in await self.broker.streams.read_group([KEYS.submit], "scheduler", 64, 0.2):
                    await self.take(wire.decode(entry.data))
                    await self.broker.streams.ack(KEYS.submit, [entry.id])
            except BrokerAway:
                await asyncio.sleep(0.01)

    async def take(self, message: Message) -> None:
        match message:
            case Submit():
                self.submits.append(message)
                task = asyncio.create_task(self.serve(message.session))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            case Cancel():
                self.cancels.append(message)
                close = Close(message.session, 1, message.reason or "cancel")
                await self.broker.sessions.end(message.session, close, "", "", "")
            case Control():
                self.controls.append(message)
                fields = {"policy": message.policy, "k": str(message.k), "source": "control"}
                fields["window"] = message.window or "none"
                fields["bandwidth"] = message.bandwidth or "policy"
                await self.broker.records.put(
                    KEYS.policy, fields | {"verifier_threads": "0", "draft_threads": "0"}
                )

    async def serve(self, session: str) -> None:
        """Serve one session to its end."""
        log = await self.sure(lambda: self.broker.sessions.load(session))
        await self.sure(lambda: self.broker.sessions.place(session, 1, "verifier", ""))
        text = self.text(log)[: log.spec.max_tokens]
        for start in range(0, len(text), self.width):
            await self.hold.wait()
            await asyncio.sleep(self.pause_s)
            tokens = tuple(text[start : start + self.width])
            end = start + len(tokens) == len(text)
            finish: Finish = ("stop" if tokens[-1] in log.spec.stop_ids else "length") if end else ""
            base = len(log.spec.prompt) + start
            logprobs = tuple((-0.25, (token, 7), (-0.25, -1.5)) for token in tokens)
            verdict = Verdict(
                session,
                1,
                1 + start,
                base,
                tokens,
                base + len(tokens),
                logprobs=logprobs if log.spec.logprobs >= 0 else (),
                drafted=self.drafted,
                accepted=min(self.drafted, len(tokens) - 1),
                finish=finish,
            )
            await self.commit(verdict, log.spec.gateway)

    async def sure(self, call: Callable[[], Any]) -> Any:
        """Repeat a call until the broker is up; returns its result."""
        while True:
            try:
                return await call()
            except BrokerAway:
                await asyncio.sleep(0.01)

    async def commit(self, verdict: Verdict, gateway: str) -> None:
        """Commit a verdict to the log, and send the gateway what `mangle` makes of it."""
        sent = self.mangle(verdict)
        direct = sent == [verdict]
        try:
            await self.broker.sessions.commit(
                "verifier", "", [CommitRow(verdict, "", gateway if direct else "")]
            )
            for other in [] if direct else sent:
                await self.broker.streams.send(KEYS.reply(gateway), other)
        except BrokerAway:
            await asyncio.sleep(0.01)
            await self.commit(verdict, gateway)


@dataclass
class Stack:
    """The parts of the stack for a test."""

    link: Link
    core: Core
    gateway: Gateway
    client: aiohttp.ClientSession
    url: str
    stop: asyncio.Event
    running: asyncio.Task[None]

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self.client.post(path, json=body) as response:
            return response.status, await response.json()

    async def complete(self, **fields: Any) -> tuple[int, Any]:
        defaults = {"model": MODEL, "prompt": "say it", "max_tokens": 100, "temperature": 0}
        return await self.post("/v1/completions", **(defaults | fields))

    async def chat(self, **fields: Any) -> tuple[int, Any]:
        messages = [{"role": "user", "content": "say it"}]
        return await self.post("/v1/chat/completions", **({"model": MODEL, "messages": messages} | fields))


@asynccontextmanager
async def running_stack(ready: bool = True, **settings: Any) -> AsyncIterator[Stack]:
    """A serving gateway, which is cancelled at the end."""
    link = Link()
    core = Core(link.broker)
    gateway = Gateway(
        settings_for_tests(**settings),
        link.broker,
        InlineCompute(),
        Ids(7),
        CollectorRegistry(),
        byte_bpe(),
    )
    stop = asyncio.Event()
    tasks = [asyncio.create_task(core.run()), asyncio.create_task(gateway.run(stop))]
    if ready:
        await core.announce()
    try:
        async with asyncio.timeout(10):
            while gateway.port == 0 or (ready and gateway.api.not_ready_reason() is not None):
                await asyncio.sleep(0.005)
                for task in tasks:
                    if task.done():
                        task.result()
        url = f"http://127.0.0.1:{gateway.port}"
        async with aiohttp.ClientSession(url) as client:
            yield Stack(link, core, gateway, client, url, stop, tasks[1])
    finally:
        for task in [*tasks, *core.tasks]:
            task.cancel()
        await asyncio.gather(*tasks, *core.tasks, return_exceptions=True)


def settings_for_tests(**settings: Any) -> GatewaySettings:
    """Settings with free ports and a name for the model."""
    defaults: dict[str, Any] = {"port": 0, "health_port": 0, "served_name": MODEL, "drain_s": 5.0}
    return GatewaySettings(**(defaults | settings))


async def until(condition: Callable[[], Any], within_s: float = 5.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)
