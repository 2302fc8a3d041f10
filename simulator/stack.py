"""A whole stack in one event loop: every service in a process of its own, around one in-memory broker."""

import asyncio
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry

from services.draft_worker.radio import Radio
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.broker.memory_link import MemoryConnection
from shared.protocol import wire
from shared.runtime.ids import Ids
from simulator.connection import SimulatedConnection
from simulator.device_delays import DeviceDelays
from simulator.faults import Fault, FaultCounter
from simulator.link import LinkModel, Outage, SimulatedCompute, SimulatedLink
from simulator.process import Incarnation, Process, Run, owned_task
from simulator.process_clock import TRUE, ProcessClock
from simulator.seeded_loop import SeededLoop
from simulator.services import Factory, Service, Surroundings
from simulator.virtual_loop import VirtualLoop

T = TypeVar("T")
STOP_S: Final = 30.0  # of virtual time, for all processes to stop
STREAM_LIMIT: Final = 4096
DIRECT: Final = LinkModel()


class SimulatedStack:
    """Processes on one broker. Use as `async with stack`, on a virtual loop; `add` them before.

    services: the service of each process's current life. counters: calls and messages of each process, where counted.
    outage: of the broker. cuts: of the link of one process alone. delays: of the links that devices emulate.
    radios: the cells that devices share, by id.
    """

    def __init__(
        self,
        seed: int,
        faults: Sequence[Fault] = (),
        count_calls: bool = False,
        stream_limit: int = STREAM_LIMIT,
        decode: bool = True,
    ) -> None:
        """faults: at numbered calls. count_calls: number calls and messages even of processes without faults.

        stream_limit: entries of a work stream. decode: whether readers decode and check messages, rather than get the
        objects that were sent.
        """
        self.server = MemoryServer(_true_time, wire.encode if decode else wire.encode_carried)
        self.outage = Outage()
        self.cuts: dict[str, Outage] = {}
        self.delays = DeviceDelays({})
        self.radios: dict[str, Radio] = {}
        self.processes: dict[str, Process] = {}
        self.services: dict[str, Service] = {}
        self.counters: dict[str, FaultCounter] = {}
        self.registries: dict[str, CollectorRegistry] = {}
        self._made_in: dict[str, Incarnation] = {}
        self._seeds = Ids(seed)
        self._faults = tuple(faults)
        self._counted = {fault.process for fault in faults}
        self._count_all = count_calls
        self._stream_limit = stream_limit
        self._lives: dict[str, asyncio.Task[None]] = {}

    def add(
        self,
        name: str,
        factory: Factory,
        link: LinkModel = DIRECT,
        delay_s: float = 0.0,
        clock: ProcessClock = TRUE,
    ) -> None:
        """Add a process. link: to the broker, each way. delay_s: until it starts for the first time.

        clock: its own; only a SeededLoop has it.
        """
        cut = self.cuts[name] = Outage()
        counter = None
        if self._count_all or name in self._counted:
            counter = self.counters[name] = FaultCounter(name, self._faults)

        def start(incarnation: Incarnation) -> Run:
            ids = Ids(self._seeds.bits(32) + 1)
            crossed = SimulatedLink(link, ids, incarnation, counter, (self.outage, cut))
            registry = self.registries[name] = CollectorRegistry()
            connection = _connection(self.server, crossed)
            broker = MemoryBroker(
                self.server, stream_limit=self._stream_limit, link=crossed, connection=connection
            )
            given = Surroundings(broker, SimulatedCompute(crossed), ids, registry)
            service = self.services[name] = factory(given)
            self._made_in[name] = incarnation
            return service.run

        self.processes[name] = Process(name, start, delay_s=delay_s, clock=clock)

    def living(self, kind: type[T]) -> Iterator[tuple[T, Incarnation]]:
        """The services of one class whose processes live, and their lives."""
        for name, service in self.services.items():
            life = self._made_in[name]  # not yet the process's next one, which has no service before it runs
            if isinstance(service, kind) and life.alive:
                yield service, life

    async def __aenter__(self) -> "SimulatedStack":
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SeededLoop) and any(p.clock != TRUE for p in self.processes.values()):
            raise ValueError("processes with clocks of their own need a SeededLoop")
        if isinstance(loop, VirtualLoop):
            self.server.clock = loop.true_time  # the same as before, without a search for the loop
        loop.set_task_factory(owned_task)
        self._lives = {
            name: asyncio.create_task(process.live(), name=name) for name, process in self.processes.items()
        }
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = set(self._lives.values())
        if error is None:
            for process in self.processes.values():
                process.end()
            _, running = await asyncio.wait(running, timeout=STOP_S)
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


def _true_time() -> float:
    """The broker's clock: that of the simulation, whichever process's call it serves."""
    loop = asyncio.get_running_loop()
    return loop.true_time() if isinstance(loop, VirtualLoop) else loop.time()


def _connection(server: MemoryServer, link: SimulatedLink) -> MemoryConnection:
    """The quick connection, but where processes take turns: its callbacks do not know whose turn it is."""
    if isinstance(asyncio.get_running_loop(), SeededLoop):
        return MemoryConnection(server, link)
    return SimulatedConnection(server, link)
