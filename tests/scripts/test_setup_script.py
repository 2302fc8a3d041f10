"""scripts/setup.py: where torch comes from, what is said when something is missing, when it makes anew."""

import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from services.draft_worker.proof import Outcome

ROOT = Path(__file__).resolve().parents[2]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("outrider_setup", ROOT / "scripts" / "setup.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, version: str, url: str = "file:///wheels/x.whl") -> dict[str, Any]:
    return {"metadata": {"name": name, "version": version}, "download_info": {"url": url}}


def answering(setup: Any, monkeypatch: pytest.MonkeyPatch, local: bool, index: bool, cuda: bool) -> None:
    """pip finds a local CPU wheel or not; torch's index answers or not; the plain pin brings CUDA or not."""

    def resolve(requirement: str, *options: str) -> list[dict[str, Any]] | None:
        if CPU_INDEX in options:
            return [package("torch", "2.13.0+cpu", CPU_INDEX)] if index else None
        if local:
            return [package("torch", "2.13.0+cpu")]
        found = [package("torch", "2.13.0", "https://index/torch.whl")]
        return found if "--no-deps" in options or not cuda else [*found, package("nvidia-cublas", "13")]

    monkeypatch.setattr(setup, "resolve", resolve)
    monkeypatch.setattr(sys, "platform", "linux")


def test_a_local_wheel_comes_first(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(setup, monkeypatch, local=True, index=True, cuda=True)
    words = "2.13.0, CPU wheel that pip finds in /wheels"
    assert setup.torch_source("cpu", "2.13.0") == ("torch==2.13.0", [], words)


def test_then_torchs_own_index(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(setup, monkeypatch, local=False, index=True, cuda=True)
    requirement, options, words = setup.torch_source("cpu", "2.13.0")
    assert (requirement, options) == ("torch==2.13.0+cpu", ["--extra-index-url", CPU_INDEX])
    assert "CPU index" in words


def test_then_the_plain_pin_which_says_what_it_brings(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(setup, monkeypatch, local=False, index=False, cuda=False)
    requirement, options, words = setup.torch_source("cpu", "2.13.0")
    assert (requirement, options) == ("torch==2.13.0", [])
    assert "CUDA" in words
    assert "CUDA packages are included" not in words
    answering(setup, monkeypatch, local=False, index=False, cuda=True)
    requirement, options, words = setup.torch_source("cpu", "2.13.0")
    assert (requirement, options) == ("torch==2.13.0", [])
    assert "CUDA packages are included" in words


def test_cuda_is_never_a_cpu_wheel(setup: Any) -> None:
    assert setup.torch_source("cuda", "2.13.0")[0] == "torch===2.13.0"


def test_a_missing_venv_module_too(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(setup.shutil, "which", lambda name: name if name == "dnf" else None)
    with pytest.raises(setup.SetupError, match="no venv module; dnf install python3-pip"):
        setup.check_machine()


def test_pins_and_fingerprint(setup: Any) -> None:
    pins = setup.pinned()
    assert pins["torch"] == "2.13.0"
    assert {"pip", "setuptools", "llama-cpp-python"} <= set(pins)
    assert setup.fingerprint("cpu") == setup.fingerprint("cpu") != setup.fingerprint("cuda")


def test_a_pin_that_holds_for_some_only_is_not_taken_for_one_that_holds(
    setup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = "a==1 ; python_full_version < '3.11.3'", "a==2 ; python_full_version >= '3.11.3'"
    text = f"# comment\ntorch==2.13.0\npip==26.3  # last\n{old}\n{new}\n"
    (tmp_path / "constraints.txt").write_text(text)
    monkeypatch.setitem(setup.pinned.__globals__, "CONSTRAINTS", tmp_path / "constraints.txt")
    assert setup.pinned() == {"torch": "2.13.0", "pip": "26.3"}


def test_what_the_set_up_itself_needs_is_pinned_everywhere(setup: Any) -> None:
    assert {"pip", "setuptools", "torch", "llama-cpp-python"} <= setup.pinned().keys()


class Environment:
    """An environment with a stamp, whose llama.cpp ends the probe so, and what `make` does to it."""

    def __init__(self, setup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Outcome) -> None:
        self.setup = setup
        self.probed = self.made = 0
        self.outcome = outcome
        self.stamp = tmp_path / "stamp.json"
        import llama_build

        monkeypatch.setattr(setup, "STAMP", self.stamp)
        monkeypatch.setattr(setup, "check_machine", lambda: None)
        monkeypatch.setattr(setup, "set_up", self._set_up)
        monkeypatch.setattr(llama_build.proof, "prove", self._prove)
        monkeypatch.setattr(sys, "argv", ["setup.py"])

    def make(self, **stamped: str) -> tuple[int, int]:
        """How often llama.cpp was probed and the environment made, for a stamp with these fields changed."""
        self.stamp.write_text(json.dumps(self.setup.fingerprint("cpu") | stamped))
        return self.again()

    def again(self) -> tuple[int, int]:
        """The same, with the stamp that is there."""
        self.probed = self.made = 0
        self.setup.main()
        return self.probed, self.made

    def _set_up(self, flavour: str) -> None:
        self.made += 1

    def _prove(self, *_: object) -> Outcome:
        self.probed += 1
        return self.outcome


def test_an_environment_that_lacks_the_proof_alone_is_proved_and_not_made_anew(
    setup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = Environment(setup, monkeypatch, tmp_path, Outcome())
    assert environment.make() == (0, 0)
    assert environment.make(proof="0 x86_64-another") == (1, 0)
    assert environment.again() == (0, 0)
    old = {name: value for name, value in setup.fingerprint("cpu").items() if name != "proof"}
    environment.stamp.write_text(json.dumps(old))
    assert environment.again() == (1, 0)
    assert environment.again() == (0, 0)
    assert environment.make(pins="others", proof="0") == (0, 1)
    environment.stamp.unlink()
    assert environment.again() == (0, 1)


def test_where_llama_cpp_dies_it_is_made_anew(
    setup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Environment(setup, monkeypatch, tmp_path, Outcome(fault=signal.SIGILL))
    assert environment.make(proof="0") == (1, 1)
    assert ".venv: llama.cpp dies of SIGILL; setting it up again\n" in capsys.readouterr().out
    environment.outcome = Outcome(error="llama.cpp as installed here does not work: no such file")
    assert environment.make(proof="0") == (1, 1)
    assert (
        ".venv: llama.cpp as installed here does not work: no such file; setting it up again"
        in capsys.readouterr().out
    )
