"""Plans from options: defaults and conflicts."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from loadgen.__main__ import app
from loadgen.commands.run import run
from loadgen.run.options import RunOptions, command, flags
from loadgen.run.plan import URL, OptionError, endpoint, make_plan
from loadgen.run.runner import ClosedLoop, Endpoint, RunPlan
from loadgen.workload.schedule import ScheduledRequest
from shared.runtime.stack_state import State, claim, start_of, write_state

HERE = Endpoint("http://127.0.0.1:8000")
TRACES = Path(__file__).parents[1] / "traces"


def plan(**options: Any) -> RunPlan:
    return make_plan(RunOptions(**options), HERE, "m")


def schedule(**options: Any) -> list[ScheduledRequest]:
    load = plan(**options).load
    assert not isinstance(load, ClosedLoop)
    return list(load)


def test_the_default_is_a_hundred_poisson_arrivals_at_one_per_second() -> None:
    times = [planned.at for planned in schedule()]
    assert len(times) == 100
    assert 60 < times[-1] < 150


def test_a_duration_alone_limits_the_run() -> None:
    times = [planned.at for planned in schedule(rate_per_s=50.0, duration_s=10.0)]
    assert 400 < len(times) < 600
    assert times[-1] < 10


def test_concurrency_makes_a_closed_loop() -> None:
    load = plan(concurrency=4, think_s=0.5).load
    assert load == ClosedLoop(4, 0.5, 100, None)
    assert plan(concurrency=4, duration_s=9.0).load == ClosedLoop(4, 0.0, None, 9.0)


def test_a_trace_sets_lengths_and_synthetic_prompts() -> None:
    planned = schedule(trace=TRACES / "burstgpt.csv", time_scale=0.1)
    assert [len(p.request.prompt) for p in planned] == [472, 1087, 417]
    assert len(schedule(trace=TRACES / "burstgpt.csv", requests=2)) == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rate_per_s": 1.0, "concurrency": 2}, "--rate and --concurrency"),
        ({"stages": "1:2", "trace": Path("x")}, "--stages and --trace"),
        ({"think_s": 1.0}, "give --concurrency"),
        ({"burstiness": 0.5}, "give --arrivals gamma"),
        ({"time_scale": 2.0}, "give --trace"),
        ({"warmup_s": -1.0}, "--warmup -1.0"),
        ({"rate_per_s": 0.001, "duration_s": 1.0, "seed": 3}, "no request arrives"),
    ],
)
def test_conflicting_options_are_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        plan(**options)


def written(folder: Path, pid: int) -> State:
    """An up.json of a process, as a stack writes it."""
    url, metrics = "http://127.0.0.1:81", ("http://x/metrics",)
    state = State(pid, start_of(pid), "a", url, "redis://127.0.0.1:82/0", "", metrics, {})
    write_state(folder, state)
    return state


def test_a_running_stack_is_found_by_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OUTRIDER_STATE", raising=False)
    assert endpoint(RunOptions()) == Endpoint(URL)
    lock = claim(tmp_path / ".outrider")
    try:
        state = written(tmp_path / ".outrider", os.getpid())
        assert endpoint(RunOptions()) == Endpoint(state.url, metrics=state.metrics, broker=state.broker_url)
        assert endpoint(RunOptions(url="http://other")) == Endpoint("http://other")
        monkeypatch.setenv("OUTRIDER_STATE", str(tmp_path / "elsewhere"))
        assert endpoint(RunOptions()) == Endpoint(URL)
        (tmp_path / ".outrider").rename(tmp_path / "elsewhere")
        assert endpoint(RunOptions()).url == state.url
    finally:
        lock.release()


def test_a_stale_state_counts_as_no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_STATE", str(tmp_path))
    claim(tmp_path).release()  # the stack has ended: nobody holds its lock
    written(tmp_path, os.getpid())
    assert endpoint(RunOptions()) == Endpoint(URL)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"url": "http://127.0.0.1:81"}', '{"url": 1, "metrics": 2}', "null"]
)
def test_a_malformed_state_counts_as_no_stack(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTRIDER_STATE", str(tmp_path))
    lock = claim(tmp_path)
    try:
        (tmp_path / "up.json").write_text(text)
        assert endpoint(RunOptions()) == Endpoint(URL)
    finally:
        lock.release()


def test_every_option_is_stated_once_and_has_its_flag() -> None:
    """The command line's defaults are those of RunOptions, and every field has an option."""
    runner = typer.main.get_command(_app())
    given = runner.make_context("run", []).params
    assert RunOptions(**given) == RunOptions()
    options = {option.name: option.opts for option in runner.params}
    assert {name: opts[0] for name, opts in options.items()} == flags()
    assert options["quiet"] == ["--quiet", "-q"]
    assert (flags()["warmup_s"], flags()["assertions"], flags()["api_key"]) == (
        "--warmup",
        "--assert",
        "--api-key",
    )


def test_options_are_parsed() -> None:
    words = shlex.split(
        "--rate 2 --duration 30 --think 0.5 --group a --group b --assert x<1 --trace t.csv -q"
    )
    assert RunOptions(**typer.main.get_command(_app()).make_context("run", words).params) == RunOptions(
        rate_per_s=2.0,
        duration_s=30.0,
        think_s=0.5,
        group=["a", "b"],
        assertions=["x<1"],
        trace=Path("t.csv"),
        quiet=True,
    )


def _app() -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(command(run))
    return app


def test_a_result_names_options_as_on_the_command_line() -> None:
    config = plan(rate_per_s=2.0, warmup_s=1.0, api_key="hush").config
    assert (config["rate"], config["warmup"], config["time_scale"]) == (2.0, 1.0, 1.0)
    assert not config.keys() & {"rate_per_s", "api_key", "out", "quiet"}


def test_secrets_are_not_in_the_result() -> None:
    config = plan(api_key="hush", broker="redis://u:hush@h/0").config
    assert "hush" not in json.dumps(config, default=str)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["run", "--url", "http://127.0.0.1:9"], "no server answers at http://127.0.0.1:9"),
        (["sweep", "--policies", "outrider"], "either --rates or --users"),
        (["sweep", "--rates", "x"], "--rates 'x'"),
        (["sweep", "--rates", "1", "--out", "sweep"], "for example sweep.json"),
        (["sweep", "--rates", "1", "--out", "."], "give a name"),
        (
            ["sweep", "--rates", "1", "--out", "/dev/null/s.json"],
            "--out /dev/null/s.json: /dev/null is not a folder",
        ),
        (["run", "--out", "/"], "--out / is a folder"),
        (["fleet", "gone.yaml", "--broker", "redis://127.0.0.1:9/0", "--out", "/"], "--out / is a folder"),
        (["mock-server", "--fault", "cut"], "--fault cut"),
        (["compare", "a.json", "b.json"], "a.json: No such file"),
        (["report", "a.json"], "a.json: No such file"),
        (["fleet", "gone.yaml", "--broker", "redis://127.0.0.1:9/0"], "gone.yaml"),
    ],
)
def test_errors_are_one_line_and_code_2(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.output.startswith("loadgen: ")
    assert why in result.output
    assert result.output.count("\n") == 1
