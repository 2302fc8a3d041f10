"""What the doctor says and writes."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from services.doctor import hardware, run
from services.doctor.payoff import Costs

MEASURED = run.Measured(
    costs=Costs(
        alpha=0.8,
        draft_ms={1: 8.0, 4: 26.0},
        verify_ms={1: {1: 70.0, 9: 90.0}, 8: {1: 100.0, 9: 220.0}},
        devices=2,
    ),
    alphas={0.0: 0.85, 1.0: 0.75},
    busy_before=0.1,
    target_dtype="float32",
)


def test_the_figures_the_formula_and_a_verdict_for_every_number_of_users() -> None:
    out = StringIO()
    run.tell(Console(file=out, width=120), MEASURED)
    text = out.getvalue()
    assert "8.0" in text
    assert "26.0" in text
    assert "α: 0.85 at temperature 0, 0.75 at temperature 1; 0.80 taken below" in text
    assert "k · draft ms + verify ms" in text
    assert "1 user: speculation pays, " in text
    assert "8 users: speculation pays, " in text


def test_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "hardware", lambda: {"cpu": "a chip", "cores": 2})
    out = tmp_path / "state" / "profile.json"
    run.write(out, "smollm2", MEASURED)
    profile = json.loads(out.read_text())
    assert profile["hardware"]["cpu"] == "a chip"
    assert profile["versions"]["python"]
    assert profile["draft_ms_by_sessions"] == {"1": 8.0, "4": 26.0}
    assert profile["verify_ms_by_rows_and_new_tokens"]["8"] == {"1": 100.0, "9": 220.0}
    assert profile["expected_tokens_per_s_by_users_and_k"]["8"][0] == 80.0
    assert profile["best_k_by_users"]["1"] > 0
    assert [path.name for path in out.parent.iterdir()] == ["profile.json"]
