"""The simulator's stack under faults: `play` runs a scenario and checks every text, log and cache afterwards.

A process that dies is started again after a moment, with nothing but its name.
"""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from services.gateway.session import Emitted, Failed, SessionRequest
from services.gateway.sessions import Unavailable
from services.gateway.stream import Stream
from services.scheduler.core import Core
from services.scheduler.scheduler import Scheduler
from services.verifier.verifier import Verifier
from shared.broker.contract import UnknownSession
from shared.broker.memory_broker import MemoryBroker
from shared.compute.modelled import STOP, expected_text
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.protocol.keys import Keys
from shared.runtime.settings import (
    DraftWorkerSettings,
    GatewaySettings,
    SchedulerSettings,
    VerifierSettings,
    load,
)
from shared.speculative.params import SamplingParams
from simulator import services
from simulator.link import LinkModel
from simulator.process import Incarnation
from simulator.stack import SimulatedStack
from simulator.virtual_loop import run_virtual
from tests.harness.scenario import Scenario, User

VOCAB: Final = 500
RECOVERED_S: Final = 5.0
WARM_S: Final = 1.2  # by then everybody has registered, and the scheduler knows
LONGEST_S: Final = 300.0  # of virtual time, for all sessions to end
FREE_S: Final = 200.0  # after that, for everything to be freed


class World:
    """One scenario under way."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = random.Random(scenario.seed)  # no secrets
        self.keys = Keys()
        self.stack = SimulatedStack(scenario.seed, scenario.faults, count_calls=True)
        self.server = self.stack.server
        self.broker = MemoryBroker(self.server)
        self.targets: dict[str, ModelledTarget] = {}
        self.drafters: dict[str, ModelledDrafter] = {}
        link = LinkModel(jitter_s=scenario.latency_s)
        settings = load(
            SchedulerSettings, name="scheduler", policy=scenario.policy, k=scenario.k, move_timeout_s=1.0
        )
        self.stack.add("scheduler", services.scheduler(settings), link)
        gateway = load(GatewaySettings, name="gateway", request_timeout_s=LONGEST_S)
        self.stack.add("gateway", services.gateway(gateway), link)
        for name in names("verifier", scenario.verifiers):
            verifier = load(VerifierSettings, name=name, target="modelled")
            self.stack.add(name, services.verifier(verifier, partial(self._target, name)), link)
        for name in names("device", scenario.devices):
            device = load(DraftWorkerSettings, name=name, drafter="modelled")
            self.stack.add(name, services.draft_worker(device, partial(self._drafter, name)), link)

    def _target(self, name: str) -> ModelledTarget:
        self.targets[name] = ModelledTarget(
            VOCAB,
            kv_tokens=self.scenario.kv_tokens,
            page_tokens=8,
            prefix_sharing=self.scenario.sharing,
            stop_every=self.scenario.stop_every,
        )
        return self.targets[name]

    def _drafter(self, name: str) -> ModelledDrafter:
        self.drafters[name] = ModelledDrafter(
            self.scenario.alpha, vocab=VOCAB, stop_every=self.scenario.stop_every
        )
        return self.drafters[name]

    # --- users --------------------------------------------------------------------------------------
    def users(self) -> list[User]:
        """Half of each prompt is alike, so that there is something to share."""
        scenario, users = self.scenario, []
        for _ in range(scenario.users):
            common = tuple(1 + i % (VOCAB - 1) for i in range(scenario.prompt // 2))
            own = tuple(self.rng.randrange(1, VOCAB) for _ in range(scenario.prompt - len(common)))
            sampling = SamplingParams(seed=self.rng.getrandbits(32), vocab=VOCAB)
            expected = expected_text(common + own, sampling, scenario.tokens, scenario.stop_every)
            users.append(User(common + own, sampling, expected))
        return users

    async def use(self, user: User, after_s: float) -> None:
        """Ask as soon as it is possible, read to the end. When the gateway dies, that is the end."""
        await asyncio.sleep(after_s)
        ask = SessionRequest(user.prompt, user.sampling, self.scenario.tokens, (STOP,))
        while (opened := await self._open(ask)) is None:
            await asyncio.sleep(0.1)
        stream, life = opened
        user.session = stream.members[0].spec.session
        events = aiter(stream)
        while not user.end:
            step = asyncio.ensure_future(anext(events))
            while not step.done() and life.alive:
                await asyncio.wait([step], timeout=1.0)
            if not step.done():
                step.cancel()
                user.gateway_died, user.end = True, "gateway died"
                return
            event = step.result()
            match event:
                case Emitted():
                    user.tokens += event.tokens
                    user.end = event.finish
                case Failed():
                    user.end = f"{event.reason}: {event.message}"

    async def _open(self, ask: SessionRequest) -> tuple[Stream, Incarnation] | None:
        gateway = self.stack.services.get("gateway")
        if not isinstance(gateway, services.Gateway):
            return None
        life = self.stack.processes["gateway"].incarnation
        try:
            return await gateway.sessions.open(ask), life
        except Unavailable:
            return None
        except asyncio.CancelledError:  # the gateway died under us
            if life.alive:
                raise
            return None

    # --- from start to end --------------------------------------------------------------------------
    async def play(self) -> list[User]:
        """Run the scenario; its users. Raises AssertionError when anything is not as it has to be."""
        async with self.stack:
            failing = asyncio.create_task(self._fail_processes())
            users = await self._wave(WARM_S)
            await failing
            await self._judge(users, self.scenario.breaks)
            if self.scenario.breaks:
                users = await self._wave(RECOVERED_S)
                await self._judge(users)
            await self._freed()
        return users

    async def _wave(self, after_s: float) -> list[User]:
        """Users that come within `spread_s`; all have ended."""
        users = self.users()
        try:
            async with asyncio.timeout(LONGEST_S):
                await asyncio.gather(
                    *(self.use(user, after_s + self.rng.random() * self.scenario.spread_s) for user in users)
                )
        except TimeoutError:
            raise AssertionError(f"not all ended: {[(u.end, len(u.tokens)) for u in users]}") from None
        return users

    async def _fail_processes(self) -> None:
        """Let processes die and the broker go away, a while after the first user has come."""
        await asyncio.sleep(WARM_S + 0.25)
        for name in self.scenario.gone:
            self.stack.processes[name].returns = False
            self.stack.processes[name].incarnation.kill()
        if self.scenario.outage_s or self.scenario.wiped:
            self.stack.outage.down = True
            if self.scenario.wiped:
                self.server.wipe()
            await asyncio.sleep(self.scenario.outage_s)
            self.stack.outage.down = False

    async def _judge(self, users: Sequence[User], breaks: bool = False) -> None:
        """Each user has the text, all of it, once; who was cut off has the beginning of it. So has the log."""
        self.stack.raise_if_failed()
        for user in users:
            cut = user.gateway_died or (breaks and user.end.startswith("broker:"))
            got = tuple(user.tokens)
            try:
                log = (await self.broker.sessions.load(user.session)).committed
            except UnknownSession:
                assert self.scenario.wiped
                log = got
            message = f"{user.session} ({user.end}): {got}, log {log}, expected {user.expected}"
            if cut:
                assert got == user.expected[: len(got)], message
                assert log == user.expected[: len(log)], message
            else:
                assert got == log == user.expected, message
                assert user.end == ("stop" if STOP in user.expected else "length"), message

    async def _freed(self) -> None:
        """Nothing is left anywhere: not in a cache, not in a service's state, not in the broker."""
        loop = asyncio.get_running_loop()
        end = loop.time() + FREE_S
        while (left := await self.leftovers()) and loop.time() < end:
            await asyncio.sleep(1.0)
        assert not left, f"left behind: {left}"

    async def leftovers(self) -> dict[str, Any]:
        """What is still held, by where."""
        keys, streams = self.keys, [self.keys.submit, self.keys.draft, self.keys.verdicts]
        gone = self.scenario.gone  # what a process that is gone for good has not read stays
        all_verifiers = names("verifier", self.scenario.verifiers)
        streams += [self.keys.staged(name) for name in all_verifiers if name not in gone]
        left: dict[str, Any] = {"live": await self.broker.sessions.live()}
        left |= {stream: self.server.length(stream) for stream in streams}
        lasting = {
            *streams,
            *map(self.keys.staged, gone),
            keys.live,
            keys.generation,
            keys.term,
            keys.policy,
            keys.deployment,
        }
        left["keys without expiry"] = self.server.keys_without_expiry() - lasting
        caches: dict[str, ModelledTarget | ModelledDrafter] = {**self.targets, **self.drafters}
        for name, service in self.stack.services.items():
            if name in gone:
                continue
            if name in caches:
                left[f"{name} cache"] = set(caches[name].sessions())
            match service:
                case Verifier():
                    left[f"{name} sessions"] = len(service.sessions)
                case Scheduler(core=Core() as core):
                    left[name] = set(core.sessions)
                case services.Gateway():
                    left[name] = len(service.sessions)
        return {where: what for where, what in left.items() if what}


def names(kind: str, count: int) -> list[str]:
    """device-0, device-1, ..."""
    return [f"{kind}-{i}" for i in range(count)]


def play(scenario: Scenario) -> World:
    """Play a scenario under virtual time; raises AssertionError when it does not come out right."""

    async def main() -> World:
        world = World(scenario)
        await world.play()
        return world

    return run_virtual(main())
