"""A stage's shell: it reads the ring, computes its pieces one after the other, and passes everything on.

Beats, failures and what is dead pass a running computation; pieces and what ends them keep their order.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn, Protocol, TypeVar

import structlog

from services.verifier.stages.link import LAST_S, Inbound, LinkBroken, Outbound
from services.verifier.stages.living import leave_out, tokens_of
from services.verifier.stages.messages import (
    Assign,
    Beat,
    Dead,
    End,
    Facts,
    Failed,
    Hello,
    Message,
    Piece,
    Ready,
    Result,
    RingMessageError,
    StageState,
)
from shared.compute.compute import Compute
from shared.runtime.errors import words
from shared.runtime.service import BadFile, Lost
from shared.runtime.settings import SettingsError

SILENCE_S: Final = 10.0  # without any message: the rank before is dead or cut off
START_S: Final = 60.0  # the same for the first messages, before there are beats
MAX_WAITING: Final = 256  # pieces; rank 0 keeps far fewer under way

M = TypeVar("M", bound=Message)

log = structlog.get_logger()


class Pieces(Protocol):
    """What computes pieces: `Block`, or a model of one."""

    layers: int

    def run(self, piece: Piece) -> bytes:
        """Hidden rows after the stage's layers."""
        ...


Load = Callable[[Assign], Pieces]
Cost = Callable[[Piece], float]


class RankFailed(Lost):
    """A rank cannot go on; the text names it and says why."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"rank {failed.rank}: {failed.line}")
        self.failed = failed


class RankUnfit(SettingsError):
    """A rank has a setting or a file with which the group cannot work; the text names it and says which."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"rank {failed.rank}: {failed.line}")
        self.failed = failed


def failure(failed: Failed) -> RankFailed | RankUnfit:
    """The error of a rank that has read, or sent, this."""
    return RankUnfit(failed) if failed.final else RankFailed(failed)


class Stage:
    """One rank of the ring that computes layers. All parts are injected."""

    def __init__(
        self,
        facts: Facts,
        last: bool,
        inbound: Inbound,
        outbound: Outbound,
        compute: Compute,
        load: Load,
        cost_s: Cost = lambda _: 0.0,
    ) -> None:
        """last: whether the next rank is rank 0. cost_s: modelled seconds of a piece; 0.0 for real work."""
        self._facts = facts
        self._last = last
        self._inbound, self._outbound = inbound, outbound
        self._compute = compute
        self._load = load
        self._cost_s = cost_s
        self._waiting: asyncio.Queue[Ready | Piece | End] = asyncio.Queue(
            MAX_WAITING + 1
        )  # the end has a place
        self._read_at: deque[float] = deque()  # of the pieces that wait
        self._dead: dict[int, set[int]] = {}  # tokens by piece, of those that wait or are still to come
        self._computed = 0  # number of the last piece
        self._begun = 0.0  # of the pass under way; 0.0 = none
        self._state = StageState(facts.rank, 0, 0, 0, 0, 0, 0)

    async def run(self) -> None:
        """Agree, load and compute until rank 0 ends the group.

        Raises RankFailed, RankUnfit and LinkBroken, also several of them as a group.
        """
        hello = await self._expect(Hello)
        await self._outbound.send(Hello((*hello.facts, self._facts)))
        assign = await self._expect(Assign)
        await self._outbound.send(assign)  # so that the stages behind load at the same time
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._work(assign))

    async def _load_layers(self, assign: Assign) -> Pieces:
        """Our layers; beats are passed on meanwhile. Raises RankFailed and RankUnfit."""
        try:
            block = await self._compute.run(lambda: self._load(assign))
        except Exception as error:  # whatever torch and the file system raise: rank 0 must learn why
            final = isinstance(error, BadFile | SettingsError)
            if not final:
                log.exception("layers not loaded")
            await self._fail(f"cannot load its layers: {words(error)}", final)
        self._state = replace(self._state, layers=block.layers)
        return block

    async def _expect(self, kind: type[M]) -> M:
        """The next message, which is of this kind. Raises RankFailed for any other."""
        message = await self._receive(START_S)
        if not isinstance(message, kind):
            await self._fail(f"expected {kind.__name__}, read {type(message).__name__}")
        return message

    async def _read(self) -> None:
        """Read until the end of the group. Never waits for a computation."""
        ready = False
        while True:
            message = await self._receive(SILENCE_S)
            match message:
                case Beat():
                    await self._outbound.send(Beat(message.stamp_us, (*message.stages, self._now())))
                case Dead():
                    await self._leave_out(message)
                case Ready() if not ready:
                    ready = True
                    self._waiting.put_nowait(message)
                case Piece() if ready and self._waiting.qsize() < MAX_WAITING:
                    self._read_at.append(asyncio.get_running_loop().time())
                    self._waiting.put_nowait(message)
                case End():
                    self._waiting.put_nowait(message)
                    return
                case _:
                    await self._fail(
                        f"{type(message).__name__} out of place, {self._waiting.qsize()} waiting"
                    )

    async def _work(self, assign: Assign) -> None:
        """Load, say so, and compute pieces in their order, until the end."""
        loop = asyncio.get_running_loop()
        block = await self._load_layers(assign)
        while not isinstance(piece := await self._waiting.get(), End):
            if isinstance(piece, Ready):
                await self._outbound.send(piece)
                continue
            self._begun, self._computed = loop.time(), piece.number
            piece = leave_out(piece, self._dead.pop(piece.number, ()))
            try:
                hidden = await self._compute.run(partial(block.run, piece), self._cost_s(piece))
            except Exception as error:  # whatever torch raises: the KV is no longer what rank 0 thinks
                log.exception("a piece failed", piece=piece.number)
                await self._fail(f"piece {piece.number} failed: {error}")
            waited, took = self._begun - self._read_at.popleft(), loop.time() - self._begun
            self._count(piece, took)
            times_us = (*piece.times_us, round(waited * 1e6), round(took * 1e6))
            await self._outbound.send(
                Result(piece.number, hidden, times_us, piece.dead)
                if self._last
                else replace(piece, hidden=hidden, times_us=times_us)
            )
        await self._outbound.send(End())

    async def _leave_out(self, dead: Dead) -> None:
        """Remember what need not be computed, and tell the next stage. A piece may come later than its dead."""
        if dead.number > self._computed and (dead.number in self._dead or len(self._dead) < MAX_WAITING):
            self._dead.setdefault(dead.number, set()).update(dead.tokens)
        if not self._last:
            await self._outbound.send(dead)

    async def _receive(self, limit_s: float) -> Message:
        """The next message. A failure is passed on and raised."""
        try:
            message = await self._inbound.receive(limit_s)
        except RingMessageError as error:
            await self._fail(str(error))
        if isinstance(message, Failed):
            await self._report(message)
        return message

    async def _fail(self, line: str, final: bool = False) -> NoReturn:
        """Tell the others why we cannot go on. Raises RankFailed or RankUnfit."""
        await self._report(Failed(self._facts.rank, line[:2000], final))

    async def _report(self, failed: Failed) -> NoReturn:
        """Pass a failure on, unless the next rank is the one that failed, and raise it."""
        if failed.rank != (0 if self._last else self._facts.rank + 1):
            with suppress(LinkBroken):
                await self._outbound.send(failed, LAST_S)
        raise failure(failed)

    def _count(self, piece: Piece, seconds: float) -> None:
        state, tokens = self._state, tokens_of(piece.rows) - len(piece.dead)
        self._state = replace(
            state,
            busy_us=state.busy_us + round(seconds * 1e6),
            passes=state.passes + 1,
            tokens=state.tokens + tokens,
        )
        self._begun = 0.0

    def _now(self) -> StageState:
        """Our state for a beat."""
        running = asyncio.get_running_loop().time() - self._begun if self._begun else 0.0
        return replace(
            self._state,
            waiting=self._waiting.qsize(),
            running_us=round(running * 1e6),
            sent_bytes=self._outbound.sent_bytes,
        )
