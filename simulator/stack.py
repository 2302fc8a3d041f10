"""A whole stack in one event loop: every service in a process of its own, around one in-memory broker."""

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final

from prometheus_client import CollectorRegistry

from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.protocol import wire
from shared.runtime.ids import Ids
from simulator.connection import SimulatedConnection
from simulator.faults import Fault, FaultCounter
from simulator.link import LinkModel, Outage, SimulatedCompute, SimulatedLink
from simulator.process import Incarnation, Process, Run, owned_task
from simulator.services import Factory, Service, Surroundings

STOP_S: Final = 30.0  # of virtual time, for all processes to stop
DIRECT: Final = LinkModel()


class SimulatedStack:
    """Processes on one broker. Use as `async with stack`, on a virtual loop; `add` them before.

    services: the service of each process's current life. counters: calls and messages of each process, where counted.
    """

    def __init__(
        self, seed: int, faults: Sequence[Fault] = (), count_calls: bool = False, decode: bool = True
    ) -> None:
        """faults: at numbered calls. count_calls: number calls and messages even of processes without faults.

        decode: whether readers decode and check messages, rather than get the objects that were sent.
        """
        self.server = MemoryServer(wire.encode if decode else wire.encode_carried)
        self.outage = Outage()
        self.processes: dict[str, Process] = {}
        self.services: dict[str, Service] = {}
        self.counters: dict[str, FaultCounter] = {}
        self.registries: dict[str, CollectorRegistry] = {}
        self._seeds = Ids(seed)
        self._faults = tuple(faults)
        self._counted = {fault.process for fault in faults}
        self._count_all = count_calls
        self._lives: dict[str, asyncio.Task[None]] = {}

    def add(self, name: str, factory: Factory, link: LinkModel = DIRECT, delay_s: float = 0.0) -> None:
        """Add a process. link: to the broker, each way. delay_s: until it starts for the first time."""
        counter = None
        if self._count_all or name in self._counted:
            counter = self.counters[name] = FaultCounter(name, self._faults)

        def start(incarnation: Incarnation) -> Run:
            ids = Ids(self._seeds.bits(32) + 1)
            crossed = SimulatedLink(link, ids, incarnation, counter, self.outage)
            registry = self.registries[name] = CollectorRegistry()
            connection = SimulatedConnection(self.server, crossed)
            broker = MemoryBroker(self.server, link=crossed, connection=connection)
            given = Surroundings(broker, SimulatedCompute(crossed), ids, registry)
            service = self.services[name] = factory(given)
            return service.run

        self.processes[name] = Process(name, start, delay_s=delay_s)

    def of(self, kind: type[Any]) -> Iterable[Any]:
        """The current services of one class."""
        return (service for service in self.services.values() if isinstance(service, kind))

    async def __aenter__(self) -> "SimulatedStack":
        asyncio.get_running_loop().set_task_factory(owned_task)
        self._lives = {
            name: asyncio.create_task(process.live(), name=name) for name, process in self.processes.items()
        }
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.stop.set()
        _, running = await asyncio.wait(self._lives.values(), timeout=STOP_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if error is None:
            self.raise_if_failed()
            if running:
                raise AssertionError(f"did not stop: {sorted(task.get_name() for task in running)}")

    def raise_if_failed(self) -> None:
        """Raise the first error that ended a process."""
        for process in self.processes.values():
            if process.errors:
                raise AssertionError(f"{process.name} raised {process.errors[0]!r}") from process.errors[0]
