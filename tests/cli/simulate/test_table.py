"""The table of runs: complete at 80 columns."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.simulate.planned_run import PlannedRun
from cli.simulate.table import TableRow, good_share, headings, print_tables
from shared.scenario.scenario import PolicyConfig
from simulator.scenario import SimulatedScenario
from simulator.simulation import Simulation

SCENARIO = SimulatedScenario.model_validate(
    {"about": "x", "devices": [{"alpha": 0.8, "draft": "5 ms"}], "policies": ["outrider"]}
)


def row(
    fields: dict[str, Any], policy: str = "autoregressive", k: int = 0, speed: float | None = None
) -> TableRow:
    simulation = Simulation(SCENARIO, PolicyConfig(policy=policy, k=k), 1)
    figures = {
        "output_throughput": 12345.67,
        "median_ttft_scheduled_ms": 123456.7,
        "median_tpot_ms": 1234.56,
        "request_goodput": 1.5,
        "duration": 60.0,
        "completed": 90,
        "failed": 10,
    }
    stack = {"alpha": 0.81, "drafted_tokens": 10, "verifier_utilisation": 0.998}
    body = {"figures": figures, "stack": stack, "class": "overloaded", "valid": True}
    return TableRow(PlannedRun("churn", Path("churn.yaml"), {}, simulation, Path("out"), fields), body, speed)


def printed(*rows: TableRow) -> str:
    console = Console(file=io.StringIO(), width=80, legacy_windows=False)
    print_tables(console, rows)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("fields", "speed"),
    [({}, 123.4), ({"load.rate": 2.5, "devices.0.link.delay": "20 ms"}, None)],
    ids=["alone", "two fields"],
)
def test_wide_values_are_complete_in_one_line_at_80_columns(
    fields: dict[str, Any], speed: float | None
) -> None:
    text = printed(row(fields, speed=speed), row(fields, "fixed-k", 16, speed))
    assert "…" not in text
    line = next(line for line in text.splitlines() if "autoregressive" in line)
    values = [*map(str, fields.values()), "12345.7", "123457", "1234.6", "90%", "0.81", "100%", "overloaded"]
    assert [value for value in values if value not in line] == []


def test_what_does_not_fit_continues_in_the_next_line() -> None:
    fields = {f"devices.{n}.link.bandwidth": "500..2000 kbit" for n in range(4)}
    text = printed(row(fields))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_columns_without_a_value_are_left_out() -> None:
    assert "× real" not in printed(row({}))
    assert "× real" in printed(row({}, speed=2.0))


def test_headings_are_short_unless_two_are_alike() -> None:
    assert headings({"load.rate": 1, "core.verifiers": 2}) == {
        "load.rate": "rate",
        "core.verifiers": "verifiers",
    }
    assert set(headings({"devices.0.alpha": 1, "devices.1.alpha": 2}).values()) == {
        "devices.0.alpha",
        "devices.1.alpha",
    }


def test_the_good_share_is_of_all_requests_that_were_due() -> None:
    assert good_share(row({}).body["figures"]) == pytest.approx(0.9)
    assert good_share({**row({}).body["figures"], "request_goodput": None}) is None
