"""Progress without a terminal, on a virtual clock."""

import asyncio
from io import StringIO

import pytest
from rich.console import Console

from loadgen.measuring.progress import Steps
from simulator.virtual_loop import run_virtual


def lines_of(*, terminal: bool, fails: bool = False) -> list[str]:
    """The lines of a command of two steps: eight pieces in 40 s, then two that were there."""
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)

    async def command() -> None:
        async with Steps(console) as steps:
            step = steps.step("the reference", 8)
            for _ in range(8):
                await asyncio.sleep(5)
                step.advance("user-1")
            if fails:
                raise RuntimeError
            step = steps.step("a run", 2)
            await asyncio.sleep(1)
            step.complete()

    if fails:
        with pytest.raises(RuntimeError):
            run_virtual(command())
    else:
        run_virtual(command())
    return [line for line in out.getvalue().splitlines() if " of " in line]


def test_a_line_comes_every_fifteen_seconds_and_at_each_step_s_end() -> None:
    assert lines_of(terminal=False) == [
        "the reference: 2 of 8 after 15 s (user-1)",
        "the reference: 5 of 8 after 30 s (user-1)",
        "the reference: 8 of 8 after 40 s (user-1)",
        "a run: 2 of 2 after 1 s",
    ]


def test_a_terminal_has_bars_and_no_lines() -> None:
    assert lines_of(terminal=True) == []


def test_a_step_that_failed_is_not_said_to_have_ended() -> None:
    assert lines_of(terminal=False, fails=True)[-1] == "the reference: 5 of 8 after 30 s (user-1)"


def test_synchronous_code_prints_with_the_first_unit_after_fifteen_seconds() -> None:
    out, now = StringIO(), 0.0
    with Steps(Console(file=out, width=100), lambda: now) as steps:
        step = steps.step("passes", 4)
        for _ in range(4):
            now += 10
            step.advance()
    assert out.getvalue().splitlines() == ["passes: 2 of 4 after 20 s", "passes: 4 of 4 after 40 s"]
