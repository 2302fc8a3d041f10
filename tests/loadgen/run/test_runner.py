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
from loadgen.run.outcome import RunOutcome
from loadgen.run.plan import make_plan
from loadgen.run.runner import Endpoint, run, write
from loadgen.workload.prompt_source import Drawn, Synthetic
from shared.protocol.messages import Span
from tests.loadgen.mock_runs import served
from tests.loadgen.sample_results import STARTED, records, spans


def test_a_run_creates_its_folder_and_writes_all_files(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "load.json"
    state = RunState(records=records(1), started=STARTED)
    expected = [Span(**span) for span in spans(1)]
    plan = make_plan(RunOptions(), Endpoint("http://127.0.0.1:8000"), "m")
    write(RunOutcome({}, [], [], {"valid": True}, expected), plan.config, state, out)
    assert json.loads(out.read_text())["requests_file"] == "load.requests.jsonl"
    rows = [json.loads(line) for line in (out.parent / "load.requests.jsonl").read_text().splitlines()]
    assert len(rows) == len(state.records)
    assert len((out.parent / "load.spans.jsonl").read_text().splitlines()) == len(expected)


async def test_a_failing_source_of_prompts_leaves_a_partial_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A closed loop whose source of prompts raises."""
    options = RunOptions(concurrency=2, requests=50, prompts="synthetic", max_dispatch_ms=1e4)
    async with served(Mock(workers=9, service_s=0.001)) as url, Client(url, plain=True) as client:
        plan = make_plan(options, Endpoint(url), "m")
        broken = replace(plan, workload=replace(plan.workload, prompts=FailingPrompts(20)))
        outcome = await run(broken, client, state := RunState())
    assert outcome.metrics["completed"] == len(state.records) == 20
    assert outcome.body["partial"]
    assert outcome.problems == ["the run ended early: RuntimeError: no more prompts"]
    assert "no more prompts" in capsys.readouterr().err


class FailingPrompts(Synthetic):
    """A source that raises after so many prompts."""

    def __init__(self, count: int) -> None:
        self._left = count

    def draw(self, rng: np.random.Generator, tokens: int, blocks: Sequence[int]) -> Drawn:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("no more prompts")
        return super().draw(rng, tokens, blocks)


def test_a_result_has_the_wall_clock_time_of_its_start(tmp_path: Path) -> None:
    state = RunState(started=time.perf_counter() - 3600)
    plan = make_plan(RunOptions(), Endpoint("http://127.0.0.1:8000"), "m")
    write(RunOutcome({}, [], [], {}), plan.config, state, tmp_path / "load.json")
    started = datetime.fromisoformat(json.loads((tmp_path / "load.json").read_text())["started"])
    assert abs(datetime.now(UTC) - started - timedelta(hours=1)) < timedelta(minutes=1)
