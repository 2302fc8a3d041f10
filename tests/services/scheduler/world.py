"""A small simulation around the core: a log, verifiers, devices and streams with injected faults.

Nothing here knows tokens: a session is a committed length. Until `calm_at` every message may be lost, repeated or
late, and every process may die and return; from then on the world behaves, and every session has to finish.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from prometheus_client import CollectorRegistry

from services.scheduler.core import Core
from services.scheduler.effects import AckDraft, Effect, End, PlaceSession, ReadHead, SendToDevice, Stage
from services.scheduler.fleet import LiveProcesses
from services.scheduler.metrics import Metrics
from services.scheduler.state import Config, Estimates
from shared.planning.policies import make_policy
from shared.protocol.messages import (
    Close,
    Control,
    Draft,
    Message,
    Open,
    Resync,
    StagedBatch,
    StagedRow,
    Submit,
    Verdict,
)
from shared.protocol.session import SessionHead
from tests.services.scheduler.desk import beat

BOUND = 96  # tokens a verifier feeds in one row
PASS_S = 0.05


@dataclass
class Log:
    submit: Submit
    committed: int = 0
    epoch: int = 0
    verifier: str = ""
    device: str = ""
    finish: str = ""

    @property
    def length(self) -> int:
        return self.submit.prompt_len + self.committed


@dataclass
class Core_:  # the process that verifies; `Core` is the scheduler's
    name: str
    generation: int = 1
    alive: bool = True
    working: bool = False
    stream: list[StagedBatch] = field(default_factory=list)
    cached: dict[str, int] = field(default_factory=dict)


@dataclass
class Device:
    name: str
    generation: int = 1
    alive: bool = True
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.name}:{self.generation}"


class World:
    """Simulates one history, which the seed determines."""

    def __init__(
        self,
        seed: int,
        policy: str,
        sessions: int,
        devices: int,
        verifiers: int,
        trouble: float,
        calm_at: float,
    ) -> None:
        self.rng = random.Random(seed)  # not secrets
        self.now = 10.0
        self.calm_at = self.now + calm_at
        self.trouble = trouble
        self.term = 0
        self.policy = policy
        self.logs: dict[str, Log] = {}
        self.verifiers = {f"v{n}": Core_(f"v{n}") for n in range(verifiers)}
        self.devices = {f"d{n}": Device(f"d{n}") for n in range(devices)}
        self.entries: dict[str, Message] = {}  # delivered to the scheduler and not acknowledged
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.steps = 0
        self.estimates = Estimates()
        self.new_scheduler()
        for n in range(sessions):
            self.at(self.rng.uniform(0, 0.75 * calm_at), partial(self.open, f"s{n}"))
        self.at(0.5, self.look_around)
        self.at(5.0, self.sweep)
        for _ in range(int(12 * trouble)):
            self.at(self.rng.uniform(0, calm_at), self.strike)

    # --- time -------------------------------------------------------------------------------------------
    def at(self, after: float, event: Callable[[], None]) -> None:
        self.steps += 1
        heapq.heappush(self.events, (self.now + after, self.steps, event))

    def run(self, until: float) -> None:
        """Run until every session has finished, or until the given time."""
        while self.now < until and not self.over():
            self.step()

    def run_on(self, until: float) -> None:
        """Run until the given time, even if every session has finished."""
        while self.now < until:
            self.step()

    def step(self) -> None:
        """Advance to the next event or timer."""
        wake = self.core.next_wake()
        next_event = self.events[0][0]
        self.now = max(self.now, min(next_event, wake if wake is not None else next_event))
        while self.events and self.events[0][0] <= self.now:
            heapq.heappop(self.events)[2]()
        self.perform(self.core.tick(self.now))
        self.check()

    def over(self) -> bool:
        return self.now > self.calm_at and all(log.finish for log in self.logs.values())

    def check(self) -> None:
        """Check the invariants."""
        for name, session in self.core.sessions.items():
            assert session.length <= self.logs[name].length, f"{name}: more than was committed"

    def left_over(self) -> dict[str, object]:
        """State that the scheduler still holds."""
        state = self.core._state
        held: dict[str, object] = {
            "sessions": state.sessions,
            "entries": self.entries,
            "holding": state.holding,
            "loads": state.loads.ours(),
            "phases": +state.metrics.phases,
            "unplaced": state.unplaced,
            "deviceless": state.deviceless,
            "cohorts": [v.name for v in state.verifiers.values() if len(v.cohort)],
            "in_flight": [v.name for v in state.verifiers.values() if len(v.in_flight)],
            "timers": state.timers.next_at(),
        }
        return {name: what for name, what in held.items() if what}

    # --- trouble ----------------------------------------------------------------------------------------
    def befalls(self, odds: float) -> bool:
        return self.now < self.calm_at and self.rng.random() < odds * self.trouble

    def carry(self, event: Callable[[], None], delay: float = 0.002) -> None:
        """Deliver a message, possibly lost, repeated or late."""
        if self.befalls(0.05):
            return
        for _ in range(2 if self.befalls(0.05) else 1):
            late = self.rng.uniform(0, 4) if self.befalls(0.05) else 0.0
            self.at(delay * self.rng.uniform(0.5, 1.5) + late, event)

    def strike(self) -> None:
        """Kill a random process, which returns as a newer incarnation."""
        victims: list[Callable[[], None]] = [self.new_scheduler]
        victims += [partial(self.kill, v) for v in self.verifiers.values()]
        victims += [partial(self.kill, d) for d in self.devices.values()]
        victims += [
            lambda: self.to_scheduler(Control(self.rng.choice(["cyclic-k", "fixed-k", "greedy-batch"])))
        ]
        self.rng.choice(victims)()

    def kill(self, victim: Core_ | Device) -> None:
        if not victim.alive:
            return
        victim.alive = False
        victim.generation += 1
        if isinstance(victim, Core_):
            victim.cached.clear()
            victim.working = False
        else:
            victim.lengths.clear()
        self.at(self.rng.choice([0.5, 3.0, 8.0]), lambda: self.revive(victim))

    def revive(self, victim: Core_ | Device) -> None:
        victim.alive = True
        if isinstance(victim, Core_):
            self.work(victim)

    # --- the scheduler ----------------------------------------------------------------------------------
    def new_scheduler(self) -> None:
        """Start a scheduler, replacing the last one if any."""
        self.term += 1
        config = Config("scheduler", self.term, 4, 64, 2.0, 3, 2)
        self.core = Core(config, make_policy(self.policy, 3), self.estimates, Metrics(CollectorRegistry()))
        self.began = self.now
        self.core.update_fleet(self.fleet(), self.now, trusted=False)
        for name, log in self.logs.items():
            if not log.finish:
                self.core.adopt(self.head(name), self.now)
        for entry, message in list(self.entries.items()):
            self.handle(entry, message, again=True)
        self.core.resume(self.now)
        self.perform(self.core.tick(self.now))

    def to_scheduler(self, message: Message) -> None:
        def deliver() -> None:
            self.steps += 1
            entry = f"{self.steps}-0"
            self.entries[entry] = message
            self.handle(entry, message)

        self.carry(deliver)

    def handle(self, entry: str, message: Message, again: bool = False) -> None:
        self.core.handle(message, entry, self.now, again)
        if not self.core.holds(entry):
            del self.entries[entry]

    def look_around(self) -> None:
        self.core.update_fleet(self.fleet(), self.now, trusted=self.now > self.began + 4.0)
        self.at(0.5, self.look_around)

    def sweep(self) -> None:
        for name in [n for n, log in self.logs.items() if not log.finish and n not in self.core.sessions]:
            self.core.on_head(self.head(name), self.now)
        self.at(5.0, self.sweep)

    def fleet(self) -> LiveProcesses:
        return LiveProcesses.of(
            [beat("draft_worker", d.address, capacity=4) for d in self.devices.values() if d.alive],
            [beat("verifier", f"{v.name}:{v.generation}") for v in self.verifiers.values() if v.alive],
            [beat("gateway", "g:1")],
        )

    def perform(self, effects: list[Effect]) -> None:
        while effects:
            for effect in effects:
                match effect:
                    case PlaceSession(name, epoch, verifier, device):
                        log = self.logs[name]
                        if log.finish or log.epoch > epoch:
                            self.core.on_head(self.head(name), self.now)
                        else:
                            log.epoch, log.verifier, log.device = epoch, verifier, device
                    case SendToDevice(device, message):
                        self.to_device(device, message)
                    case Stage():
                        self.stage(effect)
                    case End(name, close):
                        self.logs[name].finish = close.finish
                    case AckDraft(entry):
                        del self.entries[entry]
                    case ReadHead(name):
                        self.core.on_head(self.head(name), self.now)
            effects = self.core.tick(self.now)

    def head(self, name: str) -> SessionHead:
        log, submit = self.logs[name], self.logs[name].submit
        return SessionHead(
            session=name,
            prompt_len=submit.prompt_len,
            max_tokens=submit.max_tokens,
            gateway="g:1",
            device_wanted="",
            deadline_ms=10_000_000,
            epoch=log.epoch,
            verifier=log.verifier,
            device=log.device,
            committed=log.committed,
            finish=log.finish,  # type: ignore[arg-type]  # one of Finish
        )

    def open(self, name: str) -> None:
        submit = Submit(name, self.rng.choice([5, 40, 300]), self.rng.randint(1, 40), 10_000_000, "g:1")
        self.logs[name] = Log(submit)
        self.to_scheduler(submit)

    # --- verifiers --------------------------------------------------------------------------------------
    def stage(self, stage: Stage) -> None:
        if self.befalls(0.05):
            self.core.on_stage_refused(stage, self.now)
            return
        for entry in stage.drafts:
            del self.entries[entry]
        verifier = self.verifiers[stage.verifier]

        def arrive() -> None:
            verifier.stream.append(stage.batch)
            self.work(verifier)

        self.carry(arrive)

    def work(self, verifier: Core_) -> None:
        if verifier.stream and verifier.alive and not verifier.working:
            verifier.working = True
            self.at(PASS_S, partial(self.commit, verifier, verifier.generation))

    def commit(self, verifier: Core_, generation: int) -> None:
        if verifier.generation != generation:
            return  # it died on the way; the batch is still in its stream
        batch = verifier.stream.pop(0)
        verifier.working = False
        for row in batch.rows:
            self.answer(verifier, row, batch.batch)
        self.work(verifier)

    def answer(self, verifier: Core_, row: StagedRow, batch: int) -> None:
        """`commit` of the broker's contract, with random results of the acceptance rule."""
        log = self.logs[row.session]
        verdict = Verdict(row.session, row.epoch, row.round, row.base_len, (), row.base_len, batch=batch)
        assert row.base_len <= log.length, "a row in the future"
        assert row.epoch <= log.epoch or log.finish, "an epoch that was never written"
        if row.epoch != log.epoch:
            return
        cached = min(verifier.cached.get(row.session, 0), log.length - 1)
        if log.finish or row.base_len < log.length:
            answer = replace(verdict, length=log.length, next_k=0 if log.finish else row.next_k)
            self.send_verdict(replace(answer, finish=log.finish), row.device)  # type: ignore[arg-type]  # Finish
        elif self.befalls(0.05):
            self.to_scheduler(replace(verdict, status="no_pages"))
        elif row.feed_to - cached > BOUND:
            self.to_scheduler(replace(verdict, status="need_prefill", cached_len=cached))
        elif row.feed_to < row.base_len:
            verifier.cached[row.session] = max(cached, row.feed_to)
            cached = verifier.cached[row.session]
            self.to_scheduler(replace(verdict, status="prefilled", cached_len=cached))
        else:
            accepted = self.rng.randint(0, len(row.tokens))
            left = log.submit.max_tokens - log.committed
            emitted = min(accepted + 1, left)
            log.committed += emitted
            log.finish = "length" if emitted == left else ""
            verifier.cached[row.session] = log.length - 1
            answer = replace(verdict, length=log.length, drafted=len(row.tokens), accepted=accepted)
            next_k = 0 if log.finish else row.next_k
            self.send_verdict(replace(answer, next_k=next_k, finish=log.finish), row.device)  # type: ignore[arg-type]

    def send_verdict(self, verdict: Verdict, device: str) -> None:
        self.to_scheduler(verdict)
        if device:
            self.to_device(device, verdict)

    # --- devices ----------------------------------------------------------------------------------------
    def to_device(self, address: str, message: Message) -> None:
        self.carry(lambda: self.on_device(address, message))

    def on_device(self, address: str, message: Message) -> None:
        device = self.devices[address.rpartition(":")[0]]
        if not device.alive or device.address != address:
            return
        match message:
            case Open(name, epoch):
                if self.befalls(0.1):
                    self.to_scheduler(Resync(name, epoch, address, 0, "no_capacity"))
                    return
                device.lengths[name] = self.logs[name].length
                ready = Resync(name, epoch, address, device.lengths[name], "ready")
                self.at(0.1, lambda: self.to_scheduler(ready) if device.address == address else None)
            case Close(name):
                device.lengths.pop(name, None)
            case Verdict(session=name) if name not in device.lengths:
                self.to_scheduler(Resync(name, message.epoch, address, message.length, "lost"))
            case Verdict(session=name):
                device.lengths[name] = max(device.lengths[name], message.length)
                if message.next_k and device.lengths[name] == message.length:
                    self.draft(device, message)

    def draft(self, device: Device, verdict: Verdict) -> None:
        tokens = verdict.next_k + (3 if self.befalls(0.03) else 0)
        address = device.address
        draft = Draft(
            verdict.session,
            verdict.epoch,
            verdict.round + 1,
            verdict.length,
            address,
            (7,) * tokens,
            bytes(tokens),
        )
        self.at(0.01 * tokens, lambda: self.to_scheduler(draft) if device.address == address else None)
