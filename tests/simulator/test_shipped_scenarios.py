"""The scenarios of this repository: all can be simulated and are listed; live commands read those without a load."""

from pathlib import Path

import pytest

from shared.scenario.scenario import ScenarioError, read_scenario
from simulator.build import stream_limit
from simulator.load import plan_of
from simulator.run import MODEL
from simulator.scenario import read_simulated
from simulator.stack import STREAM_LIMIT

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "scenarios").glob("*.yaml"))
PAGE = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_can_be_simulated_and_is_listed(file: Path) -> None:
    scenario = read_simulated(file)
    plan_of(scenario, scenario.seed, MODEL)
    assert f"`{file.stem}`" in PAGE


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_live_command_reads_it_or_says_why_not(file: Path) -> None:
    scenario = read_simulated(file)
    if scenario.model_fields_set & {"feed", "load", "faults"} or scenario.devices[0].recording:
        with pytest.raises(ScenarioError, match="only `outrider simulate`"):
            read_scenario(file)
    else:
        assert read_scenario(file).devices == scenario.devices


@pytest.mark.parametrize(
    ("name", "devices", "verifiers"),
    [("dsd-fleet", 80, 20), ("thousand", 1000, 16), ("tenthousand", 10_000, 160)],
)
def test_fleets_have_their_sizes(name: str, devices: int, verifiers: int) -> None:
    scenario = read_simulated(ROOT / "scenarios" / f"{name}.yaml")
    assert (len(scenario.device_names()), scenario.core.verifiers) == (devices, verifiers)


def test_streams_of_a_large_fleet_hold_all_of_its_users() -> None:
    """Ten thousand users that come at once submit more requests than the default bound admits."""
    assert stream_limit(len(read_simulated(ROOT / "scenarios" / "tenthousand.yaml").device_names())) == 20_000
    assert stream_limit(14) == STREAM_LIMIT
