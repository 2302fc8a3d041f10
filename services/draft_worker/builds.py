"""Builds of llama.cpp for a CPU, fastest first, each safer than the one before.

Standard library only: the set-up reads this before anything is installed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

# ggml's AMX kernels die of an illegal instruction when compilers drop the stores to their tile configuration
# (ggml-org/llama.cpp, pull request 26954). Set this when the pinned version contains the fix and passes the probe.
AMX_MENDED: Final = False

# All three are needed: ggml does not compile with only some of them.
_NO_AMX: Final = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
_NO_AVX512: Final = ("-mno-avx512f",)  # disables all extensions that build on it, too
X86: Final = ("x86_64", "amd64", "i386", "i686")


@dataclass(frozen=True, slots=True)
class Build:
    """name: in folder names; words: description for messages; flags: for the compiler; native: for this very CPU."""

    name: str
    words: str
    flags: tuple[str, ...] = ()
    native: bool = True

    def variables(self) -> dict[str, str]:
        """Environment variables for CMake and scikit-build-core."""
        flags = " ".join(self.flags)
        chosen = {
            "CFLAGS": flags,
            "CXXFLAGS": flags,
            "CMAKE_ARGS": "" if self.native else "-DGGML_NATIVE=OFF",
        }
        return {name: value for name, value in chosen.items() if value}


NATIVE: Final = Build("native", "for this CPU")
NO_AMX: Final = Build("no-amx", "for this CPU, without AMX", _NO_AMX)
NO_AVX512: Final = Build("no-avx512", "for this CPU, without AVX-512", (*_NO_AMX, *_NO_AVX512))
PORTABLE: Final = Build("portable", "for any CPU of this kind", native=False)


def chain(machine: str, features: Collection[str]) -> list[Build]:
    """Builds to try in turn. features: CPU flags as in /proc/cpuinfo; empty where unknown."""
    if machine.lower() not in X86:
        return [NATIVE, PORTABLE]
    amx = "amx_tile" in features
    builds = [NATIVE] if AMX_MENDED or not amx else []
    builds += [NO_AMX] if amx else []
    builds += [NO_AVX512] if "avx512f" in features else []
    return [*builds, PORTABLE]


def safer(used: Collection[str]) -> Build:
    """The build to try after a crash. used: instruction sets of the crashed build, as ggml names them."""
    if any(name.startswith("AMX") for name in used):
        return NO_AMX
    if any(name.startswith("AVX512") for name in used):
        return NO_AVX512
    return PORTABLE


def without(build: Build, unknown: Sequence[str]) -> Build:
    """The build without flags that the compiler does not know: it cannot emit those instructions either."""
    kept = tuple(flag for flag in build.flags if flag not in unknown)
    return Build(build.name, build.words, kept, build.native)
