"""One sleep through several decodes, which an order ends with the decode under way."""

import asyncio
from itertools import accumulate

import pytest

from services.draft_worker.pace import Pace
from simulator.virtual_loop import run_virtual

COSTS = (0.3, 0.1, 0.1, 0.1)
ENDS = list(accumulate(COSTS))


async def slept(hurried_at: float | None = None) -> tuple[int, float]:
    """How many decodes a sleep went through, and when it ended."""
    pace, loop = Pace(), asyncio.get_running_loop()
    sleeping = asyncio.create_task(pace.sleep(COSTS))
    if hurried_at is not None:
        await asyncio.sleep(hurried_at)
        pace.hurry()
    return await sleeping, loop.time()


def test_it_ends_when_single_sleeps_would() -> None:
    assert run_virtual(slept()) == (4, ENDS[-1])


@pytest.mark.parametrize(("at", "decodes"), [(0.0, 1), (0.2, 1), (0.3, 1), (0.35, 2), (0.55, 4)])
def test_hurried_it_ends_with_the_decode_under_way(at: float, decodes: int) -> None:
    assert run_virtual(slept(at)) == (decodes, ENDS[decodes - 1])


def test_hurrying_nobody_does_nothing() -> None:
    async def play() -> int:
        pace = Pace()
        pace.hurry()
        return await pace.sleep([0.1, 0.1])

    assert run_virtual(play()) == 2
