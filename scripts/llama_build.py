"""Builds llama.cpp for this machine: compiled once, probed, and cached; a safer build follows if one dies.

The cache has wheels by version, Python, CPU and compiler flags. A wheel is cached only after it has decoded and drafted
in a child process. Of a build that died only the signal's name is kept, so that it is not compiled again.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from setup_base import (
    COMPILERS,
    CONSTRAINTS,
    PYTHON,
    ROOT,
    SetupError,
    environment,
    every,
    how_to_install,
    pip,
    say,
)

sys.path.insert(0, str(ROOT))

from services.draft_worker import builds, proof  # from this checkout: Outrider is not installed yet

DEATH = "died-of"  # file in a wheel's folder with the signal and the version of the probe
PROBE_PACKAGES = ("structlog",)  # that the probe imports, in addition to llama-cpp-python's dependencies
COMMON_ARGS = "-DLLAVA_BUILD=OFF"  # without image support, a fifth less to compile


def install(version):
    """Install the first build that drafts on this CPU. Raises SetupError."""
    deaths = []
    for build in chain():
        folder = wheel_folder(version, build)
        died = death(folder)
        if not died:
            with wheel_of(version, build) as wheel:
                say(3, "llama-cpp-python: probing it in a child process")
                install_wheel(wheel)
                died = died_of(wheel)
                keep(wheel, folder, died)
            if not died:
                return
            words = "llama-cpp-python: the build %s dies of %s; the next safer build follows"
            say(3, words % (build.words, died))
        deaths.append("%s: %s" % (build.words, died))
    raise SetupError(
        "every build of llama.cpp dies on this CPU (%s); to try again, delete %s and run make again"
        % ("; ".join(deaths), " ".join(str(wheel_folder(version, build)) for build in chain()))
    )


def probed():
    """Outcome of the probe of the environment's llama.cpp."""
    return proof.prove(PYTHON, environment())


def died_of(wheel):
    """Name of the signal of which the installed wheel dies; "" = it drafts. Raises SetupError for other failures."""
    outcome = probed()
    if outcome.error and outcome.conclusive:
        raise SetupError("%s; if %s is damaged, delete it and run make again" % (outcome.error, wheel))
    if outcome.error:
        raise SetupError("%s; run make again" % outcome.error)
    return outcome.fault.name if outcome.fault else ""


def fingerprint():
    """The probe's version and the CPU, for which the result of a probe is valid."""
    return "%d %s" % (proof.VERSION, cpu_key())


def at_hand(version):
    """Whether a wheel is cached, so that no compiler may be needed."""
    return any(cached(version, build) for build in chain())


def check_compilers():
    """Raise SetupError when a compiler is missing."""
    for language, variable, names in COMPILERS:
        if not compiler(variable, names):
            raise SetupError("no %s compiler to build llama.cpp; %s" % (language, how_to_install("compiler")))


def compiler(variable, names):
    """A compiler's command; None when there is none."""
    candidates = (os.environ.get(variable), *names)
    return next((name for name in candidates if name and shutil.which(name.split()[0])), None)


def chain():
    """Builds for this machine, the fastest first."""
    return builds.chain(platform.machine(), cpu_features())


@contextmanager
def wheel_of(version, build):
    """Yields the wheel of a build: a cached one, or one compiled in a temporary folder. Raises SetupError."""
    wheel = cached(version, build)
    if wheel:
        say(3, "llama-cpp-python: wheel of %s, built %s, from %s" % (version, build.words, wheel.parent))
        yield wheel
        return
    check_compilers()
    folder = wheels()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-", ignore_cleanup_errors=True) as work:
        compile_wheel(version, build, work)
        yield next(Path(work).glob("*.whl"))


def compile_wheel(version, build, into):
    """Compile llama-cpp-python to a wheel in the folder `into`. Raises SetupError with the compiler's last lines."""
    cores = os.cpu_count() or 1
    words = "llama-cpp-python: compiling %s %s on %d cores, once for this machine (2 cores: about 5 minutes)"
    say(3, words % (version, build.words, cores))
    extra = {
        **variables(builds.without(build, unknown_flags(build.flags))),
        "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(cores)),
        "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS),
    }
    options = ["--no-deps", "--no-cache-dir", "--no-binary", "llama-cpp-python", "-w", into]
    with every(60, lambda minutes: print("      compiling, %d min" % minutes, flush=True)):
        pip("wheel", *options, "llama-cpp-python==" + version, extra=extra)


def variables(build):
    """Environment variables for compiling a build: its own joined with the user's."""
    own = {"CMAKE_ARGS": COMMON_ARGS, "CFLAGS": "", "CXXFLAGS": ""}
    for name, value in build.variables().items():
        own[name] = (own[name] + " " + value).strip()
    users = {name: os.environ.get(name, "") for name in own}
    # The last of contradicting options counts: the user's CMake arguments, but the build's compiler flags, without
    # which it would be another build.
    joined = {
        "CMAKE_ARGS": own["CMAKE_ARGS"] + " " + users["CMAKE_ARGS"],
        "CFLAGS": users["CFLAGS"] + " " + own["CFLAGS"],
        "CXXFLAGS": users["CXXFLAGS"] + " " + own["CXXFLAGS"],
    }
    return {name: value.strip() for name, value in joined.items() if value.strip()}


def unknown_flags(flags):
    """Flags that this machine's compiler does not accept."""

    def is_unknown(flag):
        command = [
            *(compiler(*COMPILERS[0][1:]) or "cc").split(),
            flag,
            "-Werror",
            "-fsyntax-only",
            "-x",
            "c",
        ]
        return subprocess.run([*command, os.devnull], capture_output=True, check=False).returncode != 0

    return [flag for flag in flags if is_unknown(flag)]


def install_wheel(wheel):
    """Install a wheel and its dependencies, replacing another build of the same version."""
    pip("install", "-c", CONSTRAINTS, wheel, *PROBE_PACKAGES)
    pip("install", "--no-deps", "--force-reinstall", wheel)


def keep(wheel, folder, died):
    """Cache a probed wheel. If it died, delete it and store the signal's name instead."""
    if wheel.parent == folder and not died:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if died:
        (folder / DEATH).write_text("%s %d\n" % (died, proof.VERSION))
        wheel.unlink(missing_ok=True)
    else:
        shutil.move(wheel, folder / wheel.name)


def death(folder):
    """Signal of which a build died in an earlier run; "" = none, or it was found by another version of the probe."""
    try:
        name, version = (folder / DEATH).read_text().split()
    except (OSError, ValueError):
        return ""
    return name if version == str(proof.VERSION) else ""


def cached(version, build):
    """Cached wheel of a build; None = none. Earlier versions kept unprobed native wheels in another folder."""
    folders = [wheel_folder(version, build)]
    if build is builds.NATIVE and variables(build) == {"CMAKE_ARGS": COMMON_ARGS}:  # the user set no flags
        folders.append(wheels() / platform_key(version))
    return next((wheel for folder in folders for wheel in folder.glob("llama_cpp_python-*.whl")), None)


def wheel_folder(version, build):
    """Cache folder of a wheel, named by version, Python, CPU and compiler flags."""
    flags = hashlib.sha256(repr(sorted(variables(build).items())).encode()).hexdigest()[:8]
    return wheels() / ("%s-%s-%s" % (platform_key(version), build.name, flags))


def platform_key(version):
    """Part of a folder's name: version, Python and CPU."""
    return "%s-cp%d%d-%s" % (version, *sys.version_info[:2], cpu_key())


def wheels():
    """Folder of all cached wheels."""
    return Path(os.environ.get("OUTRIDER_CACHE") or "~/.cache/outrider").expanduser() / "wheels"


def cpu_key():
    """Name of a kind of CPU: architecture and a short hash of its features."""
    features = " ".join(sorted(cpu_features())) or platform.processor()
    return "%s-%s" % (platform.machine(), hashlib.sha256(features.encode()).hexdigest()[:8])


def cpu_features():
    """The CPU's features with Linux' names; [] on other systems."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("flags", "features")):
                return line.split(":", 1)[1].split()
    except OSError:
        pass  # not Linux
    return []
