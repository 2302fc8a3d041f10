"""Times of pieces in a modelled pipeline, to the millisecond."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.planning.pieces import PipelineLaw, StageLaw
from simulator.pipeline.draft_tree import Decision
from simulator.pipeline.forecast import Forecast
from simulator.pipeline.modelled_ring import ModelledRing
from simulator.pipeline.ring import Row
from simulator.pipeline.timeline import Timeline
from simulator.virtual_loop import run_virtual

LAW = PipelineLaw((StageLaw(10.0, 1.0), StageLaw(20.0, 2.0)), 1.0, 0.5, 5.0, StageLaw(0.0, 0.0), layers=4)


def rows(*nodes: int) -> list[Row]:
    return [Row(0, node, node - 1, 0, node) for node in nodes]


def play(
    script: Callable[[ModelledRing, Forecast], Awaitable[None]], law: PipelineLaw = LAW
) -> tuple[Timeline, list[float], list[float]]:
    """Run a script; then the times at which its pieces return, in ms, and those that were forecast before."""
    timeline, returned = Timeline(len(law.stages)), []
    forecasts: list[float] = []

    async def run() -> None:
        loop, forecast = asyncio.get_running_loop(), Forecast(law)
        async with ModelledRing(law, timeline) as ring:
            await script(ring, forecast)
            while len(forecast):
                forecasts.append(forecast.next_return())
                await ring.receive()
                forecast.receive()
                returned.append(1e3 * loop.time())

    run_virtual(run())
    return timeline, returned, forecasts


def send(ring: ModelledRing, forecast: Forecast, piece: list[Row]) -> None:
    forecast.send([(row.user, row.node) for row in piece], 1e3 * asyncio.get_running_loop().time())
    ring.send(piece)


def kill(ring: ModelledRing, forecast: Forecast, *nodes: int) -> None:
    ring.decided(0, Decision(0, 99, True, nodes))
    forecast.drop([(0, node) for node in nodes], 1e3 * asyncio.get_running_loop().time())


def test_a_piece_passes_all_stages_and_hops() -> None:
    async def script(ring: ModelledRing, forecast: Forecast) -> None:
        send(ring, forecast, rows(0, 1))

    timeline, returned, forecasts = play(script)
    # 1 + (10 + 2) + (1 + 0.5 · 2) + (20 + 4) + (1 + 0.5 · 2)
    assert returned == pytest.approx([41.0])
    assert forecasts == pytest.approx(returned)
    assert [(one.stage, one.rows) for one in timeline.passes] == [(1, 2), (2, 2)]
    assert timeline.messages == 3


def test_pieces_wait_for_the_slowest_stage() -> None:
    async def script(ring: ModelledRing, forecast: Forecast) -> None:
        for node in range(3):
            send(ring, forecast, rows(node))

    _, returned, forecasts = play(script)
    assert returned == pytest.approx([37.0, 59.0, 81.0])
    assert forecasts == pytest.approx(returned)


def test_a_dead_piece_that_waits_is_not_computed_and_does_not_overtake() -> None:
    async def script(ring: ModelledRing, forecast: Forecast) -> None:
        send(ring, forecast, rows(0))
        send(ring, forecast, rows(1, 2))
        await asyncio.sleep(0.005)
        kill(ring, forecast, 1, 2)

    timeline, returned, forecasts = play(script)
    assert returned == pytest.approx([37.0, 37.0])
    assert forecasts == pytest.approx(returned)
    assert sum(one.rows for one in timeline.passes) == 2


def test_a_pass_whose_rows_die_ends_with_the_layer_that_was_begun() -> None:
    async def script(ring: ModelledRing, forecast: Forecast) -> None:
        send(ring, forecast, rows(0, 1))
        await asyncio.sleep(0.004)  # stage 1 hears of it at 5 ms; its layers of 3 ms began at 1 ms
        kill(ring, forecast, 0, 1)

    timeline, _, _ = play(script)
    assert [(one.stage, one.rows, one.dropped) for one in timeline.passes] == [(1, 0, 2)]
    assert 1e3 * timeline.passes[0].end == pytest.approx(7.0)


def test_rows_that_die_in_a_pass_cost_nothing_in_later_layers() -> None:
    async def script(ring: ModelledRing, forecast: Forecast) -> None:
        send(ring, forecast, rows(0, 1))
        await asyncio.sleep(0.004)
        kill(ring, forecast, 1)

    timeline, _, _ = play(script)
    # Two layers of (10 + 2) / 4 ms, two of (10 + 1) / 4 ms.
    assert 1e3 * timeline.passes[0].end == pytest.approx(1 + 6 + 5.5)
    assert timeline.passes[1].rows == 1


def test_idle_is_the_share_of_time_without_a_pass() -> None:
    async def script(ring: ModelledRing, forecast: Forecast) -> None:
        send(ring, forecast, rows(0, 1))

    timeline, returned, _ = play(script)
    assert timeline.idle(0.0, returned[0] / 1e3) == pytest.approx(1 - (12 + 24) / (2 * 41.0))
