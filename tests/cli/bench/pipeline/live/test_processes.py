"""Stage processes of a live pipeline."""

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from cli.bench.pipeline.live import processes
from cli.bench.pipeline.live.live_ring import LiveRing
from cli.bench.pipeline.live.measure_live import run_over
from cli.bench.pipeline.live.processes import StageProcesses, run_live
from cli.bench.pipeline.live.stage_process import law_text, read_law
from cli.command.errors import ProcessFailed
from simulator.pipeline.laws import LAWS
from simulator.pipeline.methods.registry import METHODS
from simulator.pipeline.ring import Row
from simulator.pipeline.run import run_method

LAW = LAWS["edge"](2, 0.3)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[StageProcesses]:
    """The processes that a test starts."""
    found: list[StageProcesses] = []

    class Noted(StageProcesses):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            found.append(self)

    monkeypatch.setattr(processes, "StageProcesses", Noted)
    return found


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_law_is_given_to_a_process_as_text() -> None:
    assert read_law(law_text(LAW)) == LAW


@pytest.mark.slow
def test_two_stages_have_the_target_s_text_at_about_the_simulated_rate(started: list[StageProcesses]) -> None:
    async def work(ring: LiveRing) -> dict[str, Any]:
        return {
            name: await run_over(ring, METHODS[name].make(LAW, 0.75, 1), LAW, 0.75, 1, 40, 3)
            for name in ("c", "e", "f")
        }

    for name, live in asyncio.run(run_live(LAW, work)).items():
        simulated = run_method(METHODS[name].make(LAW, 0.75, 1), LAW, 0.75, 1, 40, 3)
        assert live.tokens_per_s < 1.3 * simulated.tokens_per_s  # slower is up to the machine
        assert live.bytes_per_token > 0.5 * simulated.bytes_per_token
        assert 0 <= live.idle < 1
    assert not any(is_running(pid) for one in started for pid in one.pids)


@pytest.mark.slow
def test_a_process_that_dies_is_named_and_the_others_end(started: list[StageProcesses]) -> None:
    async def work(ring: LiveRing) -> None:
        ring.send([Row(0, 0, -1, 1, 0)])
        os.kill(started[0].pids[1], signal.SIGKILL)
        await asyncio.sleep(60)

    began = time.monotonic()
    with pytest.raises(ProcessFailed, match="stage 2 has ended with SIGKILL"):
        asyncio.run(run_live(LAW, work))
    assert time.monotonic() - began < 55
    assert not any(is_running(pid) for pid in started[0].pids)


@pytest.mark.slow
def test_a_process_that_cannot_begin_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(ring: LiveRing) -> None:
        raise NotImplementedError

    monkeypatch.setattr(processes, "law_text", lambda law: "{}")
    with pytest.raises(ProcessFailed, match=r"stage [12] has ended with code 1: 'stages'"):
        asyncio.run(run_live(LAW, work))


@pytest.mark.slow
def test_an_interrupted_run_ends_its_processes(started: list[StageProcesses]) -> None:
    async def work(ring: LiveRing) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run_live(LAW, work))
    assert not any(is_running(pid) for pid in started[0].pids)
