"""Which builds of llama.cpp are tried on which CPU, and what their flags forbid."""

import platform
import shutil
import subprocess

import pytest

from services.draft_worker import builds
from services.draft_worker.builds import NATIVE, NO_AMX, NO_AVX512, PORTABLE

AMX = ("avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16")


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", AMX, [NO_AMX, NO_AVX512, PORTABLE]),
        ("x86_64", ("avx2", "avx512f"), [NATIVE, NO_AVX512, PORTABLE]),
        ("x86_64", ("avx2",), [NATIVE, PORTABLE]),
        ("AMD64", (), [NATIVE, PORTABLE]),
        ("aarch64", ("asimd", "sve"), [NATIVE, PORTABLE]),
        ("arm64", (), [NATIVE, PORTABLE]),
    ],
)
def test_the_chain_begins_with_the_fastest_that_may_work(
    machine: str, features: tuple[str, ...], expected: list[builds.Build]
) -> None:
    assert builds.chain(machine, features) == expected


def test_amx_comes_first_again_once_it_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "AMX_MENDED", True)
    assert builds.chain("x86_64", AMX) == [NATIVE, NO_AMX, NO_AVX512, PORTABLE]


def test_the_next_safer_build_leaves_out_what_the_dead_one_used() -> None:
    assert builds.safer({"AVX2", "AVX512", "AMX_INT8"}) == NO_AMX
    assert builds.safer({"AVX2", "AVX512", "AVX512_VNNI"}) == NO_AVX512
    assert builds.safer({"AVX2"}) == builds.safer(()) == PORTABLE


def test_a_build_is_told_in_variables() -> None:
    no_amx = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    assert NATIVE.variables() == {}
    assert NO_AMX.variables() == {"CFLAGS": no_amx, "CXXFLAGS": no_amx}
    assert PORTABLE.variables() == {"CMAKE_ARGS": "-DGGML_NATIVE=OFF"}
    assert builds.without(NO_AVX512, NO_AMX.flags).variables() == {
        "CFLAGS": "-mno-avx512f",
        "CXXFLAGS": "-mno-avx512f",
    }


@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("cc"), reason="flags of x86 compilers")
@pytest.mark.parametrize(("build", "left_out"), [(NO_AMX, "__AMX"), (NO_AVX512, "__AVX512")])
def test_the_compiler_here_obeys_the_flags(build: builds.Build, left_out: str) -> None:
    done = subprocess.run(
        ["cc", "-march=native", *build.flags, "-dM", "-E", "-"],
        input="",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "__x86_64__" in done.stdout
    assert left_out not in done.stdout
