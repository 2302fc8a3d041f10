"""Runs that are stopped by signals."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import TextIO

import pytest

from loadgen.commands.exit import progress_console, stop_on_signals
from loadgen.run.drive import RunState

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def unhandled() -> Iterator[list[int]]:
    """Signals that only this test has handled."""
    found: list[int] = []
    before = [signal.signal(number, lambda got, _: found.append(got)) for number in ENDING]
    yield found
    for number, handler in zip(ENDING, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
async def test_a_signal_ends_the_run_and_not_the_process(number: int, unhandled: list[int]) -> None:
    state = RunState()
    stop_on_signals(state)
    os.kill(os.getpid(), number)
    await asyncio.sleep(0.01)
    assert state.stop.is_set()
    assert unhandled == []


async def test_under_nohup_a_hang_up_is_ignored(unhandled: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    state = RunState()
    stop_on_signals(state)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.01)
    assert not state.stop.is_set()


def test_a_closed_pipe_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        console = progress_console()
        console.print("a line that nobody reads")
        assert not console.is_terminal
        _closed(stream)
        console.print("nor this one")


def _closed(stream: TextIO) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        stream.close()
