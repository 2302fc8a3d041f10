"""A run's outcome and its files."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from loadgen.client.streaming import Client
from loadgen.mock_server import Mock
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.plan import settle
from loadgen.run.runner import Endpoint, Outcome, run, write
from loadgen.workload.prompt_source import Drawn, Synthetic
from shared.protocol.messages import Span
from tests.loadgen.made_up import STARTED, records, spans
from tests.loadgen.mocked import served


def test_a_run_writes_all_its_files_to_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "load.json"
    course = RunState(records=records(1), started=STARTED)
    told = [Span(**span) for span in spans(1)]
    plan = settle(RunOptions(), Endpoint("http://127.0.0.1:8000"), "m")
    write(Outcome({}, [], [], {"valid": True}, told), plan, course, out)
    assert json.loads(out.read_text())["requests_file"] == "load.requests.jsonl"
    rows = [json.loads(line) for line in (out.parent / "load.requests.jsonl").read_text().splitlines()]
    assert len(rows) == len(course.records)
    assert len((out.parent / "load.spans.jsonl").read_text().splitlines()) == len(told)


async def test_what_goes_wrong_beside_the_requests_costs_no_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A closed loop whose supply of requests falls over."""
    options = RunOptions(concurrency=2, requests=50, prompts="synthetic", max_dispatch_ms=1e4)
    async with served(Mock(workers=9, service_s=0.001)) as url, Client(url, plain=True) as client:
        plan = settle(options, Endpoint(url), "m")
        broken = replace(plan, workload=replace(plan.workload, prompts=FallsOver(20)))
        outcome = await run(broken, client, course := RunState())
    assert outcome.figures["completed"] == len(course.records) == 20
    assert outcome.body["partial"]
    assert outcome.problems == ["the run ended before its time: RuntimeError: no more prompts"]
    assert "no more prompts" in capsys.readouterr().err


class FallsOver(Synthetic):
    """Prompts, so many."""

    def __init__(self, count: int) -> None:
        self._left = count

    def draw(self, rng: np.random.Generator, tokens: int, blocks: Sequence[int]) -> Drawn:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("no more prompts")
        return super().draw(rng, tokens, blocks)


def test_a_result_says_when_by_the_clock_its_second_0_was(tmp_path: Path) -> None:
    course = RunState(started=time.perf_counter() - 3600)
    plan = settle(RunOptions(), Endpoint("http://127.0.0.1:8000"), "m")
    write(Outcome({}, [], [], {}), plan, course, tmp_path / "load.json")
    started = datetime.fromisoformat(json.loads((tmp_path / "load.json").read_text())["started"])
    assert abs(datetime.now(UTC) - started - timedelta(hours=1)) < timedelta(minutes=1)
