"""Shared by the steps of the set-up: paths, running commands, errors and progress."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "outrider-setup.json"
CONSTRAINTS = ROOT / "constraints.txt"
COMPILERS = (("C", "CC", ("cc", "gcc", "clang")), ("C++", "CXX", ("c++", "g++", "clang++")))
# Packages that contain a tool, by package manager.
PACKAGES = {
    "apt-get": ("apt-get install", {"compiler": "gcc g++", "venv": "python3-venv"}),
    "dnf": ("dnf install", {"compiler": "gcc gcc-c++", "venv": "python3-pip"}),
    "zypper": ("zypper install", {"compiler": "gcc gcc-c++", "venv": "python3-pip"}),
    "pacman": ("pacman -S", {"compiler": "gcc", "venv": "python"}),
    "apk": ("apk add", {"compiler": "gcc g++ musl-dev", "venv": "python3"}),
    "brew": ("xcode-select --install, or brew install", {"compiler": "gcc", "venv": "python@3.12"}),
}


class SetupError(Exception):
    """The set-up cannot continue; the text is one line that says what to do."""


def how_to_install(tool):
    """Command that installs a tool on this system."""
    for manager, (command, names) in PACKAGES.items():
        if shutil.which(manager):
            return "%s %s" % (command, names[tool])
    return "install it with this system's package manager (Debian: %s)" % PACKAGES["apt-get"][1][tool]


def pip(command, *options, extra=None):
    """Run the environment's pip. Raises SetupError with its output when it fails."""
    run(
        [PYTHON, "-m", "pip", command, "--quiet" if command != "check" else "--no-color", *options],
        "pip " + command,
        extra,
    )


def run(command, name, extra=None):
    """Run a command without output. Raises SetupError with its last lines when it fails."""
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
    """Versions by package name, of the pins without a marker.

    A pin with a marker is for some Pythons or systems only. The set-up needs none of those, and the standard library
    cannot evaluate markers.
    """
    lines = (line.split("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if "==" in line and ";" not in line)


class every:
    """Call fn(1), fn(2), ... every `seconds` while the block runs, so that a long step shows progress."""

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
    """Print one line of progress. step: 1 to 5."""
    print("[%d/5] %s" % (step, text), flush=True)
