"""The command: what it writes and when, what it says, and how errors read."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.calibrate import agreement, pair, run, stack
from cli.calibrate.grid import QUICK, Grid
from cli.calibrate.measured import profile_of
from cli.calibrate.report import print_profile
from cli.command.errors import CommandError, ProcessFailed
from shared.planning.cost import Packed
from shared.planning.profile import AtUsers, BrokerCosts, read_profile
from tests.cli.calibrate.worlds import LAW, MEASURED, MODEL

BROKER = BrokerCosts(
    batch_ms=4.0,
    users=(AtUsers(users=8, batches=55, cycle_ms=80.0, batch_ms=4.0, gap_ms=3.5, pass_over_fit=1.01),),
)


def options(tmp_path: Path, **fields: object) -> run.CalibrateOptions:
    base = run.CalibrateOptions(
        target="small",
        draft="",
        dtype="auto",
        device="auto",
        threads=0,
        grid=QUICK,
        quick=True,
        broker=True,
        out=tmp_path / "state" / "profile.json",
        state_dir=tmp_path / "state",
    )
    return replace(base, **fields)  # type: ignore[arg-type]


measure_models = run.measure_models  # the fixture below replaces the module's


@pytest.fixture(autouse=True)
def measured_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "resolve", lambda *_: (MODEL.folder, MODEL.draft, MODEL.name))
    monkeypatch.setattr(run, "measure_models", lambda *_: (MODEL, MEASURED))
    monkeypatch.setattr(run, "require_llama", lambda: None)


def broker(answer: Callable[[Packed], BrokerCosts]) -> object:
    async def measure(model: object, law: Packed, *_: object, **__: object) -> BrokerCosts:
        return answer(law)

    return measure


def test_the_laws_are_of_the_running_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Packed] = []

    def answer(law: Packed) -> BrokerCosts:
        given.append(law)
        return BROKER

    monkeypatch.setattr(run, "measure_broker", broker(answer))
    run.run_calibrate(options(tmp_path))
    profile = read_profile(tmp_path / "state" / "profile.json")
    assert profile.pass_beta_ms.packed == pytest.approx(LAW.beta_ms, rel=1e-3)
    assert profile.server.beta_ms == profile.pass_beta_ms.packed + 4.0
    assert profile.padded.beta_ms == profile.pass_beta_ms.padded + 4.0
    assert given[0].beta_ms == profile.pass_beta_ms.packed
    assert profile.server.memory_bytes == MODEL.pool_tokens * MODEL.kv_bytes
    assert profile.errors.packed.mean < 1e-3
    assert profile.padded.memory_bytes > 4 * 30 * 576 * MODEL.pool_tokens


def test_a_stack_that_fails_leaves_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Packed) -> BrokerCosts:
        raise ProcessFailed("verifier ended with code 2: OUTRIDER_X")

    monkeypatch.setattr(run, "measure_broker", broker(fail))
    with pytest.raises(CommandError, match=r"OUTRIDER_X\. The profile is at .*without the broker's share"):
        run.run_calibrate(options(tmp_path))
    profile = read_profile(tmp_path / "state" / "profile.json")
    assert profile.broker is None
    assert profile.server.beta_ms == profile.pass_beta_ms.packed


def test_without_a_broker_no_stack_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure_broker", None)
    run.run_calibrate(options(tmp_path, broker=False))
    assert read_profile(tmp_path / "state" / "profile.json").broker is None


def test_a_folder_in_the_files_place_is_seen_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "measure_models", None)
    with pytest.raises(CommandError, match=r"--out .*: is a folder"):
        run.run_calibrate(options(tmp_path, out=tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="--out "):
        run.run_calibrate(options(tmp_path, out=tmp_path / "file" / "profile.json"))


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="OUTRIDER_DTYPE='float16'"):
        run.run_calibrate(options(tmp_path, dtype="float16"))


def test_a_grid_beyond_the_pool_is_refused_before_a_model_is_loaded() -> None:
    large = Grid((16,), (1, 2), (4096,), 1)
    files = (Path("none"), Path("none"))
    with pytest.raises(CommandError, match=r"need 65792 KV tokens, OUTRIDER_KV_TOKENS is 16384; measure"):
        measure_models(Console(file=StringIO()), "none", *files, pair.settings(), large)
    long = Grid((1,), (1, 2), (9000,), 1)
    with pytest.raises(CommandError, match=r"9002 tokens together, OUTRIDER_MAX_CONTEXT is 8192; measure"):
        measure_models(Console(file=StringIO()), "none", *files, pair.settings(), long)


def test_everything_is_told() -> None:
    out = StringIO()
    profile = profile_of(MODEL, MEASURED, 0.1, quick=False)
    print_profile(Console(file=out, width=160), profile.with_broker(BROKER))
    text = out.getvalue()
    for part in ("packed: 60 + 2 · new", "2 or 3", "8.0 ms with 1", "0.85 at temperature 0", "1.01"):
        assert part in text
    assert "beta_ms for planners: 64, of which pass 60 and broker 4" in text
    assert "measure again" not in text
    slow = BROKER.users[0].model_copy(update={"pass_over_fit": 2.0})
    print_profile(
        Console(file=out, width=160), profile.with_broker(BrokerCosts(batch_ms=60.0, users=(slow,)))
    )
    assert "measure again while nothing else runs" in out.getvalue()


def test_a_law_that_does_not_hold_is_told_to_be_so() -> None:
    noisy = [replace(one, ms=one.ms * (1 + at % 3)) for at, one in enumerate(MEASURED.passes)]
    out = StringIO()
    print_profile(
        Console(file=out, width=160), profile_of(MODEL, replace(MEASURED, passes=noisy), 0.1, quick=False)
    )
    assert "The mean error is large" in out.getvalue()


def test_the_command_teaches_and_errors_are_one_line() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "cli.main", "calibrate", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--no-broker" in shown.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "cli.main", "calibrate", "--widths", "two"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.strip().startswith("outrider: --widths two: must be positive integers")
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.model
@pytest.mark.slow
def test_the_real_pair_and_a_real_stack(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny grid: that every part works together, not what it measures."""
    monkeypatch.setattr(agreement, "TOKENS", 16)
    grid = Grid((1, 4), (1, 4, 8), (32, 64), 1)
    files = (models_dir / "target", models_dir / "draft.gguf")
    verifier = pair.settings(dtype="float32")
    model, figures = measure_models(Console(file=StringIO()), "smollm2", *files, verifier, grid)
    profile = profile_of(model, figures, 0.0, quick=True)
    assert (model.dtype, model.device, model.layers, model.kv_bytes) == ("float32", "cpu", 30, 46080)
    assert all(alpha > 0.3 for alpha in figures.alphas.values())
    law = Packed(profile.pass_beta_ms.packed, profile.server.per_token_ms, profile.server.per_context_ms)
    found = asyncio.run(stack.measure_broker(model, law, tmp_path, lambda _: None, quick=True))
    assert [one.users for one in found.users] == [4, 8]
    assert all(one.gap_ms > 0 for one in found.users)
