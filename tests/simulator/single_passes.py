"""Requests of one pass each through a simulated stack, as the customers of a textbook queue.

A request has one prompt of a few tokens and an answer of one, and policy `autoregressive` verifies one session a pass,
the one that has waited longest first. So each request is one pass, its verifier is a FIFO server, and what the client
sees of a request is wait plus service: without hops nothing else takes time.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.request import ChatRequest, Record
from loadgen.run.drive import RunState, open_loop
from loadgen.workload.schedule import ScheduledRequest
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import TargetRow
from shared.runtime.settings import GatewaySettings, SchedulerSettings, VerifierSettings, load
from simulator import services
from simulator.client import SimulatedClient
from simulator.services import Gateway
from simulator.stack import SimulatedStack
from simulator.virtual_loop import run_virtual

VOCAB = 10_000
KNOWN_S = 3.0  # by then all processes are registered, and the scheduler has seen their heartbeats
DRAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Passed:
    """One request: when it came, when its pass began and ended, when the client had the answer, and its verifier."""

    arrived: float
    started: float
    ended: float
    answered: float
    verifier: str

    @property
    def wait(self) -> float:
        """From the arrival at the client to the beginning of the pass."""
        return self.started - self.arrived


class DrawnTarget(ModelledTarget):
    """A target whose pass of request n takes services[n] seconds, whatever else happens."""

    def __init__(self, name: str, services_s: Sequence[float], began: dict[int, tuple[float, str]]) -> None:
        super().__init__(VOCAB, prefix_sharing=False)
        self._name, self._services_s, self._began = name, services_s, began

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """The drawn duration of the one row's request."""
        (row,) = rows
        number = _number(row.tokens)
        assert number not in self._began, f"request {number} was passed twice"
        self._began[number] = asyncio.get_running_loop().time(), self._name
        return self._services_s[number]


def served(arrivals_s: Sequence[float], services_s: Sequence[float], verifiers: int = 1) -> list[Passed]:
    """All requests, in order of arrival, after a run of the whole stack."""
    return run_virtual(_served(arrivals_s, services_s, verifiers))


async def _served(arrivals_s: Sequence[float], services_s: Sequence[float], verifiers: int) -> list[Passed]:
    stack, began = SimulatedStack(seed=1), dict[int, tuple[float, str]]()
    stack.add("scheduler", services.scheduler(load(SchedulerSettings, policy="autoregressive")))
    stack.add("gateway", services.gateway(load(GatewaySettings)))
    for name in (f"verifier-{n}" for n in range(verifiers)):
        settings = load(VerifierSettings, name=name, target="modelled")

        def target(name: str = name) -> ModelledTarget:
            return DrawnTarget(name, services_s, began)

        stack.add(name, services.verifier(settings, target))
    state = RunState()
    async with stack:
        await asyncio.sleep(KNOWN_S)
        client = SimulatedClient(
            lambda: [(gateway.sessions, life) for gateway, life in stack.living(Gateway)], VOCAB
        )
        await open_loop(client, _schedule(arrivals_s), state, DRAIN_S)
        stack.raise_if_failed()
    assert client.wrong == []
    return [
        _passed(record, began, services_s) for record in sorted(state.records, key=lambda r: r.request.id)
    ]


def _schedule(arrivals_s: Sequence[float]) -> list[ScheduledRequest]:
    return [
        ScheduledRequest(at, ChatRequest(f"r{n:06d}", "modelled", _prompt(n), 1, ignore_eos=True))
        for n, at in enumerate(arrivals_s)
    ]


def _passed(record: Record, began: dict[int, tuple[float, str]], services_s: Sequence[float]) -> Passed:
    assert not record.error, record.error
    prompt = record.request.prompt
    assert isinstance(prompt, tuple)
    started, verifier = began[_number(prompt)]
    ended = started + services_s[_number(prompt)]
    return Passed(record.scheduled, started, ended, record.chunks[0].at, verifier)


def _prompt(number: int) -> tuple[int, int]:
    """A prompt that tells the target which request it is."""
    return 1 + number // 1000, 1 + number % 1000


def _number(prompt: Sequence[int]) -> int:
    return (prompt[0] - 1) * 1000 + prompt[1] - 1
