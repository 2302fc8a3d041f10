"""Commands that load llama.cpp prove it first: one that dies on this CPU is one line and an exit code, not a crash."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.command.errors import ModelError
from cli.models.llama_guard import require_llama
from services.draft_worker import proof
from services.draft_worker.proof import Outcome
from tests.services.draft_worker.dying import DIES, path_with

ROOT = Path(__file__).parents[3]
COMMANDS = {
    "calibrate": ("cli.main", "calibrate", "--no-broker"),
    "compare-drafts": ("cli.main", "models", "compare-drafts", "some"),
    "requantize": ("cli.main", "models", "requantize", "some", "Q4_0"),
    "bench drafting": ("cli.bench.drafting", "--model", "some.gguf"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_llama_cpp_that_dies_ends_the_command_with_one_line(command: str, tmp_path: Path) -> None:
    source = tmp_path / "models" / "some" / "source.gguf"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"GGUF")
    env = path_with(tmp_path / "path", DIES) | {"OUTRIDER_CACHE": str(tmp_path)}
    env["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", *COMMANDS[command]],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "llama.cpp as installed here dies of an illegal instruction (SIGILL); rebuild with `" in last
    assert "Traceback" not in done.stderr


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """Outcomes of the proof, in the order in which they are taken."""
    left: list[Outcome] = []
    monkeypatch.setattr(proof, "prove", lambda: left.pop(0))
    require_llama.cache_clear()
    return left


def test_a_llama_cpp_that_works_is_proved_once(outcomes: list[Outcome]) -> None:
    outcomes.append(Outcome())
    require_llama()
    require_llama()
    assert outcomes == []


def test_a_failure_is_an_error_each_time(outcomes: list[Outcome]) -> None:
    outcomes += [Outcome(fault=signal.SIGILL)] * 2
    for _ in range(2):
        with pytest.raises(ModelError, match="SIGILL"):
            require_llama()


def test_a_proof_that_could_not_be_made_is_reported_only(
    outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes.append(Outcome(error="killed", conclusive=False))
    require_llama()
    assert capsys.readouterr().err == "llama.cpp is not proved: killed\n"
