"""Faults at each await: a process's calls to its broker and its compute, numbered, and what may befall one."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from shared.broker.contract import Broker, BrokerAway, Entry
from shared.compute.compute import InlineCompute
from shared.protocol.keys import Keys

T = TypeVar("T")
Kind = Literal["die", "die_after", "away", "away_after", "delay", "delay_after", "drop", "repeat"]

EVERYWHERE: Final[tuple[Kind, ...]] = ("die", "die_after", "delay", "delay_after")
AT_BROKER: Final[tuple[Kind, ...]] = ("away", "away_after")
SENDS: Final = frozenset({"send", "push"})
READS: Final = frozenset({"read_inbox", "read_group"})
REPEATABLE: Final = SENDS | READS | {"submit", "commit", "stage", "end", "place", "ack"}
DELAY_S: Final = 1.5  # longer than the scheduler of these tests waits for a session's next move


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls the n-th call of a process (those of its incarnations counted on)."""

    process: str
    call: int
    kind: Kind


def kinds_of(operation: str) -> tuple[Kind, ...]:
    """What may befall a call. A message may be lost on its way out or in, or come twice."""
    if operation == "compute":
        return EVERYWHERE
    kinds = EVERYWHERE + AT_BROKER
    if operation in SENDS | READS:
        kinds += ("drop",)
    if operation in REPEATABLE:
        kinds += ("repeat",)
    return kinds


class Line:
    """The calls of one process, counted on over its incarnations, and its latency."""

    def __init__(self, process: str, faults: Iterable[Fault], rng: random.Random, latency_s: float) -> None:
        self.process = process
        self.calls: list[str] = []  # operations, in order
        self.hit: Counter[Kind] = Counter()
        self._faults = {fault.call: fault.kind for fault in faults if fault.process == process}
        self._rng = rng
        self._latency_s = latency_s

    def next(self, operation: str) -> Kind | None:
        """Count a call; what befalls it."""
        kind = self._faults.get(len(self.calls))
        self.calls.append(operation)
        if kind is None or kind not in kinds_of(operation):
            return None
        self.hit[kind] += 1
        return kind

    def latency(self) -> float:
        """Of one way, in seconds."""
        return self._latency_s * self._rng.random()


class Incarnation:
    """One life of a process. When it ends, its calls have no effect any more and never return."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()

    def kill(self) -> None:
        """End it, as SIGKILL would: none of its tasks gets to clean up anything outside itself."""
        self.alive = False
        for task in self.tasks:
            task.cancel()

    async def before(self, operation: str) -> Kind | None:
        """The way out of a call; what else is to befall it."""
        await self._pass(self.line.latency())
        kind = self.line.next(operation)
        if kind == "die":
            await self._die()
        if kind == "away":
            raise BrokerAway("cut before")
        if kind == "delay":
            await self._pass(DELAY_S)
        return kind

    async def after(self, kind: Kind | None) -> None:
        """The way back."""
        if kind == "die_after":
            await self._die()
        if kind == "away_after":
            raise BrokerAway("cut after")
        if kind == "delay_after":
            await self._pass(DELAY_S)
        await self._pass(self.line.latency())

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self.alive:
            raise asyncio.CancelledError

    async def _die(self) -> None:
        self.kill()
        await asyncio.sleep(0)
        raise asyncio.CancelledError


class FaultyBroker:
    """One incarnation's broker: every method of it may fail."""

    def __init__(self, inner: Broker, process: Incarnation) -> None:
        self._inner = inner
        self._process = process

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._inner, operation)

        async def call(*args: Any, **kwargs: Any) -> Any:
            kind = await self._process.before(operation)
            if kind == "drop" and operation in SENDS:
                return None
            answer = await method(*args, **kwargs)
            if kind == "repeat":
                answer = [*answer, *answer] if operation in READS else await method(*args, **kwargs)
            if kind == "drop":
                answer = await self._lose(answer)
            await self._process.after(kind)
            return answer

        return call

    async def _lose(self, entries: list[Entry]) -> list[Entry]:
        """Entries lost between stream and reader; what is left. A Submit is in the log as well and cannot be."""
        keep = [entry for entry in entries if entry.stream == Keys().submit]
        for entry in entries:
            if entry not in keep and ":inbox:" not in entry.stream and ":reply:" not in entry.stream:
                await self._inner.ack(entry.stream, [entry.id])
        return keep


class FaultyCompute(InlineCompute):
    """One incarnation's compute."""

    def __init__(self, process: Incarnation) -> None:
        super().__init__()
        self._process = process

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        """See Compute.run."""
        kind = await self._process.before("compute")
        answer = await super().run(fn, cost_s)
        await self._process.after(kind)
        return answer
