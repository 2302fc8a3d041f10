"""Links between simulated ranks: hops take their time, messages keep their order, a process that dies cuts them."""

import asyncio
from typing import Any

import pytest

from services.verifier.stages.link import LinkBroken
from services.verifier.stages.messages import Beat, Failed, Piece
from simulator.process import Incarnation
from simulator.stages.meeting import Meeting
from simulator.stages.ring_link import ROW_BYTES, RankLinks, RingLink
from simulator.stages.stages_spec import StagesSpec
from simulator.virtual_loop import run_virtual

SPEC = StagesSpec(count=2, beta_ms=(1.0,), per_token_ms=(1.0,), hop_ms=10.0, row_ms=1.0)


def test_a_hop_takes_its_time_and_its_rows_and_nothing_overtakes() -> None:
    async def play() -> list[tuple[float, str]]:
        link, loop = RingLink(SPEC, "rank 1"), asyncio.get_running_loop()
        begun, read = loop.time(), []
        await link.send(Piece(1, (), (), (), bytes(5 * ROW_BYTES)))
        await link.send(Beat(0))
        for _ in range(2):
            message = await link.receive(1.0)
            read.append((round(loop.time() - begun, 6), type(message).__name__))
        return read

    assert run_virtual(play()) == [(0.015, "Piece"), (0.015, "Beat")]


def test_silence_is_noticed_in_time() -> None:
    async def play() -> float:
        link, loop = RingLink(SPEC, "rank 1"), asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(LinkBroken, match="has read nothing for 3 s"):
            await link.receive(3.0)
        return loop.time() - begun

    assert run_virtual(play()) == pytest.approx(3.0)


def test_what_was_sent_arrives_before_the_end_is_noticed() -> None:
    async def play() -> None:
        life = Incarnation()
        before, after = RingLink(SPEC, "rank 1"), RingLink(SPEC, "rank 2")
        await RankLinks(before, after, life).leave(Failed(1, "no memory"))
        assert await after.receive(1.0) == Failed(1, "no memory")
        with pytest.raises(LinkBroken, match="the rank before rank 2 is gone"):
            await after.receive(60.0)
        with pytest.raises(LinkBroken, match="rank 1 takes no message"):
            await before.send(Beat(0))

    run_virtual(play())


def test_the_dead_say_nothing() -> None:
    async def play() -> None:
        life = Incarnation()
        life.kill()
        after = RingLink(SPEC, "rank 2")
        await RankLinks(RingLink(SPEC, "rank 1"), after, life).leave(Failed(1, "its process has ended"))
        with pytest.raises(LinkBroken):
            await after.receive(1.0)

    run_virtual(play())


def test_a_group_is_formed_when_all_are_there_and_again_when_one_has_come_back() -> None:
    async def play() -> None:
        meeting = Meeting(SPEC)
        lives = [Incarnation() for _ in range(3)]
        joining: list[asyncio.Task[Any]] = [
            asyncio.ensure_future(meeting.join(rank, lives[rank])) for rank in (0, 2)
        ]
        await asyncio.sleep(1)
        assert meeting.missing() == [1]
        joining[1].cancel()  # its process dies while it waits
        await asyncio.sleep(0)
        assert meeting.missing() == [1, 2]
        links = [joining[0], *(asyncio.ensure_future(meeting.join(rank, lives[rank])) for rank in (1, 2))]
        one, two, three = await asyncio.gather(*links)
        assert one.outbound is two.inbound
        assert two.outbound is three.inbound
        assert three.outbound is one.inbound
        assert meeting.missing() == [0, 1, 2]

    run_virtual(play())
