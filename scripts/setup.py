"""Make .venv: pinned packages, llama.cpp compiled for this machine once, Outrider itself in editable form.

    python3 scripts/setup.py [--torch cpu|cuda]

Called by every `make` target that needs the environment. Does nothing when the environment is as the pins
want it, and checks what is missing on the machine before anything is downloaded. Needs Python 3.11 and no
package; errors are one line.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "outrider-setup.json"
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SPACE = 4 * 10**9  # bytes that environment and build take at most, with a CPU build of torch
COMPILERS = (("C", "CC", ("cc", "gcc", "clang")), ("C++", "CXX", ("c++", "g++", "clang++")))
# What a person installs to have a tool, by package manager.
PACKAGES = {
    "apt-get": ("apt-get install", {"compiler": "gcc g++", "venv": "python3-venv"}),
    "dnf": ("dnf install", {"compiler": "gcc gcc-c++", "venv": "python3-pip"}),
    "zypper": ("zypper install", {"compiler": "gcc gcc-c++", "venv": "python3-pip"}),
    "pacman": ("pacman -S", {"compiler": "gcc", "venv": "python"}),
    "apk": ("apk add", {"compiler": "gcc g++ musl-dev", "venv": "python3"}),
    "brew": ("xcode-select --install, or brew install", {"compiler": "gcc", "venv": "python@3.12"}),
}


class SetupError(Exception):
    """What stops the set-up, in one line."""


def main():
    """Bring the environment up to date, or say in one line why not."""
    parser = argparse.ArgumentParser(description="Make .venv.")
    parser.add_argument("--torch", default="", help="cpu or cuda; empty = as it is, cpu at first")
    args = parser.parse_args()
    try:
        flavour = args.torch or stamped().get("torch") or "cpu"
        if flavour not in ("cpu", "cuda"):
            raise SetupError("TORCH=%s: cpu or cuda" % flavour)
        check_python()
        wanted = fingerprint(flavour)
        if stamped() != wanted:
            check_machine()
            set_up(flavour)
            STAMP.write_text(json.dumps(wanted) + "\n")
    except SetupError as error:
        sys.exit("outrider setup: %s" % error)


def set_up(flavour):
    """The five steps."""
    started = time.monotonic()
    pins = pinned()
    say(1, "environment .venv, Python %s" % platform.python_version())
    make_venv()
    pip("install", "pip==" + pins["pip"], "setuptools==" + pins["setuptools"])
    requirement, index, words = torch_source(flavour, pins["torch"])
    say(2, "torch: %s" % words)
    pip("install", "-c", CONSTRAINTS, requirement, *index)
    wheel = llama_wheel(pins["llama-cpp-python"])
    say(4, "all other packages, as pinned in constraints.txt, and Outrider itself")
    pip("install", "-c", CONSTRAINTS, wheel)
    pip("install", "-c", CONSTRAINTS, "--no-build-isolation", "-e", "%s[dev]" % ROOT)
    say(5, "check")
    check_result(wheel)
    print("set-up done in %d s: .venv/bin/outrider" % (time.monotonic() - started), flush=True)


def check_python():
    """This Python can make the environment."""
    if sys.version_info < (3, 11):  # noqa: UP036  # this file is what tells
        others = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
        hint = "make PYTHON=%s" % others[0] if others else "install Python 3.11 or newer"
        raise SetupError("Python 3.11 or newer is needed, this is %s; %s" % (platform.python_version(), hint))


def check_machine():
    """Everything the set-up needs and cannot download is here."""
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise SetupError("this Python has no venv module; %s" % how_to_install("venv"))
    if not cached_wheel(pinned()["llama-cpp-python"]):
        for language, variable, names in COMPILERS:
            if not any(name and shutil.which(name.split()[0]) for name in (os.environ.get(variable), *names)):
                raise SetupError(
                    "no %s compiler to build llama.cpp; %s" % (language, how_to_install("compiler"))
                )
    free = shutil.disk_usage(ROOT).free
    if free < SPACE:
        raise SetupError("%s: %.1f GB free, about %.0f GB needed" % (ROOT, free / 1e9, SPACE / 1e9))


def how_to_install(tool):
    """The command that installs a tool here."""
    for manager, (command, names) in PACKAGES.items():
        if shutil.which(manager):
            return "%s %s" % (command, names[tool])
    return "install it with this system's package manager (Debian: %s)" % PACKAGES["apt-get"][1][tool]


def make_venv():
    """An environment of this very Python; one of another version is made anew."""
    config = VENV / "pyvenv.cfg"
    if config.is_file() and PYTHON.exists():
        made_with = [
            line.split("=")[1].strip()
            for line in config.read_text().splitlines()
            if line.startswith("version")
        ]
        if made_with[:1] == [platform.python_version()]:
            return
    run([sys.executable, "-m", "venv", "--clear", VENV], "python -m venv")


def torch_source(flavour, version):
    """(requirement, index options, words) for torch: where this flavour comes from here."""
    if flavour == "cuda":
        return "torch===" + version, [], "%s, CUDA build (several GB)" % version
    plain = "torch==" + version
    if sys.platform != "linux":
        return plain, [], "%s, plain pin (a CPU build on this system)" % version
    found = resolve(plain, "--no-deps")
    if found and "+cpu" in found[0]["metadata"]["version"]:
        place = found[0]["download_info"]["url"].rsplit("/", 1)[0]
        return plain, [], "%s, CPU wheel that pip finds in %s" % (version, place.replace("file://", ""))
    local = plain + "+cpu"
    index = ["--extra-index-url", CPU_INDEX]
    if resolve(local, "--no-deps", "--timeout", "10", "--retries", "1", *index):
        return local, index, "%s from torch's CPU index" % version
    everything = resolve(plain)
    if everything is None:
        raise SetupError(
            "torch %s is not to be had: neither pip's index nor %s has it or answers" % (version, CPU_INDEX)
        )
    if any(package["metadata"]["name"].lower().startswith(("nvidia-", "cuda-")) for package in everything):
        words = (
            "%s, plain pin: torch's CPU index does not answer, so its CUDA packages come along (several GB)"
        )
        return plain, [], words % version
    return plain, [], "%s, plain pin (no CUDA packages come with it)" % version


def resolve(requirement, *options):
    """What pip would install for a requirement: its report's entries; None when it finds nothing."""
    command = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "-",
        "-c",
        CONSTRAINTS,
    ]
    done = subprocess.run(
        list(map(str, [*command, *options, requirement])),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)["install"] if done.returncode == 0 else None


def llama_wheel(version):
    """The wheel of llama-cpp-python for this machine, compiled if this machine has not done so before."""
    found = cached_wheel(version)
    if found:
        say(3, "llama-cpp-python: wheel of %s from %s" % (version, found.parent))
        return found
    cores = os.cpu_count() or 1
    say(
        3,
        "llama-cpp-python: compiling %s on %d cores, once for this machine (2 cores: about 5 minutes)"
        % (version, cores),
    )
    folder = wheel_folder(version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    build = {
        "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(cores)),
        "CMAKE_ARGS": "-DLLAVA_BUILD=OFF "
        + os.environ.get("CMAKE_ARGS", ""),  # no pictures, a fifth less to compile
        "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS),
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build-") as work:
        options = ["--no-deps", "--no-cache-dir", "--no-binary", "llama-cpp-python", "-w", work]
        with every(60, lambda minutes: print("      compiling, %d min" % minutes, flush=True)):
            pip("wheel", *options, "llama-cpp-python==" + version, extra=build)
        if folder.exists():
            shutil.rmtree(folder)
        Path(work).rename(folder)
        Path(work).mkdir()  # for the context manager to remove
    folder.chmod(0o755)
    return cached_wheel(version)


def cached_wheel(version):
    """The wheel for this machine out of the cache, or None."""
    return next(wheel_folder(version).glob("llama_cpp_python-*.whl"), None)


def wheel_folder(version):
    """Cache folder of a wheel: by version, Python and CPU, since llama.cpp is compiled for the CPU it is on."""
    cache = Path(os.environ.get("OUTRIDER_CACHE") or "~/.cache/outrider").expanduser()
    python = "cp%d%d" % sys.version_info[:2]
    return cache / "wheels" / ("%s-%s-%s" % (version, python, cpu_key()))


def cpu_key():
    """Architecture and a short hash of the CPU's features."""
    features = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("flags", "features")):
                features = " ".join(sorted(line.split(":", 1)[1].split()))
                break
    except OSError:
        pass  # not Linux: the processor's name has to do
    return "%s-%s" % (platform.machine(), hashlib.sha256(features.encode()).hexdigest()[:8])


def check_result(wheel):
    """The environment is whole, and llama.cpp runs on this CPU."""
    pip("check")
    done = subprocess.run(
        [str(PYTHON), "-c", "import llama_cpp; llama_cpp.llama_backend_init()"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        why = done.stderr.strip().splitlines()[-1:] or ["exit code %d" % done.returncode]
        raise SetupError("%s does not run here (%s); delete it and run make again" % (wheel, why[0]))


def pip(command, *options, extra=None):
    """Run pip of the environment; its output is shown only if it fails."""
    run(
        [PYTHON, "-m", "pip", command, "--quiet" if command != "check" else "--no-color", *options],
        "pip " + command,
        extra,
    )


def run(command, name, extra=None):
    """Run a command in silence. Raises SetupError with its last lines."""
    done = subprocess.run(
        list(map(str, command)),
        env=environment(extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(
            "%s failed (exit code %d)\n%s"
            % (name, done.returncode, "\n".join(done.stdout.splitlines()[-30:]))
        )


def environment(extra=None):
    """Environment variables for pip."""
    ours = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    return {**os.environ, **ours, **(extra or {})}


def pinned():
    """Versions by package name, of the pins that hold everywhere.

    A pin with a marker holds for some Pythons or systems only. This script needs none of those, and an older
    Python's standard library cannot evaluate a marker.
    """
    lines = (line.split("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if "==" in line and ";" not in line)


def fingerprint(flavour):
    """What the environment is made of: it is up to date while this stays the same."""
    import tomllib  # Python 3.11; the check for that comes first

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        project["dependencies"],
        project["optional-dependencies"],
        project["scripts"],
        CONSTRAINTS.read_text(),
    ]
    return {
        "torch": flavour,
        "python": platform.python_version(),
        "root": str(ROOT),
        "pins": hashlib.sha256(json.dumps(wanted).encode()).hexdigest(),
    }


def stamped():
    """The fingerprint of the environment that is there; empty if there is none."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


class every:
    """Call fn(1), fn(2), ... each `seconds` while the block runs, so that a long step is not silent."""

    def __init__(self, seconds, fn):
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(seconds, fn), daemon=True)

    def _run(self, seconds, fn):
        times = 0
        while not self._done.wait(seconds):
            times += 1
            fn(times)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def say(step, text):
    """One line of progress."""
    print("[%d/5] %s" % (step, text), flush=True)


if __name__ == "__main__":
    main()
