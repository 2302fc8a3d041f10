"""`outrider plan` as a process: JSON in, JSON out, and errors for bad queries."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.shared.planning.test_profile import PROFILE

QUESTION: dict[str, Any] = {
    "server": {
        "law": "padded",
        "layers": 64,
        "hidden": 5120,
        "ffn": 25600,
        "c": 1.2077e-11,
        "beta_ms": 95.1074,
        "memory_bytes": 8.0e10,
    },
    "max_draft": 20,
    "min_draft": 1,
    "min_batches": 1,
    "max_batches": None,
    "objective": "throughput",
    "solver": "auto",
    "users": [
        {
            "id": f"u{m}",
            "alpha": 0.95,
            "prefix": 512,
            "draft_ms_per_token": 33.914511,
            "comm_ms": 3.0,
            "weight": 1.0,
        }
        for m in range(6)
    ],
}


def outrider_plan(query: object, *more: str) -> subprocess.CompletedProcess[str]:
    text = query if isinstance(query, str) else json.dumps(query)
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "plan", *more],
        input=text,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_papers_second_headline() -> None:
    done = outrider_plan(QUESTION)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["tokens_per_s"] >= 117.5596 - 5e-5
    assert sorted(user for batch in plan["batches"] for user in batch) == [f"u{m}" for m in range(6)]
    assert set(plan["draft_lengths"]) == {f"u{m}" for m in range(6)}
    assert plan["tokens_per_s"] == pytest.approx(1e3 * plan["expected_tokens"] / plan["cycle_ms"])
    assert plan["solver"] == "exact"
    assert plan["plan_ms"] > 0


def changed(**fields: object) -> dict[str, Any]:
    return {**QUESTION, **fields}


def with_user(**fields: object) -> dict[str, Any]:
    return changed(users=[{**QUESTION["users"][0], **fields}])


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("not json", "not JSON"),
        ("[]", "server"),
        (changed(users=[]), "users"),
        (changed(user=[]), "user"),
        (changed(solver="magic"), "solver"),
        (changed(objective="best"), "objective"),
        (changed(min_draft=21), "min_draft"),
        (changed(min_batches=3, max_batches=2), "min_batches"),
        (changed(min_batches=7), "min_batches"),
        (changed(server={**QUESTION["server"], "memory_bytes": 1.0}), "memory_bytes"),
        (changed(server={**QUESTION["server"], "law": "magic"}), "server"),
        (changed(server={**QUESTION["server"], "c": -1.0}), "server.c"),
        (changed(users=QUESTION["users"] + QUESTION["users"][:1]), "'u0'"),
        (with_user(alpha=1.0), "users.0.alpha"),
        (with_user(alpha=math.nan), "users.0.alpha"),
        (with_user(draft_ms_per_token=0.0), "users.0.draft_ms_per_token"),
        (with_user(comm_ms=-1.0), "users.0.comm_ms"),
        (with_user(comm_ms=math.inf), "users.0.comm_ms"),
        (with_user(weight=0), "users.0.weight"),
        (with_user(speed=3), "users.0.speed"),
    ],
)
def test_the_error_of_a_bad_query_names_the_field(query: object, named: str) -> None:
    text = query if isinstance(query, str) else json.dumps(query)
    done = CliRunner().invoke(app, ["plan"], input=text)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_calibrated_profile_gives_the_server(tmp_path: Any) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(PROFILE))
    without = {key: value for key, value in QUESTION.items() if key != "server"}
    done = outrider_plan(without, "--profile", str(profile))
    assert done.returncode == 0, done.stderr
    profile.write_text(json.dumps({**PROFILE, "threads": 0}))
    done = outrider_plan(without, "--profile", str(profile))
    assert done.returncode == 1
    assert f"{profile}: threads: " in done.stderr


def test_a_profile_gives_the_server_once(tmp_path: Any) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"server": QUESTION["server"], "date": "today"}))
    without = {key: value for key, value in QUESTION.items() if key != "server"}
    assert outrider_plan(without, "--profile", str(profile)).returncode == 0
    both = outrider_plan(QUESTION, "--profile", str(profile))
    assert both.returncode == 1
    assert "server" in both.stderr
