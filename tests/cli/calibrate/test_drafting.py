"""Decodes of the draft model, and agreement with the target, with modelled compute."""

import json
from pathlib import Path

import pytest

from cli.calibrate import agreement
from cli.calibrate.drafting import REPEATS, SESSIONS, measure_decodes
from shared.compute.modelled_drafter import ROW_SHARE
from tests.cli.calibrate.worlds import Clock, TimedDrafter, TimedTarget


def test_a_decode_by_sessions_in_it() -> None:
    drafter = TimedDrafter(Clock(), draft_ms=10.0)
    ticks: list[str] = []
    found = measure_decodes(drafter, ticks.append, drafter.clock)
    assert found[1] == pytest.approx(10.0, rel=0.1)
    assert found[4] == pytest.approx(10.0 * (1 + 3 * ROW_SHARE), rel=0.1)
    assert len(ticks) == len(SESSIONS) * REPEATS
    assert not drafter.sessions()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_alpha_is_the_drafters(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "chat_prompts", lambda *_: [[n + 1] * 20 for n in range(8)])
    monkeypatch.setattr(agreement, "stop_ids", lambda _: set())
    target, drafter = TimedTarget(Clock()), TimedDrafter(Clock(), alpha=alpha)
    found = agreement.measure_alpha(target, drafter, Path("none"), lambda _: None)
    assert list(found) == [0.0, 1.0]
    assert found[0.0] == pytest.approx(alpha, abs=0.12)
    assert not target.sessions()
    assert not drafter.sessions()


def test_stop_ids_of_either_file(tmp_path: Path) -> None:
    assert agreement.stop_ids(tmp_path) == set()
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert agreement.stop_ids(tmp_path) == {2}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4]}))
    assert agreement.stop_ids(tmp_path) == {3, 4}
