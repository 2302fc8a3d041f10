"""What stages did, as spans on rank 0's clock."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from services.verifier.stages.piece_timeline import COMMITTED, PieceTimeline
from shared.broker.contract import BrokerAway
from shared.protocol.messages import Span
from simulator.virtual_loop import run_virtual


class Written:
    """Spans that were written; the first write fails if it is told to."""

    def __init__(self, away: bool = False) -> None:
        self.spans: list[Span] = []
        self._away = away

    async def __call__(self, spans: Sequence[Span]) -> None:
        if self._away:
            self._away = False
            raise BrokerAway("gone")
        self.spans += spans


async def begun(written: Written) -> tuple[PieceTimeline, asyncio.Task[None]]:
    timeline = PieceTimeline()
    running = asyncio.ensure_future(timeline.run("v", 2, written))
    await asyncio.sleep(1.0)
    return timeline, running


async def ended(running: asyncio.Task[None]) -> None:
    await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def test_passes_gaps_and_dead_rows_without_the_stages_clocks() -> None:
    async def play() -> list[Span]:
        written = Written()
        timeline, running = await begun(written)
        timeline.made(7, [("a", (COMMITTED, 1, 2)), ("b", (4,))])
        timeline.sent(7)
        await asyncio.sleep(0.5)
        timeline.decided("a", {1}.__contains__)  # 2 dies while the first stage computes
        await asyncio.sleep(0.4)
        timeline.over("b")  # in the middle of the second stage's pass
        await asyncio.sleep(0.1)
        timeline.returned(7, (100_000, 400_000, 0, 350_000))  # and three hops of 50 ms
        await ended(running)
        return written.spans

    spans = [
        (one.name, one.kind, one.session, one.round, one.epoch, one.start_us, one.end_us)
        for one in run_virtual(play())
    ]
    assert spans == [
        ("v-stage-1", "idle", "", 0, 0, 0, 1_150_000),
        ("v-stage-1", "verify", "a", 3, 0, 1_150_000, 1_550_000),
        ("v-stage-1", "verify", "b", 1, 0, 1_150_000, 1_550_000),
        ("v-stage-2", "idle", "", 0, 0, 0, 1_600_000),
        ("v-stage-2", "verify", "a", 3, 1, 1_600_000, 1_950_000),
        ("v-stage-2", "verify", "b", 1, 0, 1_600_000, 1_950_000),
    ]


def test_nothing_is_kept_where_nobody_wants_spans() -> None:
    async def play() -> None:
        timeline = PieceTimeline()
        timeline.made(1, [("a", (COMMITTED,))])
        timeline.sent(1)
        timeline.over("a")
        timeline.returned(1, (1, 2, 3, 4))
        timeline.worked("draft", 0.0, ["a"])
        assert not timeline._flights

    run_virtual(play())


@pytest.mark.parametrize("times_us", [(), (1, 2), (1, 2, 3, 4, 5, 6)])
def test_times_of_other_stages_are_left_out(times_us: tuple[int, ...]) -> None:
    async def play() -> list[Span]:
        written = Written()
        timeline, running = await begun(written)
        timeline.made(1, [("a", (COMMITTED,))])
        timeline.sent(1)
        timeline.returned(1, times_us)
        timeline.returned(2, (1, 2, 3, 4))  # never made
        await ended(running)
        return written.spans

    assert run_virtual(play()) == []


def test_spans_are_dropped_while_the_broker_is_away_and_written_again_later() -> None:
    async def play() -> list[str]:
        written = Written(away=True)
        timeline, running = await begun(written)
        timeline.worked("draft", 0.5, ["a"])
        await asyncio.sleep(0.1)
        timeline.worked("verify", 1.0, ["b"])
        await ended(running)
        return [f"{one.name} {one.kind} {one.session}" for one in written.spans]

    assert run_virtual(play()) == ["v-rank-0 verify b"]
