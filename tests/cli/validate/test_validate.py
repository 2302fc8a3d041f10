"""The command: what it refuses, and a whole validation with a modelled core."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from cli.command.errors import CommandError
from cli.main import app
from cli.validate.drafters import check_links
from shared.scenario.scenario import read_scenario

ROOT = Path(__file__).resolve().parents[3]
SMALL = """
about: two devices
devices: [{count: 2, alpha: 0.8, draft: 5 ms, link: {delay: 5 ms}}]
workload: {prompt: 24, answer: 12, think: 0.1..0.3 s}
policies: [greedy-batch, {policy: fixed-k, k: 3}]
settle: 1 s
measure: 3 s
"""


def validated(folder: Path, *options: str, small: str = SMALL) -> Result:
    """`outrider validate` on one small scenario; the tuning one has another delay."""
    (folder / "small.yaml").write_text(small, encoding="utf-8")
    (folder / "tuning.yaml").write_text(small.replace("delay: 5 ms", "delay: 9 ms"), encoding="utf-8")
    arguments = ["validate", str(folder / "small.yaml"), "--tuning", str(folder / "tuning.yaml")]
    arguments += ["--out", str(folder / "out"), "--state", str(folder / "state"), *options]
    return CliRunner(env={"PYTHONPATH": str(ROOT)}).invoke(app, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("surprise: 1", "surprise: "),
        ("load: {rate: 2}", "only `outrider simulate` knows load"),
        ("policies: [{policy: cyclic-k, batches: 3}]", "a running stack does not change batches"),
    ],
)
def test_scenarios_that_cannot_run_live_are_refused(tmp_path: Path, change: str, message: str) -> None:
    name = change.partition(":")[0]
    kept = "\n".join(line for line in SMALL.splitlines() if not line.startswith(f"{name}:"))
    done = validated(tmp_path, "--modelled", small=f"{kept}\n{change}\n")
    assert done.exit_code == 1
    assert message in done.stderr


def test_real_drafters_have_no_emulated_links(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    with pytest.raises(CommandError, match=r"devices\.0\.link: --drafters run on this machine"):
        check_links(read_scenario(path), path)
    check_links(read_scenario(ROOT / "scenarios" / "drafters.yaml"), path)


def test_real_drafters_are_in_no_cell(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    given = {**yaml.safe_load(SMALL), "cells": [{"id": "c1", "bandwidth": "8 kbit"}]}
    given["devices"][0]["cell"] = "c1"
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    with pytest.raises(CommandError, match=r"devices\.0\.cell: --drafters are processes of their own"):
        check_links(read_scenario(path), path)


def test_no_live_needs_kept_runs(tmp_path: Path) -> None:
    done = validated(tmp_path, "--modelled", "--no-live")
    assert done.exit_code == 1
    assert "--no-live: tuning, small: not all live runs are kept" in done.stderr


def test_tuned_needs_a_profile_with_serving_costs(tmp_path: Path) -> None:
    done = validated(tmp_path, "--modelled", "--tuned")
    assert done.exit_code == 1
    assert "a modelled core has no profile" in done.stderr


def test_unknown_profiles_are_refused(tmp_path: Path) -> None:
    done = validated(tmp_path, "--profile", str(tmp_path / "none.json"))
    assert done.exit_code == 1
    assert "none.json" in done.stderr


@pytest.mark.slow
def test_a_whole_validation_with_a_modelled_core(tmp_path: Path) -> None:
    done = validated(tmp_path, "--modelled", "--repeats", "1")
    assert done.exit_code == 0, done.output
    body = json.loads((tmp_path / "out" / "validation.json").read_text(encoding="utf-8"))
    assert [cell["policy"] for cell in body["cells"]] == ["greedy-batch", "fixed-k k=3"]
    for cell in body["cells"]:
        assert cell["live"]["round p50"] == pytest.approx(cell["simulated"]["round p50"], rel=0.5)
        assert cell["requests"][0] > 0
    assert (tmp_path / "out" / "validation.png").stat().st_size > 1000
    assert body["serving"]["fitted_on"] == ["tuning greedy-batch", "tuning fixed-k k=3"]

    again = validated(tmp_path, "--modelled", "--repeats", "1", "--no-live")
    assert again.exit_code == 0, again.output
    repeated = json.loads((tmp_path / "out" / "validation.json").read_text(encoding="utf-8"))
    assert (
        repeated["cells"] == body["cells"]
    )  # live runs are kept, and the same seeds give the same simulations
