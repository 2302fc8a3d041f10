"""The proof: interpretation of the probe's exit, and messages when llama.cpp crashes, fails or is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.draft_worker import __main__ as worker
from services.draft_worker import proof
from services.draft_worker.proof import Outcome
from shared.runtime.service import EXIT_SETTINGS, BadFile
from shared.runtime.settings import DraftWorkerSettings
from tests.services.draft_worker.dying import DIES, path_with

ROOT = Path(__file__).parents[3]
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
ILLEGAL = "llama.cpp as installed here dies of an illegal instruction (SIGILL); rebuild with `"
LLAMA = DraftWorkerSettings(draft_model="d.gguf")


def test_llama_cpp_as_installed_works() -> None:
    found = proof.prove()
    assert found.works
    assert proof.failure_message(found) == ""
    assert found.used, "it names the instruction sets that it uses"


def test_a_library_that_dies_is_told_with_the_next_safer_build(tmp_path: Path) -> None:
    found = proof.prove(env=path_with(tmp_path, DIES))
    assert found == Outcome(fault=signal.SIGILL, used=frozenset({"AVX2", "AVX512", "AMX_INT8"}))
    message = proof.failure_message(found)
    assert message.startswith(
        f'{ILLEGAL}CFLAGS="{NO_AMX}" CXXFLAGS="{NO_AMX}" {sys.executable} -m pip install '
    )
    assert "--force-reinstall --no-deps" in message
    assert "llama-cpp-python==" in message


def test_a_library_that_does_not_load_is_told_by_its_last_line(tmp_path: Path) -> None:
    found = proof.prove(
        env=path_with(tmp_path, "raise OSError('libgomp.so.1: cannot open shared object file')")
    )
    assert found.conclusive
    assert proof.failure_message(found) == (
        "llama.cpp as installed here does not work: OSError: libgomp.so.1: cannot open shared object file"
    )


def test_what_ends_from_outside_says_nothing_about_llama_cpp(tmp_path: Path) -> None:
    killed = proof.prove(env=path_with(tmp_path, "import os; os.kill(os.getpid(), 9)"))
    assert (killed.works, killed.conclusive) == (False, False)
    assert proof.failure_message(killed) == "the probe of llama.cpp was ended by SIGKILL"
    late = proof.prove(env=path_with(tmp_path, "import time; time.sleep(60)"), limit_s=0.2)
    assert (late.works, late.conclusive) == (False, False)
    assert proof.failure_message(late) == "the probe of llama.cpp did not end within 0.2 s"
    missing = proof.prove(tmp_path / "python")
    assert (missing.works, missing.conclusive) == (False, False)


@pytest.mark.parametrize("fault", list(proof.FAULTS))
def test_every_fault_of_a_process_is_named(fault: signal.Signals) -> None:
    found = proof.outcome(-fault, "", "")
    assert found.fault is fault
    assert f"({fault.name}); rebuild with `CMAKE_ARGS=" in proof.failure_message(found)


def test_an_unknown_signal_is_a_number() -> None:
    found = proof.outcome(-40, "", "")
    assert (found.error, found.conclusive) == ("the probe of llama.cpp was ended by signal 40", False)


def test_an_image_is_not_built_with_it(tmp_path: Path) -> None:
    code, message = run("services.draft_worker.proof", path_with(tmp_path, DIES))
    assert code == EXIT_SETTINGS == proof.EXIT_BROKEN
    assert message.startswith(ILLEGAL)


def test_a_draft_worker_does_not_start_with_it(tmp_path: Path) -> None:
    env = path_with(tmp_path, DIES) | {"OUTRIDER_NAME": "d", "OUTRIDER_DRAFT_MODEL": "/nowhere/d.gguf"}
    code, message = run("services.draft_worker", env)
    assert code == EXIT_SETTINGS
    assert message.startswith(f"draft_worker: {ILLEGAL}")
    assert message.count("\n") == 1


async def test_a_modelled_draft_worker_needs_no_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "prove", lambda: pytest.fail("llama.cpp is tried"))
    await worker.prove_llama(DraftWorkerSettings(drafter="modelled"))


async def test_a_draft_worker_that_could_not_try_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "prove", lambda: Outcome(error="no time", conclusive=False))
    await worker.prove_llama(LLAMA)
    monkeypatch.setattr(proof, "prove", lambda: Outcome(error="no such library"))
    with pytest.raises(BadFile, match="no such library"):
        await worker.prove_llama(LLAMA)


def run(module: str, env: dict[str, str]) -> tuple[int, str]:
    """Exit code and stderr of a module."""
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr
