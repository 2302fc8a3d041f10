"""`outrider bench policies`, whole: real services and verifier, two emulated devices, users who come and go."""

import json
from pathlib import Path

import pytest

from cli.command.errors import CommandError
from cli.race.policy_bench import PolicyBenchOptions, run_policies, verify_ms, with_policies
from shared.planning.profile import read_profile
from shared.scenario.scenario import read_scenario
from tests.shared.planning.test_profile import PROFILE, write

SCENARIO = """
about: two of a kind
devices: [{count: 2, alpha: 0.8, draft: 4 ms, link: {delay: 1 ms, jitter: 1 ms}}]
workload: {prompt: 40, answer: 48, stay: 1 s, away: 0.2 s}
policies: [{policy: fixed-k, k: 2}, outrider]
settle: 0.5 s
measure: 3 s
"""


def options(folder: Path, profile: Path) -> PolicyBenchOptions:
    scenario = folder / "two.yaml"
    scenario.write_text(SCENARIO)
    return PolicyBenchOptions(
        [scenario], "smollm2", "float32", 1, 0, 0, False, profile, folder / "out", folder / "state"
    )


@pytest.mark.model
@pytest.mark.slow
async def test_policies_race_and_every_text_is_the_target_s(tmp_path: Path, models_dir: Path) -> None:
    profile = write(tmp_path / "profile.json", {**PROFILE, "passes": {"1 x 1 @ 128": 30.0}})
    await run_policies(options(tmp_path, profile), models_dir / "target", "smollm2")
    result = json.loads((tmp_path / "out" / "policies-two.json").read_text())
    assert (result["kind"], result["config"]["model"]) == ("policies", "smollm2")
    assert set(result["entrants"]) == {"fixed-k k=2", "outrider"}
    for row in result["entrants"].values():
        assert row["tokens_per_s"] > 2
        assert row["wrong_texts"] == []
        assert row["slowest_user"] > 0
    assert result["entrants"]["outrider"]["predicted_tokens_per_s"] > 2
    assert result["ceiling_tokens_per_s"] > 0
    assert (tmp_path / "out" / "policies-two.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "message"),
    [({"model": "another"}, "not of smollm2"), ({"dtype": "bfloat16"}, "outrider calibrate")],
)
async def test_a_profile_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    profile = write(tmp_path / "profile.json", {**PROFILE, **change})
    with pytest.raises(CommandError, match=message):
        await run_policies(options(tmp_path, profile), tmp_path, "smollm2")


def test_the_unit_verify_is_a_pass_of_one_row_of_one_token(tmp_path: Path) -> None:
    some = {"1 x 1 @ 32": 20.0, "1 x 1 @ 128": 30.0, "4 x 1 @ 128": 50.0}
    assert verify_ms(read_profile(write(tmp_path / "a.json", {**PROFILE, "passes": some}))) == 30.0
    with pytest.raises(CommandError, match="--widths"):
        verify_ms(read_profile(write(tmp_path / "b.json", {**PROFILE, "passes": {"4 x 1 @ 128": 50.0}})))


def test_some_policies_of_a_scenario_can_be_chosen(tmp_path: Path) -> None:
    bench = options(tmp_path, tmp_path / "none")
    (path,) = bench.scenarios
    scenario = read_scenario(path)
    assert with_policies(scenario, (), path) == scenario
    assert [str(config) for config in with_policies(scenario, ("outrider",), path).policies] == ["outrider"]
    with pytest.raises(CommandError, match=r"--only dip-sd: .*two\.yaml has fixed-k, outrider"):
        with_policies(scenario, ("dip-sd",), path)
