"""Faults at each await: a process's calls and messages, numbered, and what may befall one of them."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from shared.broker.contract import BrokerAway
from shared.compute.compute import InlineCompute
from shared.protocol.keys import Keys

T = TypeVar("T")
CallFault = Literal["die", "die_after", "away", "away_after", "delay", "delay_after"]
MessageFault = Literal["drop", "repeat"]

AT_COMPUTE: Final[tuple[CallFault, ...]] = ("die", "die_after", "delay")
AT_BROKER: Final[tuple[CallFault, ...]] = ("die", "die_after", "away", "away_after", "delay", "delay_after")
AT_MESSAGE: Final[tuple[MessageFault, ...]] = ("drop", "repeat")
DELAY_S: Final = 1.5  # longer than the scheduler of these tests waits for a session's next move


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls the n-th call, or the n-th message, of a process (its incarnations counted on)."""

    process: str
    n: int
    kind: CallFault | MessageFault


class Weather:
    """Whether the broker can be reached at all."""

    def __init__(self) -> None:
        self.down = False


class Line:
    """The calls and messages of one process, counted on over its incarnations, and its latency."""

    def __init__(
        self,
        process: str,
        faults: Iterable[Fault],
        rng: random.Random,
        latency_s: float,
        weather: Weather,
    ) -> None:
        self.process = process
        self.weather = weather
        self.calls: list[str] = []  # operations, in order
        self.messages: list[str] = []  # streams, in order
        self.hit: Counter[str] = Counter()
        own = [fault for fault in faults if fault.process == process]
        self._at_call = {fault.n: fault.kind for fault in own if fault.kind not in AT_MESSAGE}
        self._at_message = {fault.n: fault.kind for fault in own if fault.kind in AT_MESSAGE}
        self._rng = rng
        self._latency_s = latency_s

    def call(self, operation: str) -> str | None:
        """Count a call; what befalls it."""
        kind = self._at_call.get(len(self.calls))
        self.calls.append(operation)
        if kind not in (AT_COMPUTE if operation == "compute" else AT_BROKER):
            return None
        self.hit[kind] += 1
        return kind

    def copies(self, stream: str) -> int:
        """Count a message; how often it arrives. A Submit comes with its log, in one: it cannot get lost alone."""
        kind = self._at_message.get(len(self.messages))
        self.messages.append(stream)
        if kind is None or (kind == "drop" and stream == Keys().submit):
            return 1
        self.hit[kind] += 1
        return 0 if kind == "drop" else 2

    def latency(self) -> float:
        """Of one way, in seconds."""
        return self._latency_s * self._rng.random()


class Incarnation:
    """One life of a process, and its Link to the broker. After it, its calls have no effect and never return."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self._befalls: dict[asyncio.Task[Any] | None, str | None] = {}

    def kill(self) -> None:
        """End it, as SIGKILL would: none of its tasks gets to clean up anything outside itself."""
        self.alive = False
        for task in self.tasks:
            task.cancel()

    async def before(self, operation: str, sent: int) -> None:
        """See Link.before."""
        await self._pass(self.line.latency())
        kind = self._befalls[asyncio.current_task()] = self.line.call(operation)
        if kind == "die":
            await self._die()
        if kind == "away" or (self.line.weather.down and operation != "compute"):
            raise BrokerAway("cut before")
        if kind == "delay":
            await self._pass(DELAY_S)

    async def after(self, operation: str, received: int) -> None:
        """See Link.after."""
        kind = self._befalls.pop(asyncio.current_task(), None)
        if kind == "die_after":
            await self._die()
        if kind == "away_after" or (self.line.weather.down and operation != "compute"):
            raise BrokerAway("cut after")
        if kind == "delay_after":
            await self._pass(DELAY_S)
        await self._pass(self.line.latency())

    def copies(self, stream: str, data: bytes) -> int:
        """See Link.copies."""
        return self.line.copies(stream)

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self.alive:
            raise asyncio.CancelledError

    async def _die(self) -> None:
        self.kill()
        await asyncio.sleep(0)
        raise asyncio.CancelledError


class FaultyCompute(InlineCompute):
    """One incarnation's compute."""

    def __init__(self, process: Incarnation) -> None:
        super().__init__()
        self._process = process

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        """See Compute.run."""
        await self._process.before("compute", 0)
        answer = await super().run(fn, cost_s)
        await self._process.after("compute", 0)
        return answer
