"""The runs of the options: which there are, where their results go, and what is refused before the first."""

from pathlib import Path
from typing import Any

import pytest

from cli.command.errors import CommandError
from cli.simulate.finished import inputs_hash
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import PlannedRun, plan_runs
from cli.simulate.sweep_field import parse_sweep
from shared.scenario.scenario import ScenarioError
from tests.cli.simulate.scenarios import LOADED, PLAIN, written

PROFILE = Path(__file__).resolve().parents[3] / "docs" / "results" / "profile-smollm2-bfloat16.json"


def planned(folder: Path, *sweep: str, text: str = LOADED, **options: Any) -> list[PlannedRun]:
    return plan_runs(
        SimulateOptions([written(folder, text)], sweep=sweep, out=folder / "out", **options),
        parse_sweep(sweep),
    )


def test_every_policy_runs(tmp_path: Path) -> None:
    runs = planned(tmp_path)
    assert [run.name for run in runs] == ["small fixed-k k=2", "small greedy-batch"]
    assert [run.result for run in runs] == [
        tmp_path / "out" / "small" / f"{name}.json" for name in ("fixed-k-k=2", "greedy-batch")
    ]


def test_only_names_policies_with_their_lengths(tmp_path: Path) -> None:
    names = [run.policy for run in planned(tmp_path, only="fixed-k,fixed-k:5,outrider")]
    assert names == ["fixed-k k=2", "fixed-k k=5", "outrider"]


def test_every_combination_of_values_runs(tmp_path: Path) -> None:
    runs = planned(tmp_path, "load.rate=1,2", "devices.*.link.delay=5 ms,40 ms", "core.verifiers=1,2,3")
    assert len(runs) == len({run.result for run in runs}) == 2 * 2 * 3 * 2
    last = runs[-1]
    assert last.fields == {"load.rate": 2, "devices.*.link.delay": "40 ms", "core.verifiers": 3}
    assert last.file.name == "load.rate=2,devices.all.link.delay=40ms,core.verifiers=3.yaml"
    assert last.simulation.scenario.core.verifiers == 3
    assert {device.delay_ms for device in last.simulation.devices} == {40.0}
    assert last.simulation.plan is not None
    assert last.simulation.plan.config["rate"] == 2


def test_policies_lengths_and_seeds_are_swept(tmp_path: Path) -> None:
    runs = planned(tmp_path, "policy=fixed-k,cyclic-k", "k=1,3", "seed=4,5")
    assert {(run.policy, run.simulation.seed) for run in runs} == {
        (f"{policy} k={k}", seed) for policy in ("fixed-k", "cyclic-k") for k in (1, 3) for seed in (4, 5)
    }


@pytest.mark.parametrize(
    ("sweep", "error"),
    [
        ("load.rate=1,0", "--sweep load.rate=0: load: a rate of 0.0 requests/s"),
        ("load.rte=1", "--sweep load.rte=1: load.rte: no such option"),
        ("core.verifiers=1,0", "--sweep core.verifiers=0: core.verifiers: Input should be greater"),
        ("devices.0.link.delay=5 ms,20", "devices.0.link.delay: a time needs a unit"),
        ("devices.1.alpha=0.5", "devices has the elements 0 to 0"),
        ("core.verifers=1", "core.verifers: no such field"),
        ("load.prompt-tokens=64,9000", "9000 and an answer of 8 tokens do not fit core.context, 8192"),
        ("load.device=device-9", "no device 'device-9'; there are device-0 … device-2"),
        ("workload.answer=8,16", "--sweep workload.answer: the scenario's load says what users send"),
        ("settle=1 s,2 s", "--sweep settle: the load's warmup counts"),
        ("policies.0.k=1,2", "--sweep policies.0.k: sweep policy or k"),
        ("about=a,b", "--sweep about: it has no effect"),
        ("policy=fixed-k,foo", "policy 'foo': give POLICY, POLICY:K, POLICY+WINDOW or POLICY@BANDWIDTH"),
        ("k=1,2", "--sweep k: greedy-batch chooses lengths by itself"),
        ("k=0", "--sweep k: 0 is not a draft length from 1 to 64"),
        ("seed=" + ",".join(map(str, range(1, 10_002))), "10001 combinations"),
    ],
)
def test_an_impossible_sweep_is_refused_and_names_its_field(tmp_path: Path, sweep: str, error: str) -> None:
    with pytest.raises((CommandError, ScenarioError)) as raised:
        planned(tmp_path, sweep)
    assert error in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sweep", "text", "options", "error"),
    [
        ("load.rate=1,2", PLAIN, {}, "--sweep load.rate: the scenario has no load"),
        ("measure=1 s,2 s", PLAIN, {"measure_s": 3.0}, "--sweep measure: --measure sets it"),
        ("seed=1,2", PLAIN, {"seed": 3}, "--sweep seed: --seed sets it"),
        ("policy=outrider", PLAIN, {"only": "fixed-k"}, "--sweep policy: --only chooses policies already"),
        ("core.server.beta_ms=1,2", PLAIN, {"profile": PROFILE}, "the profile's law replaces it"),
    ],
)
def test_a_field_that_an_option_or_the_scenario_overrides_is_refused(
    tmp_path: Path, sweep: str, text: str, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(CommandError, match=error):
        planned(tmp_path, sweep, text=text, **options)


def test_results_never_replace_each_other(tmp_path: Path) -> None:
    twice = PLAIN.replace("greedy-batch", "{policy: fixed-k, k: 2, batches: 3}")
    with pytest.raises(CommandError, match="would replace that of small fixed-k k=2"):
        planned(tmp_path, text=twice)


def test_equal_inputs_have_equal_hashes_and_others_do_not(tmp_path: Path) -> None:
    one, other = planned(tmp_path, "load.rate=1,2", only="outrider")
    again = planned(tmp_path, "load.rate=2,1", only="outrider")[1]
    assert inputs_hash(one) == inputs_hash(again)
    others = [
        other,
        *planned(tmp_path, "load.rate=1", only="fixed-k"),
        *planned(tmp_path, "load.rate=1", seed=9),
    ]
    others += planned(tmp_path, "load.rate=1", only="outrider", trace=True)
    others += planned(tmp_path, "load.rate=1", only="outrider", profile=PROFILE)
    assert len({inputs_hash(run) for run in [one, *others]}) == 1 + len(others)
