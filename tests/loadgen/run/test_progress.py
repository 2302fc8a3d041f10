"""Progress of a run."""

import io

import pytest
from rich.console import Console

from loadgen.client.streaming import Client
from loadgen.request import ChatRequest, Chunk, Record
from loadgen.run.drive import RunState
from loadgen.run.progress import Progress

NOWHERE = "http://127.0.0.1:1"


def ended(name: str, error: str = "") -> Record:
    """First token 200 ms after the scheduled arrival; five of nine drafted tokens were accepted."""
    chunks = [Chunk(1.2, "a", (1, 2), 0), Chunk(1.4, "b", (3,), 0)]
    request = ChatRequest(name, "m", "p", 8)
    return Record(
        request, 1.0, 1.1, chunks, 1.4, "stop", error, drafted_tokens=9, accepted_tokens=5 if not error else 0
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [10.0]
    monkeypatch.setattr(Client, "now", lambda _: now[0])
    return now


async def test_plain_lines_show_progress(clock: list[float]) -> None:
    output, state = io.StringIO(), RunState(started=8.0, sent=1, total=9)
    async with Client(NOWHERE) as client:
        show = Progress(Console(file=output))
        show(state, client)
        state.sent, state.records = 4, [ended("a"), ended("b", "http 429")]
        client.in_flight = {"c": ended("c"), "d": ended("d")}
        clock[0] += 2.0
        show(state, client)
        client.in_flight.clear()
        show(RunState(started=12.0), client)  # another begins anew
    first, second, third = output.getvalue().splitlines()
    assert first == "time 2 s  sent 1 of 9  in flight 0  done 0  errors 0  tok/s –  TTFT p50 –  p99 –"
    assert second == (
        "time 4 s  sent 4 of 9  in flight 2  done 2  errors 1  tok/s 6.0  TTFT p50 200 ms  p99 200 ms"
        "  accepted 28 % of drafted"
    )
    assert third.startswith("time 0 s  sent 0  in flight 0  done 0  errors 0")


async def test_a_terminal_shows_a_transient_table(clock: list[float]) -> None:
    output = io.StringIO()
    state = RunState(started=8.0, sent=2, records=[ended("a")])
    console = Console(file=output, force_terminal=True, width=120, color_system=None)
    async with Client(NOWHERE) as client:
        with Progress(console) as show:
            show(state, client)
    assert "TTFT p50" in output.getvalue()
    assert "200 ms" in output.getvalue()
    assert output.getvalue().endswith("\x1b[2K")  # erased


async def test_quiet_prints_nothing() -> None:
    output = io.StringIO()
    async with Client(NOWHERE) as client:
        with Progress(Console(file=output, force_terminal=True), quiet=True) as show:
            show(RunState(), client)
    assert output.getvalue() == ""
