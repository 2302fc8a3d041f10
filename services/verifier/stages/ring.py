"""Rank 0's end of the ring: it starts the group, sends pieces, and hands out results in their order."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

import structlog

from services.verifier.passes import PassesEnded
from services.verifier.stages.agreement import disagreement
from services.verifier.stages.link import LAST_S, Inbound, LinkBroken, Outbound
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
from services.verifier.stages.pace import Pace
from services.verifier.stages.piece_timeline import PieceTimeline
from services.verifier.stages.stage import SILENCE_S, START_S, failure
from shared.runtime.pause import pause
from shared.runtime.settings import SettingsError

BEAT_S: Final = 1.0
STUCK_S: Final = 120.0  # one pass of one stage
LOAD_S: Final = 1800.0  # until all stages have loaded

M = TypeVar("M", bound=Message)

log = structlog.get_logger()


class Ring:
    """A group of stages as rank 0 sees it. `start`, then `run` beside `ready`, all that sends, and `end` at the end."""

    def __init__(self, facts: Facts, stages: int, inbound: Inbound, outbound: Outbound) -> None:
        self._facts = facts
        self.stages = stages
        self._inbound, self._outbound = inbound, outbound
        self._results: dict[int, asyncio.Future[Result]] = {}
        self._loaded = asyncio.Event()
        self._ended = asyncio.Event()
        self._gone = False
        self.states: tuple[StageState, ...] = ()  # as of the last beat
        self.round_trip_us = 0  # of the last beat
        self.left_out = 0  # tokens that not all stages computed, since they were dead
        self.facts: Sequence[Facts] = ()  # of all ranks, once they have agreed
        self.pace = Pace()
        self.timeline = PieceTimeline()

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to the first stage."""
        return self._outbound.sent_bytes

    async def start(self, assign: Callable[[Sequence[Facts]], Assign]) -> Assign:
        """Check that all ranks fit together, and let them load. assign: who gets which layers, by everybody's facts.

        Raises RankUnfit, which names the rank that does not fit, RankFailed and LinkBroken.
        """
        await self._outbound.send(Hello((self._facts,)))
        hello = await self._expect(Hello)
        if len(hello.facts) != self.stages + 1:
            await self._refuse(f"{len(hello.facts)} ranks answered instead of {self.stages + 1}")
        if wrong := disagreement(hello.facts):
            await self._refuse(wrong, final=True)
        self.facts = hello.facts
        try:
            assignment = assign(hello.facts)
        except SettingsError as error:
            await self._refuse(str(error), final=True)
        await self._outbound.send(assignment)
        await self._expect(Assign)
        await self._outbound.send(Ready())
        return assignment

    async def ready(self) -> None:
        """Wait until all stages have loaded, beside `run`. Raises RankFailed after LOAD_S."""
        try:
            async with asyncio.timeout(LOAD_S):
                await self._loaded.wait()
        except TimeoutError:
            late = ", ".join(str(state.rank) for state in self.states if not state.layers)
            await self._refuse(f"rank {late or self.stages} has not loaded its layers within {LOAD_S:g} s")

    async def run(self, stop: asyncio.Event) -> None:
        """Read results and send beats until `end`. Raises RankFailed and LinkBroken."""
        try:
            async with asyncio.TaskGroup() as group:
                beats = group.create_task(self._beat(stop))
                await self._read()
                beats.cancel()
        finally:
            for future in self._results.values():
                if not future.done():
                    future.set_exception(PassesEnded("the stages are gone"))
                    future.exception()  # seen: nobody may be waiting for it
            self._gone = True

    async def send(self, piece: Piece) -> None:
        """Send a piece; `result` waits for what becomes of it. Pieces are numbered in the order in which they are sent.

        Raises LinkBroken.
        """
        if self._gone:  # nobody would ever set the result
            raise LinkBroken("the stages are gone")
        self._results[piece.number] = asyncio.get_running_loop().create_future()
        self.timeline.sent(piece.number)
        await self._outbound.send(piece)

    async def leave_out(self, number: int, tokens: Sequence[int]) -> None:
        """Say that tokens of a piece under way need not be computed any more. Raises LinkBroken."""
        await self._outbound.send(Dead(number, tuple(tokens)))

    def future(self, number: int) -> asyncio.Future[Result]:
        """What `result` waits for. Raises KeyError for a piece that was not sent, or whose result was taken."""
        return self._results[number]

    async def result(self, number: int) -> Result:
        """A piece after the last layer. Raises PassesEnded."""
        try:
            return await self._results[number]
        finally:
            self._results.pop(number, None)

    async def end(self) -> None:
        """Let the stages finish and exit."""
        try:
            await self._outbound.send(End())
            async with asyncio.timeout(SILENCE_S):
                await self._ended.wait()
        except (LinkBroken, TimeoutError) as error:
            log.info("the group is gone already", why=str(error))

    async def _read(self) -> None:
        while True:
            match await self._receive(SILENCE_S):
                case Result() as result:
                    self.left_out += len(result.dead)
                    self.timeline.returned(result.number, result.times_us)
                    future = self._results.get(result.number)
                    if future is not None and not future.done():
                        future.set_result(result)
                case Beat() as beat:
                    await self._follow(beat)
                case Ready() if not self._loaded.is_set():
                    self._loaded.set()
                case End():
                    self._ended.set()
                    return
                case other:
                    await self._refuse(f"rank {self.stages} sent {type(other).__name__} out of place")

    async def _beat(self, stop: asyncio.Event) -> None:
        """Send beats for as long as the group lives, also while rank 0 finishes its last message."""
        loop = asyncio.get_running_loop()
        while True:
            await self._outbound.send(Beat(round(loop.time() * 1e6)))
            if stop.is_set():
                await asyncio.sleep(BEAT_S)
            else:
                await pause(stop, BEAT_S)

    async def _follow(self, beat: Beat) -> None:
        self.states = beat.stages
        self.pace.follow(beat.stages)
        self.round_trip_us = round(asyncio.get_running_loop().time() * 1e6) - beat.stamp_us
        for state in beat.stages:
            if state.running_us > STUCK_S * 1e6:
                await self._report(Failed(state.rank, f"one pass has taken {state.running_us / 1e6:.0f} s"))

    async def _expect(self, kind: type[M]) -> M:
        """The next message, which is of this kind. Raises RankFailed or RankUnfit."""
        message = await self._receive(START_S)
        if not isinstance(message, kind):
            await self._refuse(f"rank {self.stages} sent {type(message).__name__}, not {kind.__name__}")
        return message

    async def _receive(self, limit_s: float) -> Message:
        try:
            message = await self._inbound.receive(limit_s)
        except RingMessageError as error:
            await self._refuse(f"rank {self.stages} sent what is {error}")
        if isinstance(message, Failed):
            await self._report(message)
        return message

    async def _refuse(self, line: str, final: bool = False) -> NoReturn:
        """End the group with a line. Raises RankFailed or RankUnfit."""
        await self._report(Failed(0, line[:2000], final))

    async def _report(self, failed: Failed) -> NoReturn:
        """Pass a failure on, unless the next rank is the one that failed, and raise it."""
        if failed.rank != 1:
            with suppress(LinkBroken):
                await self._outbound.send(failed, LAST_S)
        raise failure(failed)
