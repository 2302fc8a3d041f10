"""The loop whose clock jumps."""

import asyncio

import pytest

from simulator.virtual_loop import Deadlock, run_virtual


def test_time_jumps_to_the_next_timer_and_timers_keep_their_order() -> None:
    async def main() -> list[tuple[float, str]]:
        seen: list[tuple[float, str]] = []

        async def note(after_s: float, name: str) -> None:
            await asyncio.sleep(after_s)
            seen.append((asyncio.get_running_loop().time(), name))

        await asyncio.gather(note(3600.0, "hour"), note(0.5, "half"), note(0.25, "quarter"))
        return seen

    assert run_virtual(main()) == [(0.25, "quarter"), (0.5, "half"), (3600.0, "hour")]


def test_a_limit_passes() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 86_400.0 * 3)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 86_400.0 * 3


def test_waiting_for_nobody_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(main())
