"""llama.cpp for this machine: compiled once, proved to draft, kept; a safer build where one dies.

Wheels are kept by version, Python, CPU and flags. A wheel goes there only after it has decoded and drafted in a
process of its own; of a build that died only the signal's name is kept, so that it is not compiled again.
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

from services.draft_worker import builds, proof  # of this checkout, not installed yet

DEATH = "died-of"  # file in a wheel's folder: the signal, and the version of the probe
NEEDED = ("structlog",)  # by the probe, besides what llama-cpp-python itself depends on
ALWAYS = "-DLLAVA_BUILD=OFF"  # no pictures, a fifth less to compile


def install(version):
    """Put the first build that drafts on this CPU into the environment. Raises SetupError."""
    deaths = []
    for build in chain():
        folder = wheel_folder(version, build)
        died = death(folder)
        if not died:
            with wheel_of(version, build) as wheel:
                say(3, "llama-cpp-python: trying it in a process of its own")
                put(wheel)
                died = died_of(wheel)
                keep(wheel, folder, died)
            if not died:
                return
            words = "llama-cpp-python: built %s it dies of %s; the next safer build follows"
            say(3, words % (build.words, died))
        deaths.append("%s: %s" % (build.words, died))
    raise SetupError(
        "every build of llama.cpp dies on this CPU (%s); to try again, delete %s and run make"
        % ("; ".join(deaths), " ".join(str(wheel_folder(version, build)) for build in chain()))
    )


def probed():
    """How the probe of llama.cpp in the environment ends."""
    return proof.prove(PYTHON, environment())


def died_of(wheel):
    """The signal that an installed wheel dies of; "" = it drafts. Raises SetupError when it does neither."""
    found = probed()
    if found.error and found.conclusive:
        raise SetupError("%s; if %s is damaged, delete it and run make again" % (found.error, wheel))
    if found.error:
        raise SetupError("%s; run make again" % found.error)
    return found.fault.name if found.fault else ""


def fingerprint():
    """What the proof of an environment holds for: the probe's version and the CPU."""
    return "%d %s" % (proof.VERSION, cpu_key())


def at_hand(version):
    """Whether there is a wheel to begin with, so that no compiler may be needed."""
    return any(cached(version, build) for build in chain())


def check_compilers():
    """Raises SetupError when one is missing."""
    for language, variable, names in COMPILERS:
        if not compiler(variable, names):
            raise SetupError("no %s compiler to build llama.cpp; %s" % (language, how_to_install("compiler")))


def compiler(variable, names):
    """The compiler's command, None where there is none."""
    candidates = (os.environ.get(variable), *names)
    return next((name for name in candidates if name and shutil.which(name.split()[0])), None)


def chain():
    """Builds for this machine, fastest first."""
    return builds.chain(platform.machine(), cpu_features())


@contextmanager
def wheel_of(version, build):
    """The wheel of a build: a cached one, or one compiled into a folder that is gone afterwards."""
    found = cached(version, build)
    if found:
        say(3, "llama-cpp-python: wheel of %s, built %s, from %s" % (version, build.words, found.parent))
        yield found
        return
    check_compilers()
    place = wheels()
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".build-", ignore_cleanup_errors=True) as work:
        compile_wheel(version, build, work)
        yield next(Path(work).glob("*.whl"))


def compile_wheel(version, build, into):
    """Compile llama-cpp-python. Raises SetupError with the compiler's last lines."""
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
    """What a build is compiled with: its own variables joined to those that the user has set."""
    own = {"CMAKE_ARGS": ALWAYS, "CFLAGS": "", "CXXFLAGS": ""}
    for name, value in build.variables().items():
        own[name] = (own[name] + " " + value).strip()
    theirs = {name: os.environ.get(name, "") for name in own}
    joined = {
        "CMAKE_ARGS": own["CMAKE_ARGS"] + " " + theirs["CMAKE_ARGS"],  # the last one counts: the user's
        "CFLAGS": theirs["CFLAGS"] + " " + own["CFLAGS"],  # here the build's, or it would not be that build
        "CXXFLAGS": theirs["CXXFLAGS"] + " " + own["CXXFLAGS"],
    }
    return {name: value.strip() for name, value in joined.items() if value.strip()}


def unknown_flags(flags):
    """Those flags that the compiler here refuses."""

    def refused(flag):
        command = [
            *(compiler(*COMPILERS[0][1:]) or "cc").split(),
            flag,
            "-Werror",
            "-fsyntax-only",
            "-x",
            "c",
        ]
        return subprocess.run([*command, os.devnull], capture_output=True, check=False).returncode != 0

    return [flag for flag in flags if refused(flag)]


def put(wheel):
    """Install a wheel with what it needs, also over another build of the same version."""
    pip("install", "-c", CONSTRAINTS, wheel, *NEEDED)
    pip("install", "--no-deps", "--force-reinstall", wheel)


def keep(wheel, folder, died):
    """After the probe: into the cache with it, or away with it and a note of what it died of."""
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
    """The signal that this build died of in an earlier run, "" = none; not counted when another probe saw it."""
    try:
        name, version = (folder / DEATH).read_text().split()
    except (OSError, ValueError):
        return ""
    return name if version == str(proof.VERSION) else ""


def cached(version, build):
    """A build's wheel, None where there is none. Of a native one also from where earlier versions kept it unproved."""
    places = [wheel_folder(version, build)]
    if build is builds.NATIVE and variables(build) == {"CMAKE_ARGS": ALWAYS}:  # no flags of the user's
        places.append(wheels() / own_part(version))
    return next((wheel for place in places for wheel in place.glob("llama_cpp_python-*.whl")), None)


def wheel_folder(version, build):
    """Cache folder of a wheel: by version, Python, CPU, and the flags it is compiled with."""
    flags = hashlib.sha256(repr(sorted(variables(build).items())).encode()).hexdigest()[:8]
    return wheels() / ("%s-%s-%s" % (own_part(version), build.name, flags))


def own_part(version):
    """The part of a folder's name that says for which Python and CPU it is."""
    return "%s-cp%d%d-%s" % (version, *sys.version_info[:2], cpu_key())


def wheels():
    """Folder of all wheels."""
    return Path(os.environ.get("OUTRIDER_CACHE") or "~/.cache/outrider").expanduser() / "wheels"


def cpu_key():
    """Architecture and a short hash of the CPU's features."""
    features = " ".join(sorted(cpu_features())) or platform.processor()
    return "%s-%s" % (platform.machine(), hashlib.sha256(features.encode()).hexdigest()[:8])


def cpu_features():
    """The CPU's features as Linux names them; empty elsewhere."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("flags", "features")):
                return line.split(":", 1)[1].split()
    except OSError:
        pass  # not Linux
    return []
