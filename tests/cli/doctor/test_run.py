"""The doctor's report, exit code and profile."""

import signal
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.calibrate.measured import Measured
from cli.command.errors import CommandError
from cli.doctor import checks, run
from services.draft_worker import proof
from shared.planning.fit import Timed
from shared.planning.profile import read_profile
from tests.cli.calibrate.worlds import MEASURED, MODEL

MEASURED_COSTS = run.measurements(MEASURED, devices=2)


def console() -> tuple[Console, StringIO]:
    out = StringIO()
    return Console(file=out, width=120), out


def test_figures_are_of_the_passes_with_the_drafts_context() -> None:
    passes = [Timed(1, 1, 128, 70.0), Timed(1, 9, 128, 90.0), Timed(8, 1, 128, 100.0), Timed(1, 1, 512, 75.0)]
    found = run.measurements(Measured(passes, {1: 8.0}, {0.0: 0.85, 1.0: 0.75}), devices=2)
    assert found.costs.verify_ms == {1: {1: 70.0, 9: 90.0}, 8: {1: 100.0}}
    assert found.costs.alpha == pytest.approx(0.8)


def test_the_figures_the_formula_and_a_verdict_for_every_number_of_users() -> None:
    to, out = console()
    run.report(to, MEASURED_COSTS)
    text = out.getvalue()
    assert "8.0" in text
    assert "26.0" in text
    assert "α: 0.85 at temperature 0, 0.75 at temperature 1; the table below uses their mean, 0.80" in text
    assert "k · draft ms + verify ms" in text
    assert "1 user: speculation pays, " in text
    assert "8 users: speculation pays, " in text


def test_it_writes_the_quick_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure_models", lambda *_: (MODEL, MEASURED))
    to, shown = console()
    out = tmp_path / "state" / "profile.json"
    run.examine(to, MODEL.folder, MODEL.draft, MODEL.name, out)
    profile = read_profile(out)
    assert profile.quick
    assert profile.broker is None
    assert profile.draft.ms_by_sessions == {1: 8.0, 4: 26.0}
    assert str(out) in shown.getvalue()


def test_what_cannot_be_measured_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CommandError("no room for 9 KV tokens; raise OUTRIDER_KV_TOKENS")

    to, out = console()
    well = checks.Finding("x", True, "")
    monkeypatch.setattr(run, "resolve", lambda _: (MODEL.folder, MODEL.draft, MODEL.name))
    monkeypatch.setattr(run, "local", lambda _: well)
    monkeypatch.setattr(checks, "check_llama", lambda: well)
    monkeypatch.setattr(checks, "check_vocabulary", lambda *_: well)
    monkeypatch.setattr(checks, "check_broker", lambda: well)
    monkeypatch.setattr(run, "measure_models", refuse)
    monkeypatch.setattr(run, "Console", lambda **_: to)
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    assert run.run_doctor("smollm2", quick=False, out=tmp_path / "profile.json") == run.EXIT_FAILED
    assert "FAIL measuring: no room for 9 KV tokens" in out.getvalue()


def test_a_llama_cpp_that_dies_is_found_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, out = console()
    dead = proof.Outcome(fault=signal.SIGILL, used=frozenset({"AMX_INT8"}))
    monkeypatch.setattr(proof, "prove", lambda: dead)
    monkeypatch.setattr(run, "resolve", lambda _: (MODEL.folder, MODEL.draft, MODEL.name))
    monkeypatch.setattr(run, "local", lambda _: checks.Finding("models", True, ""))
    monkeypatch.setattr(checks, "check_vocabulary", lambda *_: pytest.fail("llama.cpp is loaded"))
    monkeypatch.setattr(checks, "check_broker", lambda: checks.Finding("broker", True, "is looked at"))
    monkeypatch.setattr(run, "Console", lambda **_: to)
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    assert run.run_doctor("smollm2", quick=True, out=tmp_path / "profile.json") == run.EXIT_FAILED
    text = "".join(out.getvalue().split())
    assert "FAILllama.cpp:" in text
    assert "diesofanillegalinstruction(SIGILL);rebuildwith`CFLAGS=" in text
    assert "islookedat" in text
