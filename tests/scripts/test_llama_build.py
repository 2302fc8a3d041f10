"""scripts/llama_build.py: a build that dies is followed by a safer one, and only what drafts is kept."""

import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from services.draft_worker import builds, proof
from services.draft_worker.proof import Outcome
from tests.services.draft_worker.dying import DIES

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.3.36"
AMX = ["avx2", "avx512f", "amx_tile"]
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
WORKS = Outcome()
ILLEGAL = Outcome(fault=signal.SIGILL)


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module, with a cache of its own and a user who sets no flags."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import llama_build

    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path / "cache"))
    for name in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(llama_build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(llama_build, "cpu_features", lambda: AMX)
    monkeypatch.setattr(llama_build, "unknown_flags", lambda flags: [])
    return llama_build


class Pip:
    """Compiles wheels that hold a llama_cpp of the builds that die, and none of the others; installs into a folder.

    Where the folder has none, the real one of this environment is found.
    """

    def __init__(self, dying: tuple[builds.Build, ...], site: Path) -> None:
        self.dying = [variables_of(build) for build in dying]
        self.site = site
        self.compiled: list[dict[str, str]] = []

    def __call__(self, command: str, *options: object, extra: dict[str, str] | None = None) -> None:
        if command == "wheel":
            assert extra is not None
            flags: dict[str, str] = {name: extra[name] for name in ("CMAKE_ARGS", "CFLAGS") if name in extra}
            self.compiled.append(flags)
            wheel = (
                Path(str(options[options.index("-w") + 1])) / f"llama_cpp_python-{VERSION}-py3-none-any.whl"
            )
            with zipfile.ZipFile(wheel, "w") as file:
                file.writestr("made.txt", str(flags))
                if flags in self.dying:
                    file.writestr("llama_cpp/__init__.py", DIES)
        elif "--force-reinstall" in options:
            shutil.rmtree(self.site / "llama_cpp", ignore_errors=True)
            with zipfile.ZipFile(str(options[-1])) as file:
                file.extractall(self.site)


def variables_of(build: builds.Build) -> dict[str, str]:
    """What a build's compiler is told, C++ left out."""
    environment = build.variables()
    return {"CMAKE_ARGS": f"-DLLAVA_BUILD=OFF {environment.get('CMAKE_ARGS', '')}".strip()} | (
        {"CFLAGS": environment["CFLAGS"]} if "CFLAGS" in environment else {}
    )


def with_pip(llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *dying: builds.Build) -> Pip:
    """A stand-in for compiling and installing; the probe is the real one."""
    pip = Pip(dying, tmp_path / "site")
    pip.site.mkdir()
    path = os.pathsep.join((str(pip.site), os.environ.get("PYTHONPATH", "")))
    monkeypatch.setattr(llama, "pip", pip)
    monkeypatch.setattr(llama, "PYTHON", sys.executable)
    monkeypatch.setattr(llama, "environment", lambda: {**os.environ, "PYTHONPATH": path})
    return pip


def ending(llama: Any, monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome) -> None:
    """The probe ends so, one time after the other."""
    left = list(outcomes)
    monkeypatch.setattr(llama.proof, "prove", lambda *_: left.pop(0))


def kept(llama: Any) -> list[str]:
    """Builds whose wheels are in the cache."""
    return [build.name for build in llama.chain() for _ in llama.wheel_folder(VERSION, build).glob("*.whl")]


def test_a_build_that_dies_is_followed_by_the_next_and_only_what_drafts_is_kept(
    llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builds, "AMX_MENDED", True)
    pip = with_pip(llama, monkeypatch, tmp_path, builds.NATIVE)
    llama.install(VERSION)
    assert pip.compiled == [variables_of(builds.NATIVE), variables_of(builds.NO_AMX)]
    assert kept(llama) == ["no-amx"]
    assert (pip.site / "made.txt").read_text() == str(pip.compiled[-1])
    output = capsys.readouterr().out
    assert "the build for this CPU dies of SIGILL; the next safer build follows\n" in output
    pip.compiled.clear()
    llama.install(VERSION)
    assert pip.compiled == []
    assert list(llama.wheels().glob(".build-*")) == []


def test_a_cpu_with_amx_begins_without_it(
    llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = with_pip(llama, monkeypatch, tmp_path)
    ending(llama, monkeypatch, WORKS)
    llama.install(VERSION)
    assert pip.compiled == [{"CMAKE_ARGS": "-DLLAVA_BUILD=OFF", "CFLAGS": NO_AMX}]


def test_when_every_build_dies_each_is_named_and_none_is_compiled_again(
    llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = with_pip(llama, monkeypatch, tmp_path)
    ending(llama, monkeypatch, ILLEGAL, ILLEGAL, Outcome(fault=signal.SIGSEGV))
    for _ in range(2):
        with pytest.raises(llama.SetupError) as error:
            llama.install(VERSION)
        output = str(error.value)
        assert "for this CPU, without AMX: SIGILL; for this CPU, without AVX-512: SIGILL; " in output
        assert "for any CPU of this kind: SIGSEGV" in output
        assert all(str(llama.wheel_folder(VERSION, build)) in output for build in llama.chain())
    assert len(pip.compiled) == 3
    assert kept(llama) == []


def test_another_probe_tries_again_what_died(
    llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = with_pip(llama, monkeypatch, tmp_path)
    ending(llama, monkeypatch, ILLEGAL, WORKS)
    llama.install(VERSION)
    assert kept(llama) == ["no-avx512"]
    ending(llama, monkeypatch, WORKS)
    monkeypatch.setattr(proof, "VERSION", proof.VERSION + 1)
    llama.install(VERSION)
    assert kept(llama) == ["no-amx", "no-avx512"]
    assert len(pip.compiled) == 3


def test_an_end_from_outside_keeps_nothing_and_blames_nobody(
    llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = with_pip(llama, monkeypatch, tmp_path)
    killed = Outcome(error="the probe of llama.cpp was ended by SIGKILL", conclusive=False)
    ending(llama, monkeypatch, killed, WORKS)
    with pytest.raises(llama.SetupError, match="ended by SIGKILL"):
        llama.install(VERSION)
    assert kept(llama) == []
    llama.install(VERSION)
    assert kept(llama) == ["no-amx"]
    assert pip.compiled[0] == pip.compiled[1]


def test_a_damaged_wheel_is_named(llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_pip(llama, monkeypatch, tmp_path)
    ending(llama, monkeypatch, WORKS, Outcome(error="llama.cpp does not work: file too short"))
    llama.install(VERSION)
    folder = llama.wheel_folder(VERSION, builds.NO_AMX)
    with pytest.raises(llama.SetupError, match=f"file too short; if {folder}/.*whl is damaged, delete it"):
        llama.install(VERSION)


@pytest.mark.parametrize("dies", [False, True])
def test_a_wheel_that_was_never_proved_is_proved_now(
    llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dies: bool
) -> None:
    """As earlier versions left it, in a folder without flags in its name."""
    monkeypatch.setattr(llama, "cpu_features", lambda: ["avx2"])
    pip = with_pip(llama, monkeypatch, tmp_path)
    old = (
        llama.wheels() / llama.platform_key(VERSION) / f"llama_cpp_python-{VERSION}-py3-none-linux_x86_64.whl"
    )
    old.parent.mkdir(parents=True)
    with zipfile.ZipFile(old, "w") as file:
        file.writestr("made.txt", "of old")
    assert llama.at_hand(VERSION)
    ending(llama, monkeypatch, *([ILLEGAL] if dies else []), WORKS)
    llama.install(VERSION)
    assert not old.exists()
    assert kept(llama) == (["portable"] if dies else ["native"])
    assert len(pip.compiled) == dies


def test_with_amx_it_is_not_used_at_all(llama: Any) -> None:
    old = (
        llama.wheels() / llama.platform_key(VERSION) / f"llama_cpp_python-{VERSION}-py3-none-linux_x86_64.whl"
    )
    old.parent.mkdir(parents=True)
    old.touch()
    assert not llama.at_hand(VERSION)


def test_wheels_are_kept_by_version_python_cpu_and_flags(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folders = {llama.wheel_folder(VERSION, build) for build in llama.chain()}
    assert len(folders) == 3
    no_amx = llama.wheel_folder(VERSION, builds.NO_AMX)
    assert no_amx.name.startswith(f"{VERSION}-{python}-{llama.cpu_key()}-no-amx-")
    monkeypatch.setattr(llama, "cpu_features", lambda: ["avx2"])
    assert llama.wheel_folder(VERSION, builds.NO_AMX) not in folders
    monkeypatch.setattr(llama, "cpu_features", lambda: AMX)
    assert llama.wheel_folder(VERSION, builds.NO_AMX) == no_amx
    for name in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS"):
        monkeypatch.setenv(name, "-DX")
        assert llama.wheel_folder(VERSION, builds.NO_AMX) not in folders
        monkeypatch.delenv(name)


def test_flags_of_the_user_are_joined_to_those_of_the_build(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_NATIVE=ON")
    monkeypatch.setenv("CFLAGS", "-O2")
    assert llama.variables(builds.PORTABLE) == {
        "CMAKE_ARGS": "-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DGGML_NATIVE=ON",
        "CFLAGS": "-O2",
    }
    assert llama.variables(builds.NO_AMX)["CFLAGS"] == f"-O2 {NO_AMX}"


def test_flags_that_the_compiler_does_not_know_are_left_out(
    llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "old-cc"
    old.write_text('#!/bin/sh\ncase "$*" in *amx*) exit 1;; esac\n')
    old.chmod(0o755)
    monkeypatch.undo()
    monkeypatch.setenv("CC", str(old))
    assert llama.unknown_flags(["-mno-amx-tile", "-mno-avx512f"]) == ["-mno-amx-tile"]


def test_a_missing_compiler_is_one_line_with_the_package(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(llama.shutil, "which", lambda name: name if name in ("cc", "apt-get") else None)
    with pytest.raises(
        llama.SetupError, match=r"no C\+\+ compiler to build llama.cpp; apt-get install gcc g"
    ):
        llama.check_compilers()
