"""The simulator's stack under faults: its processes, its users, and what befalls them. judge.py judges it.

A process that dies is started again after a moment, with nothing but its name.
"""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from functools import cache, partial
from typing import Any, Final

from services.gateway.session import Emitted, SessionRequest
from services.gateway.sessions import GatewaySessions, Unavailable
from shared.broker.contract import BrokerFull, UnknownSession
from shared.broker.memory_broker import MemoryBroker
from shared.compute.modelled import STOP, expected_text
from shared.compute.modelled_core_drafter import ModelledCoreDrafter
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.protocol.keys import Keys
from shared.protocol.messages import Control
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
from simulator.process_clock import TRUE, ProcessClock
from simulator.seeded_loop import SeededLoop
from simulator.services import Factory
from simulator.stack import SimulatedStack
from tests.harness.scenario import Cut, Death, Full, Pause, Scenario, Stop, Switch, User, names

VOCAB: Final = 500
CORE_MATCH: Final = 0.7  # share of rows for which the core has a draft, where it may draft
WARM_S: Final = 1.2  # by then everybody has registered, and the scheduler knows
LONGEST_S: Final = 300.0  # of virtual time, for all sessions to end
LATER_TOKENS: Final = 8  # of users who come after all faults
READY_S: Final = 60.0  # for all processes that live to be ready again


class World:
    """One scenario under way. met: what befell it, by kind. ended_s: virtual time at the end."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.keys = Keys()
        self.stack = SimulatedStack(
            scenario.seed, scenario.faults, count_calls=True, stream_limit=scenario.stream_limit
        )
        self.server = self.stack.server
        self.broker = MemoryBroker(self.server)
        self.targets: dict[str, ModelledTarget] = {}
        self.drafters: dict[str, ModelledDrafter] = {}
        self.core_drafters: dict[str, ModelledCoreDrafter] = {}
        self.met: Counter[str] = Counter()
        self.users: list[User] = []
        self.ended_s = 0.0
        self._cut_now: Counter[str] = Counter()  # cuts under way, by process
        self._clocks = {clock.process: ProcessClock(clock.offset_s, clock.rate) for clock in scenario.clocks}
        self._add_core()
        for name in (name for name in scenario.names() if name.startswith("device")):
            device = _settings(DraftWorkerSettings, name=name, drafter="modelled", trace=scenario.trace)
            self._add(
                name, services.draft_worker(device, partial(self._drafter, name)), scenario.device_delay_s
            )

    def _add_core(self) -> None:
        scenario = self.scenario
        for name in names("scheduler", scenario.schedulers):
            settings = _settings(
                SchedulerSettings,
                name=name,
                policy=scenario.policy,
                k=scenario.k,
                window=scenario.window,
                move_timeout_s=1.0,
                max_rows=scenario.max_rows,
                prefill_tokens=scenario.prefill_tokens,
                trace=scenario.trace,
            )
            self._add(name, services.scheduler(settings))
        for name in names("gateway", scenario.gateways):
            gateway = _settings(GatewaySettings, name=name, request_timeout_s=LONGEST_S, trace=scenario.trace)
            self._add(name, services.gateway(gateway))
        for name in (name for name in scenario.names() if name.startswith("verifier")):
            verifier = _settings(VerifierSettings, name=name, target="modelled", trace=scenario.trace)
            self._add(
                name,
                services.verifier(verifier, partial(self._target, name), partial(self._core_drafter, name)),
            )

    def _add(self, name: str, factory: Factory, delay_s: float = 0.0) -> None:
        scenario = self.scenario
        link = LinkModel(delay_s, scenario.latency_s, loss=scenario.loss, duplicates=scenario.duplicates)
        self.stack.add(name, factory, link, clock=self._clocks.get(name, TRUE))

    def _target(self, name: str) -> ModelledTarget:
        scenario = self.scenario
        self.targets[name] = ModelledTarget(
            VOCAB,
            kv_tokens=scenario.kv_tokens,
            page_tokens=8,
            prefix_sharing=scenario.sharing,
            stop_every=scenario.stop_every,
        )
        return self.targets[name]

    def _core_drafter(self, name: str) -> ModelledCoreDrafter:
        """Of this verifier: as good as the devices, in most rows."""
        scenario = self.scenario
        self.core_drafters[name] = ModelledCoreDrafter(scenario.alpha, CORE_MATCH, scenario.stop_every)
        return self.core_drafters[name]

    def _drafter(self, name: str) -> ModelledDrafter:
        scenario = self.scenario
        self.drafters[name] = ModelledDrafter(
            scenario.alpha,
            vocab=VOCAB,
            stop_every=scenario.stop_every,
            draft_ms=scenario.draft_ms,
            capacity=scenario.draft_sessions,
        )
        return self.drafters[name]

    def history(self) -> list[Any]:
        """All that the processes did, for the comparison of two runs."""
        counted = {name: (counter.calls, counter.messages) for name, counter in self.stack.counters.items()}
        got = [(user.session, user.tokens, user.end, user.ended_at) for user in self.users]
        return [counted, got, self.ended_s, sorted(self.met.items())]

    # --- users --------------------------------------------------------------------------------------
    def _user(self, number: int, rng: random.Random, later: bool) -> User:
        """Half of each prompt is alike, so that there is something to share."""
        scenario = self.scenario
        common = tuple(1 + i % (VOCAB - 1) for i in range(scenario.prompt // 2))
        prompt = common + tuple(rng.randrange(1, VOCAB) for _ in range(scenario.prompt - len(common)))
        sampling = SamplingParams(seed=rng.getrandbits(32), vocab=VOCAB)
        limit = min(scenario.tokens, LATER_TOKENS) if later else scenario.tokens
        expected = expected_text(prompt, sampling, limit, scenario.stop_every)
        user = User(number, prompt, sampling, limit, expected, later)
        if rng.random() < scenario.wishes:
            user.device = f"device-{rng.randrange(max(1, scenario.devices))}"
        if rng.random() < scenario.leavers and not later:
            user.leaves_after = rng.randrange(len(user.expected))
        return user

    async def wave(self, count: int, later: bool = False) -> list[User]:
        """Users that come within `spread_s`; all have ended. Each draws from a stream of its own.

        Raises AssertionError when one does not end.
        """
        rngs = [random.Random(f"{self.scenario.seed} {later} {number}") for number in range(count)]
        users = [self._user(number, rng, later) for number, rng in enumerate(rngs)]
        self.users += users
        try:
            async with asyncio.timeout(LONGEST_S):
                await asyncio.gather(
                    *(
                        self._use(user, rng.random() * self.scenario.spread_s)
                        for user, rng in zip(users, rngs, strict=True)
                    )
                )
        except TimeoutError:
            self.stack.raise_if_failed()
            stuck = [(user.session, user.end, len(user.tokens)) for user in users]
            raise AssertionError(f"not all ended: {stuck}") from None
        return users

    async def _use(self, user: User, after_s: float) -> None:
        """Ask as soon as it is possible, read to the end. When the gateway dies, that is the end."""
        await asyncio.sleep(after_s)
        turn = user.number
        while not user.end:
            name = (open_gateways := names("gateway", self.scenario.gateways))[turn % len(open_gateways)]
            gateway, life = self.stack.services.get(name), self.stack.processes[name].incarnation
            if isinstance(gateway, services.Gateway) and life.alive:
                user.gateway = name
                serving = life.spawn(self._serve(gateway.sessions, user))
                await asyncio.wait([serving])
                if not serving.cancelled():
                    serving.result()
                elif user.session:
                    user.gateway_ended, user.end = True, "gateway died"
            if not user.end:
                turn += 1
                await asyncio.sleep(0.1)
        user.ended_at = asyncio.get_running_loop().time()
        with suppress(UnknownSession):
            user.log = await self.broker.sessions.load(user.session)

    async def _serve(self, sessions: GatewaySessions, user: User) -> None:
        """What a gateway does for a request, in its process."""
        logprobs = 2 if self.scenario.logprobs else -1
        ask = SessionRequest(
            user.prompt, user.sampling, user.max_tokens, (STOP,), logprobs=logprobs, device=user.device
        )
        try:
            stream = await sessions.open(ask)
        except Unavailable:
            return
        user.session = stream.members[0].spec.session
        while not user.end:
            if user.leaves_after is not None and len(user.tokens) >= user.leaves_after:
                user.end = "left"
                break
            event = await anext(stream)
            if isinstance(event, Emitted):
                assert 0 <= event.accepted <= min(event.drafted, len(event.tokens)), event
                user.tokens += event.tokens
                user.logprobs += event.logprobs
                user.drafted += event.drafted
                user.end = event.finish
            else:
                user.end = f"{event.reason}: {event.message}"
        stream.close()

    # --- what befalls -------------------------------------------------------------------------------
    async def befall(self, began: float) -> None:
        """Let everything happen that has a time. began: time of the loop from which the times count."""
        scenario = self.scenario
        await asyncio.gather(
            *(self._die(began + death.at_s, death) for death in scenario.deaths),
            *(self._stop(began + stop.at_s, stop) for stop in scenario.stops),
            *(self._cut(began + cut.at_s, cut) for cut in scenario.cuts),
            *(self._pause(began + pause.at_s, pause) for pause in scenario.pauses),
            *(self._fill(began + full.at_s, full) for full in scenario.fulls),
            *(self._switch(began + switch.at_s, switch) for switch in scenario.switches),
        )

    async def _die(self, at: float, death: Death) -> None:
        await _sleep_until(at)
        process = self.stack.processes[death.process]
        if death.back_s is None:
            process.returns = False
        else:
            process.restart_s = death.back_s
        process.incarnation.kill()
        self.met["death"] += 1

    async def _stop(self, at: float, stop: Stop) -> None:
        await _sleep_until(at)
        process, service = self.stack.processes[stop.process], self.stack.services.get(stop.process)
        if process.incarnation.alive and not process.incarnation.stop.is_set():
            process.restart_s = stop.back_s
            if isinstance(service, services.Gateway):
                service.sessions.shut_down()
            process.incarnation.stop.set()
            self.met["stop"] += 1

    async def _pause(self, at: float, pause: Pause) -> None:
        await _sleep_until(at)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop), "a pause needs an order"
        loop.pause(self.stack.processes[pause.process].incarnation, pause.for_s)
        await asyncio.sleep(pause.for_s)
        self.met["pause"] += 1

    async def _fill(self, at: float, full: Full) -> None:
        await _sleep_until(at)
        self.server.full = True
        await asyncio.sleep(full.for_s)
        self.server.full = False
        self.met["full"] += 1

    async def _cut(self, at: float, cut: Cut) -> None:
        await _sleep_until(at)
        outage = self.stack.cuts[cut.process] if cut.process else self.stack.outage
        self._cut_now[cut.process] += 1
        outage.down = True
        if cut.wiped:
            self.server.wipe()
        await asyncio.sleep(cut.for_s)
        self._cut_now[cut.process] -= 1
        outage.down = self._cut_now[cut.process] > 0
        self.met["wipe" if cut.wiped else "cut"] += 1

    async def _switch(self, at: float, switch: Switch) -> None:
        await _sleep_until(at)
        with suppress(BrokerFull):
            await self.broker.streams.push(self.keys.submit, Control(switch.policy, switch.k))
            self.met["switch"] += 1

    async def ready(self) -> None:
        """Wait until every process that lives is ready. Raises AssertionError when it takes too long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + READY_S
        while waiting := [name for name in self.stack.processes if not self._is_ready(name)]:
            self.stack.raise_if_failed()
            if loop.time() > end:
                raise AssertionError(f"not ready {READY_S} s after all faults: {waiting}")
            await asyncio.sleep(0.1)

    def _is_ready(self, name: str) -> bool:
        if name in self.scenario.gone:
            return True
        service, life = self.stack.services.get(name), self.stack.processes[name].incarnation
        of = service.sessions if isinstance(service, services.Gateway) else service
        ready: bool = life.alive and of is not None and of.not_ready_reason() is None  # type: ignore[attr-defined]
        return ready


_settings = cache(
    load
)  # they are read from the environment and files, which takes longer than a process's start


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
