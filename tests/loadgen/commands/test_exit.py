"""How runs are ended from outside."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import TextIO

import pytest

from loadgen.commands.exit import end_on_signals, progress_console
from loadgen.run.drive import RunState

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def missed() -> Iterator[list[int]]:
    """Signals that nobody but this test took."""
    found: list[int] = []
    before = [signal.signal(number, lambda got, _: found.append(got)) for number in ENDING]
    yield found
    for number, handler in zip(ENDING, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
async def test_a_signal_ends_the_run_and_not_the_process(number: int, missed: list[int]) -> None:
    course = RunState()
    end_on_signals(course)
    os.kill(os.getpid(), number)
    await asyncio.sleep(0.01)
    assert course.over.is_set()
    assert missed == []


async def test_under_nohup_a_hang_up_ends_nothing(missed: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    course = RunState()
    end_on_signals(course)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.01)
    assert not course.over.is_set()


def test_a_reader_that_has_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
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
