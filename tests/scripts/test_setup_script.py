"""scripts/setup.py: where torch comes from, which wheel is this machine's, what is said when something is missing."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def setup() -> Any:
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
    assert "come along" not in words
    answering(setup, monkeypatch, local=False, index=False, cuda=True)
    requirement, options, words = setup.torch_source("cpu", "2.13.0")
    assert (requirement, options) == ("torch==2.13.0", [])
    assert "CUDA packages come along" in words


def test_cuda_is_never_a_cpu_wheel(setup: Any) -> None:
    assert setup.torch_source("cuda", "2.13.0")[0] == "torch===2.13.0"


def test_the_wheel_is_kept_by_version_python_and_cpu(
    setup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    folder = setup.wheel_folder("0.3.36")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert folder == tmp_path / "wheels" / f"0.3.36-{python}-{setup.cpu_key()}"
    assert setup.cached_wheel("0.3.36") is None
    folder.mkdir(parents=True)
    (folder / "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl").touch()
    assert setup.llama_wheel("0.3.36").parent == folder


def test_a_missing_compiler_is_one_line_with_the_package(
    setup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(setup.shutil, "which", lambda name: name if name in ("cc", "apt-get") else None)
    with pytest.raises(
        setup.SetupError, match=r"no C\+\+ compiler to build llama.cpp; apt-get install gcc g"
    ):
        setup.check_machine()


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
