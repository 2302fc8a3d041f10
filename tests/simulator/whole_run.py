"""A scenario's stack under its load and faults, looked into when all requests have ended."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest

from loadgen.metrics.stack_metrics import Scrape, parse
from loadgen.request import Record
from loadgen.run.drive import RunState
from loadgen.run.runner import drive
from services.draft_worker.metrics import Metrics
from services.draft_worker.worker import DraftWorker
from services.scheduler.core import Core
from services.scheduler.scheduler import Scheduler
from services.verifier.verifier import Verifier
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.protocol.keys import Keys
from shared.scenario.scenario import PolicyConfig
from simulator.build import VOCAB, build
from simulator.client import SimulatedClient
from simulator.fault_schedule import let_happen
from simulator.load import load_plan
from simulator.run import MODEL
from simulator.scenario import SimulatedScenario
from simulator.services import Gateway
from simulator.simulation import Simulation
from simulator.stack import SimulatedStack
from simulator.virtual_loop import run_virtual

KNOWN_S: Final = 3.0
FREED_S: Final = 200.0  # of virtual time, for everything to be freed

Beside = Callable[[SimulatedStack], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class WholeRun:
    """A run that is over.

    records: in order of their ids. counted: the services' metrics. left: what is still held anywhere, by where. wrong:
    answers that are not the target's.
    """

    state: RunState
    counted: Scrape
    wrong: Sequence[str]
    left: dict[str, Any] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """All requests."""
        return sorted(self.state.records, key=lambda record: record.request.id)

    def total(self, name: str, **labels: str) -> int:
        """Sum of a counter over all processes."""
        required = labels.items()
        found = (
            value
            for (metric, of), value in self.counted.values.items()
            if metric == name and required <= set(of)
        )
        return round(sum(found))


def play(what: SimulatedScenario, policy: str, k: int = 3, beside: Beside | None = None) -> WholeRun:
    """Run a scenario that has a load. beside: runs beside the load, from its start."""
    assert what.load is not None
    plan = load_plan(what.load, what.seed, MODEL)
    return run_virtual(_play(Simulation(what, PolicyConfig(policy=policy, k=k), what.seed, plan), beside))


async def _play(simulation: Simulation, beside: Beside | None) -> WholeRun:
    assert simulation.plan is not None
    devices = CollectorRegistry()
    stack, state = build(simulation, Metrics(devices)), RunState()
    client = SimulatedClient(lambda: [(g.sessions, life) for g, life in stack.living(Gateway)], VOCAB)
    async with stack:
        await asyncio.sleep(KNOWN_S)
        failing = asyncio.create_task(let_happen(simulation.scenario, stack, client.now()))
        acting = asyncio.create_task(beside(stack)) if beside else None
        await drive(simulation.plan, client, state)
        await failing
        if acting:
            await acting
        ended = client.now()
        while (left := leftovers(stack)) and client.now() < ended + FREED_S:
            await asyncio.sleep(1.0)
        registries = [*stack.registries.values(), devices]
        counted = parse([generate_latest(registry).decode() for registry in registries])
    return WholeRun(state, counted, client.wrong, left)


def leftovers(stack: SimulatedStack) -> dict[str, Any]:
    """What is still held: in the broker's work streams, in the services' state, in caches."""
    keys = Keys()
    left: dict[str, Any] = {"live": set(stack.server.get(keys.live, set) or ())}
    streams = [keys.submit, keys.draft, keys.verdicts]
    streams += [keys.staged(verifier.name) for verifier, _ in stack.living(Verifier)]
    left |= {stream: stack.server.length(stream) for stream in streams}
    for verifier, _ in stack.living(Verifier):
        left[verifier.name] = len(verifier.sessions)
        assert isinstance(verifier._target, ModelledTarget)
        left[f"{verifier.name} cache"] = verifier._target.sessions()
    for worker, _ in stack.living(DraftWorker):
        assert isinstance(worker._drafter, ModelledDrafter)
        left[f"{worker._name} cache"] = worker._drafter.sessions()
    for scheduler, _ in stack.living(Scheduler):
        core = scheduler.core
        left["scheduler"] = set(core.sessions) if isinstance(core, Core) else "on standby"
    for gateway, _ in stack.living(Gateway):
        left["gateway"] = len(gateway.sessions)
    return {where: what for where, what in left.items() if what}
