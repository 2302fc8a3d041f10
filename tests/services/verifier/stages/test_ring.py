"""Rank 0's end of the ring: who is refused at the start, beats, results, and what ends a group."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import msgpack
import pytest

from services.verifier.passes import PassesEnded
from services.verifier.stages import ring as ring_module
from services.verifier.stages.link import LinkBroken, QueueLink
from services.verifier.stages.messages import (
    Assign,
    Beat,
    End,
    Facts,
    Failed,
    Hello,
    Message,
    Piece,
    Ready,
    Result,
    StageState,
)
from services.verifier.stages.ring import STUCK_S, Ring
from services.verifier.stages.stage import RankFailed, RankUnfit
from shared.runtime.errors import innermost
from shared.runtime.settings import SettingsError
from tests.services.verifier.stages.rings import facts

LIMIT_S = 10.0
IDLE = StageState(1, 3, 10, 2, 5, 0, 0)
PIECE = Piece(1, (), (), (), b"")


class Rig:
    """A ring of one stage, which is played by hand."""

    def __init__(self) -> None:
        self.to_stage, self.to_front = QueueLink(), QueueLink()
        self.ring = Ring(facts(0), 1, self.to_front, self.to_stage)
        self.stop = asyncio.Event()
        self.running: asyncio.Task[None] | None = None

    async def read(self) -> Message:
        """The next message to the stage that is no beat."""
        while isinstance(message := await self.to_stage.receive(LIMIT_S), Beat):
            pass
        return message

    async def error(self) -> BaseException:
        """What the ring ended with."""
        assert self.running is not None
        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait([self.running])
        error = self.running.exception()
        assert error is not None
        return innermost(error)


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    """A ring that runs, behind its start."""
    rig = Rig()
    rig.running = asyncio.create_task(rig.ring.run(rig.stop))
    yield rig
    rig.running.cancel()
    await asyncio.gather(rig.running, return_exceptions=True)


def give_all(_: Sequence[Facts]) -> Assign:
    return Assign((3,), 300)


async def test_a_group_starts() -> None:
    rig = Rig()
    for message in (Hello((facts(0), facts(1))), Assign((3,), 300)):
        await rig.to_front.send(message)
    assert await rig.ring.start(give_all) == Assign((3,), 300)
    assert [await rig.read() for _ in range(3)] == [Hello((facts(0),)), Assign((3,), 300), Ready()]


@pytest.mark.parametrize(
    ("answer", "error", "line"),
    [
        (Hello((facts(0), facts(1, dtype="bfloat16"))), RankUnfit, "rank 1 differs from rank 0 in its dtype"),
        (Hello((facts(0),)), RankFailed, "1 ranks answered instead of 2"),
        (Ready(), RankFailed, "rank 1 sent Ready, not Hello"),
    ],
)
async def test_a_stage_that_does_not_fit_is_told_why(
    answer: Message, error: type[Exception], line: str
) -> None:
    rig = Rig()
    await rig.to_front.send(answer)
    with pytest.raises(error, match=line):
        await rig.ring.start(give_all)
    await rig.read()
    failed = await rig.read()
    assert isinstance(failed, Failed)
    assert failed.line.startswith(line)
    assert failed.final is (error is RankUnfit)


async def test_a_split_that_cannot_be_is_told_to_all() -> None:
    rig = Rig()
    await rig.to_front.send(Hello((facts(0), facts(1))))

    def refuse(_: Sequence[Facts]) -> Assign:
        raise SettingsError("OUTRIDER_STAGE_LAYERS=9: no")

    with pytest.raises(RankUnfit, match="OUTRIDER_STAGE_LAYERS=9"):
        await rig.ring.start(refuse)
    await rig.read()
    assert await rig.read() == Failed(0, "OUTRIDER_STAGE_LAYERS=9: no", final=True)


async def test_it_is_ready_when_the_stages_are() -> None:
    async with running() as rig:
        waiting = asyncio.create_task(rig.ring.ready())
        assert isinstance(await rig.to_stage.receive(LIMIT_S), Beat)  # while they load
        assert not waiting.done()
        await rig.to_front.send(Ready())
        await waiting
        await rig.to_front.send(Ready())
        assert str(await rig.error()) == "rank 0: rank 1 sent Ready out of place"


async def test_silence_at_the_start_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "START_S", 0.01)
    with pytest.raises(LinkBroken):
        await Rig().ring.start(give_all)


async def test_bytes_that_are_no_message_end_the_start() -> None:
    rig = Rig()
    rig.to_front._messages.put_nowait((0.0, msgpack.packb(7)))
    with pytest.raises(RankFailed, match="rank 1 sent what is not a message"):
        await rig.ring.start(give_all)


async def test_stages_that_never_load_end_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "LOAD_S", 0.01)
    rig = Rig()
    rig.ring.states = (IDLE, replace(IDLE, rank=2, layers=0))
    with pytest.raises(RankFailed, match=r"rank 2 has not loaded its layers within 0\.01 s"):
        await rig.ring.ready()
    assert isinstance(await rig.read(), Failed)


async def test_results_find_their_pieces() -> None:
    async with running() as rig:
        await rig.ring.send(PIECE)
        await rig.ring.send(replace(PIECE, number=2))
        await rig.to_front.send(Result(2, b"two"))
        await rig.to_front.send(Result(9, b"of nobody"))
        await rig.to_front.send(Result(1, b"one"))
        async with asyncio.timeout(LIMIT_S):
            assert (await rig.ring.result(1)).hidden == b"one"
            assert (await rig.ring.result(2)).hidden == b"two"


async def test_beats_go_round_and_say_how_the_stages_stand() -> None:
    async with running() as rig:
        beat = await rig.to_stage.receive(LIMIT_S)
        assert isinstance(beat, Beat)
        await rig.to_front.send(replace(beat, stages=(IDLE,)))
        await rig.to_front.send(End())
        assert rig.running is not None
        await rig.running
        assert rig.ring.states == (IDLE,)
        assert rig.ring.round_trip_us >= 0


async def test_beats_go_on_while_rank_0_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "BEAT_S", 0.001)
    async with running() as rig:
        rig.stop.set()
        for _ in range(3):
            assert isinstance(await rig.to_stage.receive(LIMIT_S), Beat)


async def test_a_stuck_pass_ends_the_group_and_names_the_rank() -> None:
    async with running() as rig:
        await rig.to_front.send(Beat(0, (replace(IDLE, running_us=round(STUCK_S * 1e6) - 1),)))
        await rig.to_front.send(Beat(0, (replace(IDLE, running_us=round(STUCK_S * 1e6) + 1),)))
        error = await rig.error()
        assert isinstance(error, RankFailed)
        assert str(error) == "rank 1: one pass has taken 120 s"


async def test_a_broken_link_ends_what_waits_for_results() -> None:
    async with running() as rig:
        await rig.ring.send(PIECE)
        waiting = asyncio.create_task(rig.ring.result(1))
        await asyncio.sleep(0)
        rig.to_front.broken = True
        rig.to_front._messages.put_nowait((0.0, b""))
        with pytest.raises(PassesEnded):
            await waiting
        assert isinstance(await rig.error(), LinkBroken)
        with pytest.raises(LinkBroken):
            await rig.ring.send(replace(PIECE, number=2))


async def test_silence_ends_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "SILENCE_S", 0.01)
    async with running() as rig:
        assert isinstance(await rig.error(), LinkBroken)


@pytest.mark.parametrize("message", [Hello(), Assign((1,), 1), PIECE])
async def test_a_message_out_of_place_ends_a_group(message: Message) -> None:
    async with running() as rig:
        await rig.to_front.send(message)
        failed = await rig.read()
        assert failed == Failed(0, f"rank 1 sent {type(message).__name__} out of place")
        assert isinstance(await rig.error(), RankFailed)


async def test_a_failed_stage_ends_a_group() -> None:
    async with running() as rig:
        await rig.to_front.send(Failed(1, "no memory"))
        assert str(await rig.error()) == "rank 1: no memory"


async def test_the_end_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as rig:
        ending = asyncio.create_task(rig.ring.end())
        assert await rig.read() == End()
        await rig.to_front.send(End())
        await ending
    monkeypatch.setattr(ring_module, "SILENCE_S", 0.01)
    await Rig().ring.end()  # of a group that does not answer
