"""A stage over links that are queues: order, failures, silence, and messages out of place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from services.verifier.stages import stage as stage_module
from services.verifier.stages.link import LinkBroken, QueueLink
from services.verifier.stages.messages import (
    Assign,
    Beat,
    Dead,
    End,
    Failed,
    Hello,
    Message,
    Piece,
    PieceRow,
    Ready,
    Result,
)
from services.verifier.stages.stage import Pieces, RankFailed, RankUnfit, Stage
from shared.compute.compute import Compute, InlineCompute
from shared.runtime.errors import innermost
from shared.runtime.service import BadFile
from tests.services.verifier.stages.rings import facts

ROW = PieceRow(0, 2, 1, (), (), (0,))
PIECE = Piece(1, (), (), (ROW,), b"in")
LIMIT_S = 10.0


def timeless(message: Message) -> Message:
    """A message without what depends on the machine's speed."""
    return replace(message, times_us=()) if isinstance(message, Piece | Result) else message


class Echo:
    """Computes pieces by answering with their number."""

    layers = 3

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def run(self, piece: Piece) -> bytes:
        if self.error:
            raise self.error
        return b"out %d" % piece.number


class Rig:
    """A stage of rank 1 with its two links, driven by hand."""

    def __init__(
        self,
        last: bool = True,
        pieces: Pieces | Exception | None = None,
        cost_s: float = 0.0,
        compute: Compute | None = None,
    ) -> None:
        self.inbound, self.outbound = QueueLink(), QueueLink()
        self.assigned: list[Assign] = []

        def load(assign: Assign) -> Pieces:
            self.assigned.append(assign)
            if isinstance(pieces, Exception):
                raise pieces
            return pieces or Echo()

        self.stage = Stage(
            facts(1),
            last,
            self.inbound,
            self.outbound,
            compute or InlineCompute(),
            load,
            cost_s=lambda _: cost_s,
        )
        self.running: asyncio.Task[None] | None = None

    async def send(self, *messages: Message) -> None:
        for message in messages:
            await self.inbound.send(message)

    async def read(self) -> Message:
        return await self.outbound.receive(LIMIT_S)

    async def begin(self) -> None:
        """Through the first messages."""
        await self.send(Hello((facts(0),)), Assign((3,), 300), Ready())
        assert await self.read() == Hello((facts(0), facts(1)))
        assert await self.read() == Assign((3,), 300)
        assert await self.read() == Ready()

    async def error(self) -> BaseException:
        """What the stage ended with."""
        assert self.running is not None
        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait([self.running])
        error = self.running.exception()
        assert error is not None
        return innermost(error)


@asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[Rig]:
    made = Rig(**options)
    made.running = asyncio.create_task(made.stage.run())
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


async def test_pieces_keep_their_order_and_the_end_comes_last() -> None:
    async with rig() as one:
        await one.begin()
        await one.send(PIECE, replace(PIECE, number=2), End())
        assert [timeless(await one.read()) for _ in range(3)] == [
            Result(1, b"out 1"),
            Result(2, b"out 2"),
            End(),
        ]
        assert one.running is not None
        await one.running


async def test_one_in_the_middle_passes_pieces_on() -> None:
    async with rig(last=False) as one:
        await one.begin()
        await one.send(PIECE)
        assert timeless(await one.read()) == replace(PIECE, hidden=b"out 1")


async def test_pieces_say_how_long_they_waited_and_were_computed() -> None:
    async with rig(last=False, cost_s=0.05) as one:
        await one.begin()
        await one.send(replace(PIECE, times_us=(1, 2)), replace(PIECE, number=2))
        first, second = await one.read(), await one.read()
        assert isinstance(first, Piece)
        assert isinstance(second, Piece)
        assert first.times_us[:2] == (1, 2)
        assert first.times_us[3] >= 49_000
        waited, computed = second.times_us
        assert min(waited, computed) >= 40_000


async def test_a_beat_passes_a_computation_and_says_how_it_stands() -> None:
    async with rig(cost_s=1000.0) as one:
        await one.begin()
        await one.send(PIECE, replace(PIECE, number=2), Beat(7))
        beat = await one.read()
        assert isinstance(beat, Beat)
        (state,) = beat.stages
        assert (beat.stamp_us, state.rank, state.layers, state.passes) == (7, 1, 3, 0)
        while state.waiting != 1:  # the first is being computed, the second waits
            await one.send(Beat(8))
            beat = await one.read()
            assert isinstance(beat, Beat)
            (state,) = beat.stages


async def test_what_was_computed_is_counted() -> None:
    async with rig() as one:
        await one.begin()
        await one.send(PIECE)
        await one.read()
        await one.send(Beat(9))
        beat = await one.read()
        assert isinstance(beat, Beat)
        assert (beat.stages[0].passes, beat.stages[0].tokens, beat.stages[0].running_us) == (1, 2, 0)


async def test_a_failure_is_passed_on_and_ends_the_stage() -> None:
    async with rig() as one:
        await one.begin()
        await one.send(failed := Failed(3, "out of memory"))
        assert await one.read() == failed
        error = await one.error()
        assert isinstance(error, RankFailed)
        assert str(error) == "rank 3: out of memory"


async def test_a_failure_is_not_sent_to_whom_it_comes_from() -> None:
    async with rig() as one:  # the last rank: rank 0 is next
        await one.begin()
        await one.send(Failed(0, "gone"))
        assert isinstance(await one.error(), RankFailed)
        assert one.outbound._messages.empty()


async def test_a_failure_for_good_is_a_wrong_setting_everywhere() -> None:
    async with rig(last=False) as one:
        await one.send(failed := Failed(0, "rank 2 differs from rank 0 in its dtype", final=True))
        assert await one.read() == failed
        assert isinstance(await one.error(), RankUnfit)


async def test_a_failure_is_raised_also_when_nobody_is_there_to_hear_it() -> None:
    async with rig() as one:
        await one.begin()
        one.outbound.broken = True
        await one.send(Failed(3, "out of memory"))
        assert isinstance(await one.error(), RankFailed)


async def test_a_stage_that_fails_at_a_piece_says_so() -> None:
    async with rig(pieces=Echo(RuntimeError("no memory left"))) as one:
        await one.begin()
        await one.send(PIECE)
        assert await one.read() == Failed(1, "piece 1 failed: no memory left")
        assert isinstance(await one.error(), RankFailed)


@pytest.mark.parametrize(
    ("error", "final"), [(BadFile("layers.2.: missing"), True), (RuntimeError("no memory left"), False)]
)
async def test_a_stage_that_cannot_load_says_so(error: Exception, final: bool) -> None:
    async with rig(pieces=error) as one:
        await one.send(Hello((facts(0),)), Assign((3,), 300))
        await one.read()
        await one.read()
        assert await one.read() == Failed(1, f"cannot load its layers: {error}", final)
        assert isinstance(await one.error(), RankUnfit if final else RankFailed)


@pytest.mark.parametrize("message", [Ready(), Hello(), Result(1, b""), Assign((1,), 1)])
async def test_a_message_out_of_place_ends_the_group(message: Message) -> None:
    async with rig() as one:
        await one.begin()
        await one.send(message)
        failed = await one.read()
        assert isinstance(failed, Failed)
        assert failed.line == f"{type(message).__name__} out of place, 0 waiting"
        assert isinstance(await one.error(), RankFailed)


async def test_a_first_message_out_of_place_ends_the_group() -> None:
    async with rig() as one:
        await one.send(PIECE)
        assert await one.read() == Failed(1, "expected Hello, read Piece")


@pytest.mark.parametrize("message", [PIECE, Result(1, b"")])
async def test_nothing_is_computed_before_all_are_ready(message: Message) -> None:
    async with rig() as one:
        await one.send(Hello((facts(0),)), Assign((3,), 300), message)
        await one.read()
        await one.read()
        assert await one.read() == Failed(1, f"{type(message).__name__} out of place, 0 waiting")


async def test_beats_are_passed_on_while_it_loads() -> None:
    loading = asyncio.Event()

    class Slow(InlineCompute):
        async def run(self, fn: Any, cost_s: float = 0.0) -> Any:
            await loading.wait()
            return await super().run(fn, cost_s)

    async with rig(compute=Slow()) as one:
        await one.send(Hello((facts(0),)), Assign((3,), 300), Ready(), Beat(1))
        await one.read()
        await one.read()
        beat = await one.read()
        assert isinstance(beat, Beat)
        assert beat.stages[0].layers == 0
        loading.set()
        assert await one.read() == Ready()


async def test_a_group_may_end_before_it_is_ready() -> None:
    async with rig() as one:
        await one.send(Hello((facts(0),)), Assign((3,), 300), End())
        await one.read()
        await one.read()
        assert await one.read() == End()


async def test_bytes_that_are_no_message_end_the_group() -> None:
    async with rig() as one:
        await one.begin()
        one.inbound._messages.put_nowait((0.0, msgpack.packb([99])))
        failed = await one.read()
        assert isinstance(failed, Failed)
        assert failed.line.startswith("not a message of the ring")


async def test_more_pieces_than_may_wait_end_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "MAX_WAITING", 2)
    async with rig(cost_s=1000.0) as one:
        await one.begin()
        await one.send(*(replace(PIECE, number=number) for number in range(1, 6)))
        assert await one.read() == Failed(1, "Piece out of place, 2 waiting")


async def test_silence_ends_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "SILENCE_S", 0.01)
    async with rig() as one:
        await one.begin()
        assert isinstance(await one.error(), LinkBroken)


async def test_a_broken_link_ends_a_stage() -> None:
    async with rig() as one:
        await one.begin()
        one.inbound.broken = True
        one.inbound._messages.put_nowait((0.0, b""))
        assert isinstance(await one.error(), LinkBroken)


async def test_a_link_that_takes_nothing_more_ends_a_stage() -> None:
    async with rig() as one:
        await one.begin()
        one.outbound.broken = True
        await one.send(PIECE)
        assert isinstance(await one.error(), LinkBroken)


async def test_what_is_dead_is_left_out_wherever_the_piece_is() -> None:
    """The news may come before the piece, while it waits, or too late; it always goes on to the next stage."""
    async with rig(last=False) as one:
        await one.begin()
        early, late = Dead(1, (0,)), Dead(1, (1,))
        await one.send(early, PIECE)
        assert await one.read() == early
        assert timeless(await one.read()) == replace(PIECE, hidden=b"out 1", dead=(0,))
        await one.send(late)
        assert await one.read() == late
        assert not one.stage._dead


async def test_the_last_stage_tells_rank_0_what_was_left_out_and_nothing_else() -> None:
    async with rig() as one:
        await one.begin()
        await one.send(Dead(1, (0,)), PIECE, End())
        assert [timeless(await one.read()) for _ in range(2)] == [Result(1, b"out 1", (), (0,)), End()]
