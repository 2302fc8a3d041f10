"""One simulated run: services, devices and load of a scenario on virtual time, with loadgen's metrics."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest

from loadgen.metrics.cell_history import CellHistory
from loadgen.metrics.result_metrics import run_metrics
from loadgen.metrics.stack_metrics import Delta, Scrape, parse, stack_metrics
from loadgen.metrics.summary import Window
from loadgen.run.drive import RunState
from loadgen.run.outcome import Criteria, RunOutcome, outcome_of
from loadgen.run.runner import drive
from loadgen.run.scenario_users import Users, use
from loadgen.workload.prompt_source import Synthetic
from services.draft_worker.metrics import Metrics
from services.gateway.sessions import GatewaySessions
from shared.broker.memory_server import Stream
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Span
from simulator.build import VOCAB, build
from simulator.client import SimulatedClient
from simulator.fault_schedule import let_happen
from simulator.process import Incarnation
from simulator.seeded_loop import run_seeded
from simulator.services import Gateway
from simulator.simulation import Simulation
from simulator.stack import SimulatedStack
from simulator.stall import raise_if_stalled
from simulator.virtual_loop import run_virtual

READY_S: Final = 60.0  # limit of virtual time for all processes to be ready
KNOWN_S: Final = 2.5  # by then the scheduler has seen every heartbeat
PROMPTS: Final = 64  # different prompts, at least one per device
MODEL: Final = "modelled"
OBSERVED_S: Final = 0.1  # virtual seconds between looks at a run

Observer = Callable[[RunState, SimulatedClient], None]


def simulate(simulation: Simulation, state: RunState, observer: Observer | None = None) -> RunOutcome:
    """Run it on a virtual clock. observer: called every OBSERVED_S; state.started is 0 while processes start.

    Raises AssertionError when a process fails, Stalled or Deadlock when nothing goes on, UsersError.
    """
    run = _Run(simulation, state).run(observer)
    with gc_rarely():
        return run_virtual(run) if simulation.order is None else run_seeded(run, simulation.order)


@contextmanager
def gc_rarely() -> Iterator[None]:
    """Collect garbage a hundred times less often: a simulation makes hardly any cycles and many short-lived objects."""
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@dataclass(slots=True)
class _Run:
    simulation: Simulation
    state: RunState
    stack: SimulatedStack = field(init=False)
    client: SimulatedClient = field(init=False)
    users: Users | None = None
    histories: dict[str, CellHistory] = field(default_factory=dict)  # of cells, by id
    device_registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    async def run(self, observer: Observer | None) -> RunOutcome:
        """From the start of all processes to their end."""
        self.stack = build(self.simulation, Metrics(self.device_registry))
        self.client = SimulatedClient(self._gateways, VOCAB, self.simulation.request_ms / 1e3)
        async with self.stack:
            await self._ready(observer)
            before, busy_before = self._scrape(), self.client.now()
            self.histories = {
                name: CellHistory(radio.cell, radio.time()) for name, radio in self.stack.radios.items()
            }
            loading = asyncio.create_task(self._load())
            failing = asyncio.create_task(let_happen(self.simulation.scenario, self.stack, self.client.now()))
            while not loading.done():
                await asyncio.wait({loading}, timeout=OBSERVED_S)
                self.stack.raise_if_failed()
                self._look_at_cells(last=loading.done())
                if observer is not None and self.state.started:
                    observer(self.state, self.client)
                raise_if_stalled(self.simulation, self.stack, self.client)
            failing.cancel()
            await asyncio.gather(failing, return_exceptions=True)
            loading.result()
            after = self._scrape()
            counted = Delta(before, after)
            metrics = stack_metrics(counted, self.client.now() - busy_before)
            problems, spans = self._problems(), self._spans()
        outcome = self._outcome(metrics, problems, spans)
        body = {**outcome.body, "predicted_tokens_per_s": _predicted(after)}
        if self.histories:
            body["cells"] = {name: history.body() for name, history in self.histories.items()}
        return replace(outcome, body=body)

    def _outcome(self, stack: dict[str, Any], problems: list[str], spans: Sequence[Span]) -> RunOutcome:
        """The outcome of the plan's load, or of one user per device in the measured interval."""
        plan, users = self.simulation.plan, self.users
        outcome = outcome_of(plan.criteria if plan else Criteria(), self.state, stack, problems)
        figures = dict(outcome.metrics)
        if users is not None:
            window = Window(users.start, users.end)
            of_starts = run_metrics(users.first_tokens(), window, {})
            figures |= {name: value for name, value in of_starts.items() if "_ttft_" in name}
        body = {**outcome.body, "figures": figures}
        if spans:
            body["trace_start_us"] = 1e6 * self.state.started
        return replace(outcome, metrics=figures, body=body, spans=spans)

    def _look_at_cells(self, last: bool) -> None:
        for name, history in self.histories.items():
            history.look(self.stack.radios[name].time(), last)

    def _gateways(self) -> list[tuple[GatewaySessions, Incarnation]]:
        return [
            (gateway.sessions, life)
            for gateway, life in self.stack.living(Gateway)
            if gateway.sessions.address
        ]

    async def _ready(self, observer: Observer | None) -> None:
        """Wait until all processes are registered and known to the scheduler."""
        async with asyncio.timeout(READY_S):
            while list(self._not_ready()):
                self.stack.raise_if_failed()
                if observer is not None:
                    observer(self.state, self.client)
                await asyncio.sleep(OBSERVED_S)
        await asyncio.sleep(KNOWN_S)

    def _not_ready(self) -> Iterator[str]:
        for name in self.stack.processes:
            service: Any = self.stack.services.get(name)
            of = service.sessions if isinstance(service, Gateway) else service
            if of is None or of.not_ready_reason() is not None:
                yield name

    # --- load and faults ----------------------------------------------------------------------------
    async def _load(self) -> None:
        """Generate the load."""
        if self.simulation.plan is not None:
            await drive(self.simulation.plan, self.client, self.state)
        else:
            await self._use_devices()

    async def _use_devices(self) -> None:
        """One user per device; the measured interval counts."""
        scenario = self.simulation.scenario
        settle_s = self.simulation.settle_s or scenario.settle.at(0)
        measure_s = self.simulation.measure_s or scenario.measure.at(0)
        devices = [device.name for device in self.simulation.devices]
        prompts = self.simulation.prompts or self._random_prompts(max(len(devices), PROMPTS))
        self.state.started = self.client.now()
        self.client.on_end = self.state.records.append  # for observers, until it is known what counts
        what = (MODEL, scenario, devices, prompts)
        users = await use(self.client, *what, settle_s, measure_s, failures=bool(scenario.faults))
        self.users = users
        self.state.records = users.counted()
        self.state.started, self.state.last_due = users.start, users.end

    def _random_prompts(self, count: int) -> list[tuple[int, ...] | str]:
        rng, source = np.random.default_rng(self.simulation.seed), Synthetic()
        return [source.draw(rng, self.simulation.scenario.workload.prompt, ()).prompt for _ in range(count)]

    # --- metrics ------------------------------------------------------------------------------------
    def _spans(self) -> list[Span]:
        stream = self.stack.server.get(Keys().trace, Stream)
        entries = stream.entries if stream and self.simulation.trace else []
        return [wire.decode_as(Span, data) for _, data in entries]

    def _scrape(self) -> Scrape:
        registries = [*self.stack.registries.values(), self.device_registry]
        return parse([generate_latest(registry).decode() for registry in registries])

    def _problems(self) -> list[str]:
        """Why the run is not valid: wrong texts, or tokens that the gateways counted otherwise than the client."""
        problems = list(self.client.wrong[:10])
        records = self.state.records
        unfinished = any(record.fault == "stopped" for record in records)  # its last tokens may be unread
        if self.simulation.plan is None or self.simulation.scenario.faults or unfinished:
            return problems
        received = {
            "tokens": sum(record.completion_tokens for record in records),
            "drafted": sum(record.drafted_tokens for record in records),
            "accepted": sum(record.accepted_tokens for record in records),
            "rounds": sum(record.rounds for record in records),
        }
        sent = {kind: sum(gateway.totals[kind] for gateway, _ in self._gateways()) for kind in received}
        differing = [kind for kind in received if sent[kind] != received[kind]]
        return problems + [
            f"the gateways sent {sent[kind]} {kind}, the client received {received[kind]}"
            for kind in differing
        ]


def _predicted(scrape: Scrape) -> float:
    """Tokens per second of all sessions by the plans in force; 0.0 without one."""
    return sum(
        value
        for (name, labels), value in scrape.values.items()
        if name == "outrider_scheduler_tokens_per_second" and ("what", "predicted") in labels
    )
