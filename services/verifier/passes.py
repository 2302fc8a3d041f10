"""How a step's rows go through the model: at once in this process, or in pieces through the stages of a ring."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Protocol

from services.verifier.core import VerifiedSession
from services.verifier.step import Answer, Step, run_step
from shared.compute.compute import Compute
from shared.compute.target import TargetModel
from shared.protocol.messages import Grown, StagedRow
from shared.runtime.service import Lost

Handle = Callable[
    [Callable[[], None]], Coroutine[None, None, None]
]  # its argument is called once the pass has started


class PassesEnded(Lost):
    """No pass will ever end again, since the stages are gone; the process has to start anew."""


class Passes(Protocol):
    """Runs the passes of steps. depth: how many may be under way at a time, each of different sessions."""

    depth: int

    def detail(self) -> str:
        """What there is to say about where the layers run, for people; "" = nothing."""
        ...

    def grows(self) -> bool:
        """Whether draft trees grow here, for sessions that are kept."""
        ...

    def takes(self, row: StagedRow) -> bool:
        """Whether a session could be kept after this row; see `open`."""
        ...

    def open(self, row: StagedRow, session: VerifiedSession) -> None:
        """Keep a session after its row was committed, and go on with it until `release`."""
        ...

    def graft(self, grown: Grown) -> str:
        """Add nodes of a device's tree to a session that is kept. Returns why not, "" = taken."""
        ...

    async def release(self, sessions: Collection[str]) -> None:
        """Stop with sessions that were kept; all that was decided of them is committed then. Ignores others."""
        ...

    def drop(self, session: str) -> None:
        """Forget a session, whether it was kept or not."""
        ...

    async def start(self, step: Step) -> Awaitable[Sequence[Answer]]:
        """Start the step's pass. Awaiting the result gives the answers to its rows, once the caches match them.

        Nothing may change the KV pool between the planning of a step and its start. Raises PassesEnded, here and there.
        """
        ...


class OnePass:
    """The whole target in this process: one pass at a time, made when its answers are awaited."""

    depth = 1

    def __init__(self, target: TargetModel, compute: Compute) -> None:
        self._target = target
        self._compute = compute

    def grows(self) -> bool:
        """No."""
        return False

    def takes(self, row: StagedRow) -> bool:
        """No: there are no stages to fill."""
        return False

    def open(self, row: StagedRow, session: VerifiedSession) -> None:
        """Never called."""
        raise NotImplementedError

    def graft(self, grown: Grown) -> str:
        """Nothing is kept."""
        return "closed"

    async def release(self, sessions: Collection[str]) -> None:
        """Nothing is kept."""

    def drop(self, session: str) -> None:
        """Nothing is kept."""

    def detail(self) -> str:
        """Nothing: they are all here."""
        return ""

    async def start(self, step: Step) -> Awaitable[Sequence[Answer]]:
        """The forward pass over all rows."""
        return self._compute.run(partial(run_step, self._target, step), self._target.cost_s(step.inputs))


class UnderWay:
    """The messages that are being handled, each in a task of its own once its pass has started."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._sessions: dict[asyncio.Task[None], frozenset[str]] = {}

    async def run(self, handle: Handle, sessions: Collection[str]) -> None:
        """Handle a message of these sessions, until it has ended or called its argument; with a depth of 1, to its end.

        Raises what it, or another one, raised.
        """
        if self._depth == 1:
            await handle(lambda: None)
            return
        started = asyncio.Event()
        task = asyncio.ensure_future(handle(started.set))
        self._sessions[task] = frozenset(sessions)
        waiting = asyncio.ensure_future(started.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self.check()

    async def make_room(self, sessions: Collection[str], alone: bool = False) -> None:
        """Wait until one more step may start and none of these sessions is in one; alone: until there is no other.

        Raises what a step raised.
        """
        depth = 1 if alone else self._depth
        while True:
            self.check()
            apart = all(taken.isdisjoint(sessions) for taken in self._sessions.values())
            if apart and len(self._sessions) < depth:
                return
            await asyncio.wait(self._sessions, return_when=asyncio.FIRST_COMPLETED)

    def check(self) -> None:
        """Forget what has ended. Raises what it raised."""
        for task in [task for task in self._sessions if task.done()]:
            del self._sessions[task]
            task.result()

    def cancel(self) -> None:
        """End all at once."""
        for task in self._sessions:
            task.cancel()
