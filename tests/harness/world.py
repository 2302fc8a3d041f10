"""The whole stack in one event loop: every service's own shell, modelled compute, one in-memory broker.

A process that dies comes back after a moment, with nothing but its name. `play` runs a scenario and judges it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics
from services.draft_worker.worker import DraftWorker
from services.gateway.session import Emitted, Failed, SessionRequest
from services.gateway.sessions import GatewaySessions, Unavailable
from services.gateway.stream import Stream
from services.scheduler.scheduler import Scheduler
from services.verifier.verifier import Verifier
from shared.broker.contract import Broker, UnknownSession
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.compute import InlineCompute
from shared.compute.modelled import STOP, expected_text
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.protocol.keys import Keys
from shared.runtime.ids import Ids
from shared.runtime.settings import (
    DraftWorkerSettings,
    GatewaySettings,
    SchedulerSettings,
    VerifierSettings,
    load,
)
from shared.runtime.watch import BrokerWatch
from shared.speculative.params import SamplingParams
from tests.harness.faults import FaultyCompute, Incarnation, Line, Weather
from tests.harness.process import Process, owned_task
from tests.harness.scenario import Scenario, User
from tests.harness.virtual import run_virtual

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
        self.weather = Weather()
        self.keys = Keys()
        self.server = MemoryServer()
        self.broker = MemoryBroker(self.server)
        self.targets: dict[str, ModelledTarget] = {}
        self.drafters: dict[str, ModelledDrafter] = {}
        self.verifiers: dict[str, Verifier] = {}
        self.workers: dict[str, DraftWorker] = {}
        self.scheduler: Scheduler | None = None
        self.gateway: tuple[GatewaySessions, Incarnation] | None = None
        self.processes: dict[str, Process] = {}
        self._start("scheduler", self._scheduler)
        self._start("gateway", self._gateway)
        for name in names("verifier", scenario.verifiers):
            self._start(name, self._verifier)
        for name in names("device", scenario.devices):
            self._start(name, self._device)

    # --- processes ----------------------------------------------------------------------------------
    def _start(
        self,
        name: str,
        make: Callable[[str, Incarnation, Broker], Callable[[asyncio.Event], Awaitable[None]]],
    ) -> None:
        scenario = self.scenario
        rng = random.Random(f"{scenario.seed} {name}")
        line = Line(name, scenario.faults, rng, scenario.latency_s, self.weather)

        def start(incarnation: Incarnation) -> Callable[[asyncio.Event], Awaitable[None]]:
            return make(name, incarnation, MemoryBroker(self.server, link=incarnation))

        self.processes[name] = Process(line, start)

    def _ids(self) -> Ids:
        return Ids(self.rng.getrandbits(32) + 1)

    def _verifier(self, name: str, incarnation: Incarnation, broker: Broker) -> Any:
        target = ModelledTarget(
            VOCAB,
            kv_tokens=self.scenario.kv_tokens,
            page_tokens=8,
            prefix_sharing=self.scenario.sharing,
            stop_every=self.scenario.stop_every,
        )
        settings = load(VerifierSettings, name=name, target="modelled")
        verifier = Verifier(
            settings, broker, target, FaultyCompute(incarnation), self._ids(), CollectorRegistry()
        )
        self.targets[name], self.verifiers[name] = target, verifier
        return verifier.run

    def _device(self, name: str, incarnation: Incarnation, broker: Broker) -> Any:
        drafter = ModelledDrafter(self.scenario.alpha, vocab=VOCAB, stop_every=self.scenario.stop_every)
        settings = load(DraftWorkerSettings, name=name, drafter="modelled")
        worker = DraftWorker(
            settings, broker, drafter, FaultyCompute(incarnation), self._ids(), Metrics(CollectorRegistry())
        )
        self.drafters[name], self.workers[name] = drafter, worker
        return worker.run

    def _scheduler(self, name: str, _: Incarnation, broker: Broker) -> Any:
        settings = load(
            SchedulerSettings, name=name, policy=self.scenario.policy, k=self.scenario.k, move_timeout_s=1.0
        )
        self.scheduler = Scheduler(settings, broker, self._ids(), CollectorRegistry(), InlineCompute())
        return self.scheduler.run

    def _gateway(self, name: str, incarnation: Incarnation, broker: Broker) -> Any:
        settings = load(GatewaySettings, name=name, request_timeout_s=LONGEST_S)
        watch = BrokerWatch(broker)
        sessions = GatewaySessions(settings, broker, watch, self._ids())
        self.gateway = sessions, incarnation

        async def run(stop: asyncio.Event) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(watch.run(stop))
                group.create_task(sessions.run(stop))

        return run

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
        if self.gateway is None:
            return None
        gateway, life = self.gateway
        try:
            return await gateway.open(ask), life
        except Unavailable:
            return None
        except asyncio.CancelledError:  # the gateway died under us
            if life.alive:
                raise
            return None

    # --- from start to end --------------------------------------------------------------------------
    async def play(self) -> list[User]:
        """Run the scenario; its users. Raises AssertionError when anything is not as it has to be."""
        asyncio.get_running_loop().set_task_factory(owned_task)
        lives = {name: asyncio.create_task(process.live()) for name, process in self.processes.items()}
        befalls = asyncio.create_task(self._befall())
        users = await self._wave(WARM_S)
        await befalls
        await self._judge(users, self.scenario.breaks)
        if self.scenario.breaks:
            users = await self._wave(RECOVERED_S)
            await self._judge(users)
        await self._freed()
        for process in self.processes.values():
            process.stop.set()
        await asyncio.wait(lives.values(), timeout=30)
        stuck = [name for name, life in lives.items() if not life.done()]
        assert not stuck, f"did not stop: {stuck}"
        for process in self.processes.values():
            assert not process.errors, f"{process.line.process} raised {process.errors}"
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

    async def _befall(self) -> None:
        """What befalls the whole, a while after the first user has come."""
        await asyncio.sleep(WARM_S + 0.25)
        for name in self.scenario.gone:
            self.processes[name].returns = False
            self.processes[name].incarnation.kill()
        if self.scenario.outage_s or self.scenario.wiped:
            self.weather.down = True
            if self.scenario.wiped:
                self.server.wipe()
            await asyncio.sleep(self.scenario.outage_s)
            self.weather.down = False

    async def _judge(self, users: Sequence[User], breaks: bool = False) -> None:
        """Each user has the text, all of it, once; who was cut off has the beginning of it. So has the log."""
        for process in self.processes.values():
            assert not process.errors, f"{process.line.process} raised {process.errors}"
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
        for name, verifier in self.verifiers.items():
            if name in gone:
                continue
            left[f"{name} cache"] = set(self.targets[name].sessions())
            left[f"{name} sessions"] = len(verifier.sessions)
        for name, drafter in self.drafters.items():
            if name in gone:
                continue
            left[f"{name} cache"] = set(drafter.sessions())
        if self.scheduler is not None and self.scheduler.core is not None:
            left["scheduler"] = set(self.scheduler.core.sessions)
        if self.gateway is not None:
            left["gateway"] = len(self.gateway[0])
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
