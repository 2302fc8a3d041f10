"""Knees, crossovers, and the order of a sweep's runs."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadgen.client.chat_client import ChatClient
from loadgen.metrics.knee import LoadPoint, crossover, knee_of_rates, knee_of_users
from loadgen.mock_server import Mock
from loadgen.results.output import OutputError
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.runner import Observer
from loadgen.run.sweep import (
    Sweep,
    SweepError,
    SweepPolicy,
    SweepRun,
    knees_and_crossovers,
    parse_levels,
    parse_policies,
    run_sweep,
    sweep_runs,
)
from tests.loadgen.mock_runs import served


class Nobody:
    """An observer that shows nothing."""

    every_s = 0.05

    def __call__(self, state: RunState, client: ChatClient) -> None: ...


def under_rates(*served_at: float) -> list[LoadPoint]:
    return [LoadPoint(2.0**i, served, 10 * served, 100.0) for i, served in enumerate(served_at)]


def test_the_knee_is_the_last_rate_that_was_kept_up_with() -> None:
    assert knee_of_rates(under_rates(1, 2, 3.9, 5, 5)) == 4
    assert knee_of_rates(under_rates(0.5, 2, 4)) is None  # already the first was not
    assert knee_of_rates([]) is None


def test_the_knee_of_users_has_nearly_the_best_throughput() -> None:
    curve = [LoadPoint(n, n, tokens, 1.0) for n, tokens in ((1, 10), (2, 19), (4, 33), (8, 36), (16, 36.5))]
    assert knee_of_users(curve) == 4
    assert knee_of_users([]) is None


def test_the_crossover_lies_between_the_levels_where_the_advantage_ends() -> None:
    mine = [LoadPoint(level, 1, 1, ms) for level, ms in ((1, 50), (2, 80), (4, 200))]
    theirs = [LoadPoint(level, 1, 1, 100) for level in (1, 2, 4)]
    # 100/80 = 1.25 at 2, 100/200 = 0.5 at 4: through 1 at a third of the way
    assert crossover(mine, theirs, open_loop=True) == pytest.approx(2 + 2 * 0.25 / 0.75)
    assert crossover(theirs, mine, open_loop=True) is None


def test_the_first_policy_rotates() -> None:
    sweep = Sweep([1.0, 2.0], True, parse_policies("greedy-batch,fixed-k:4"), 2)
    order = [(leg.repeat, leg.level, str(leg.policy)) for leg in sweep_runs(sweep)]
    assert order[:4] == [
        (0, 1.0, "greedy-batch"),
        (0, 1.0, "fixed-k k=4"),
        (0, 2.0, "fixed-k k=4"),
        (0, 2.0, "greedy-batch"),
    ]
    assert len(order) == 8
    assert len({leg.name for leg in sweep_runs(sweep)}) == 8


def test_medians_over_repeats_make_the_curves() -> None:
    def point(policy: str, level: float, tokens: float) -> dict[str, object]:
        figures = {
            "request_throughput": level,
            "output_throughput": tokens,
            "median_e2el_scheduled_ms": 1e4 / tokens,
        }
        return {"policy": policy, "level": level, "figures": figures}

    points = [point("outrider", 1, t) for t in (20, 22, 90)] + [point("outrider", 2, 20)]
    points += [point("greedy-batch", 1, 11), point("greedy-batch", 2, 40)]
    found = knees_and_crossovers(points, open_loop=True)
    assert found["knees"] == {"outrider": 2, "greedy-batch": 2}
    (crossing,) = found["crossovers"]
    assert crossing["between"] == ["outrider", "greedy-batch"]
    assert crossing["level"] == pytest.approx(1 + 1 / 1.5)  # twice as good at 1, half as good at 2


@pytest.mark.parametrize("text", ["", "x", "0", "-1,2", "1,1", "nan"])
def test_invalid_levels_are_refused(text: str) -> None:
    with pytest.raises(SweepError, match="--rates"):
        parse_levels(text, "rates")


def test_policies_are_parsed() -> None:
    assert parse_policies("") == [SweepPolicy()]
    with pytest.raises(SweepError, match="POLICY:K"):
        parse_policies("fixed-k:x")


async def test_an_endpoint_without_policies_is_an_error(tmp_path: Path) -> None:
    sweep = Sweep([20.0], True, [SweepPolicy("outrider")], 1)
    async with served(Mock()) as url:
        with pytest.raises(SweepError, match="--policies outrider: the endpoint rejects it: HTTP 404"):
            await run_sweep(
                sweep, RunOptions(url=url), "mock", tmp_path / "s.json", lambda _: (RunState(), Nobody())
            )


async def test_a_run_that_cannot_be_written_ends_the_sweep_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (tmp_path / "sweep").write_text("a file where the folder of the runs was to be")
    sweep, options = Sweep([50.0], True, [SweepPolicy()], 1), RunOptions(plain=True, requests=3)
    async with served(Mock(workers=9, service_s=0.001)) as url:
        with pytest.raises(OutputError, match=f"its result is in {temporary}"):
            await run_sweep(
                sweep,
                replace(options, url=url),
                "mock",
                tmp_path / "sweep.json",
                lambda _: (RunState(), Nobody()),
            )
    (kept,) = temporary.glob("*/*-50-0.json")
    assert json.loads(kept.read_text())["figures"]["completed"] == 3


@pytest.mark.slow
async def test_a_sweep_writes_every_run_and_a_summary(tmp_path: Path) -> None:
    """An overloaded worker: of 20 and 80 requests a second, only the first is kept up with."""
    sweep, out = Sweep([20.0, 80.0], True, [SweepPolicy()], 1), tmp_path / "sweep.json"

    def start_leg(_: SweepRun) -> tuple[RunState, Observer]:
        return RunState(), Nobody()

    async with served(Mock(workers=1, service_s=0.025, tokens=1)) as url:
        options = RunOptions(url=url, plain=True, requests=40, arrivals="constant")
        whole = await asyncio.wait_for(run_sweep(sweep, options, "mock", out, start_leg), 30)
    assert whole["knees"] == {"as it is": 20.0}
    written = json.loads(out.read_text())
    assert (written["kind"], len(written["points"])) == ("sweep", 2)
    for point in written["points"]:
        assert json.loads((tmp_path / point["file"]).read_text())["kind"] == "load"
