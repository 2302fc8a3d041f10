"""What a scenario may say of stages."""

from typing import Any

import pytest

from shared.planning.pieces import StageLaw
from shared.scenario.scenario import ScenarioError, checked
from simulator.scenario import SimulatedScenario
from simulator.stages.stages_spec import StagesSpec

STAGES = {"count": 3, "beta_ms": 40, "per_token_ms": 0.5}


def spec(**changed: Any) -> StagesSpec:
    return StagesSpec.model_validate({**STAGES, **changed})


def test_a_law_is_one_for_all_or_one_each() -> None:
    assert spec().laws == (StageLaw(40.0, 0.5),) * 3
    assert spec(beta_ms=[10, 20, 30]).laws == (StageLaw(10, 0.5), StageLaw(20, 0.5), StageLaw(30, 0.5))


def test_a_pass_alone_has_all_stages_hops_and_the_head() -> None:
    piped = spec(hop_ms=2.0, row_ms=0.1, head_ms=5.0, head_row_ms=0.2).whole
    assert (piped.beta_ms, piped.per_token_ms) == (pytest.approx(133.0), pytest.approx(2.0))
    alone = spec(hop_ms=2.0, row_ms=0.1, head_ms=5.0, head_row_ms=0.2, split=False).whole
    assert (alone.beta_ms, alone.per_token_ms) == (pytest.approx(125.0), pytest.approx(1.7))


def scenario(core: dict[str, Any]) -> SimulatedScenario:
    fields = {
        "about": "A test's.",
        "devices": [{"alpha": 0.8, "draft": "5 ms"}],
        "policies": ["fixed-k"],
        "faults": [{"at": "1 s", "kill": "verifier-0-stage-3"}],
        "core": core,
    }
    return checked(SimulatedScenario, fields, "here")


def test_stages_are_processes_that_faults_may_name() -> None:
    assert "verifier-0-stage-3" in scenario({"stages": STAGES}).processes()
    with pytest.raises(ScenarioError, match="no process 'verifier-0-stage-3'"):
        scenario({"stages": {**STAGES, "split": False}})


@pytest.mark.parametrize(
    ("core", "line"),
    [
        ({"stages": {**STAGES, "beta_ms": [1, 2]}}, "beta_ms: give one number, or one for each of 3 stages"),
        ({"stages": {**STAGES, "beta_ms": 0, "per_token_ms": 0}}, "has to take some time"),
        ({"stages": {**STAGES, "trees": {"p1": 0.2}}}, r"core\.stages\.trees\.p1"),
        ({"stages": {**STAGES, "hops": 1}}, r"core\.stages\.hops: no such field"),
        (
            {
                "stages": STAGES,
                "server": {
                    "law": "packed",
                    "beta_ms": 1,
                    "per_token_ms": 1,
                    "per_context_ms": 0,
                    "memory_bytes": 1e9,
                    "kv_bytes_per_token": 1,
                },
            },
            "server, stages: give one of them",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(core: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line):
        scenario(core)
