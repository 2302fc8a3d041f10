"""InlineCompute: one call at a time, in their order, whoever is cancelled."""

import asyncio
from functools import partial

from shared.compute.compute import InlineCompute
from simulator.virtual_loop import run_virtual


def test_calls_run_one_at_a_time_and_in_order() -> None:
    async def play() -> list[tuple[str, float]]:
        compute, loop = InlineCompute(), asyncio.get_running_loop()
        ran: list[tuple[str, float]] = []

        def note(name: str) -> None:
            ran.append((name, loop.time()))

        calls = (("a", 2.0), ("b", 0.0), ("c", 1.0), ("d", 0.0))
        tasks = [asyncio.create_task(compute.run(partial(note, name), cost_s)) for name, cost_s in calls]
        await asyncio.wait(tasks)
        return ran

    assert run_virtual(play()) == [("a", 2.0), ("b", 2.0), ("c", 3.0), ("d", 3.0)]


def test_a_cancelled_call_neither_runs_nor_lets_others_overtake() -> None:
    async def play() -> list[tuple[str, float]]:
        compute, loop = InlineCompute(), asyncio.get_running_loop()
        ran: list[tuple[str, float]] = []

        def note(name: str) -> None:
            ran.append((name, loop.time()))

        first, waiting, last = (asyncio.create_task(compute.run(partial(note, name), 2.0)) for name in "abc")
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.wait([first, waiting, last])
        return ran

    assert run_virtual(play()) == [("a", 2.0), ("c", 4.0)]


def test_a_call_that_raises_lets_the_next_one_run() -> None:
    async def play() -> int:
        compute = InlineCompute()
        failed = asyncio.create_task(compute.run(lambda: 1 // 0, 1.0))
        await asyncio.sleep(0)  # so that it is the first
        answer = await compute.run(lambda: 7, 1.0)
        assert isinstance(failed.exception(), ZeroDivisionError)
        return answer

    assert run_virtual(play()) == 7
