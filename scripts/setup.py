"""Creates .venv: pinned packages, llama.cpp compiled once for this machine, and Outrider in editable form.

    python3 scripts/setup.py [--torch cpu|cuda]

Called by every `make` target that needs the environment. Does nothing when the environment is up to date, and checks
the machine's requirements before anything is downloaded. Needs Python 3.11 and no packages; errors are one line.
"""

import argparse
import hashlib
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import time

from setup_base import (
    CONSTRAINTS,
    PYTHON,
    ROOT,
    STAMP,
    VENV,
    SetupError,
    environment,
    how_to_install,
    pinned,
    pip,
    run,
    say,
)

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SPACE = 4 * 10**9  # maximum bytes of environment and build, with a CPU build of torch


def main():
    """Bring the environment up to date, or exit with an error of one line."""
    parser = argparse.ArgumentParser(description="Create .venv.")
    parser.add_argument("--torch", default="", help="cpu or cuda; empty = unchanged, at first cpu")
    args = parser.parse_args()
    try:
        flavour = args.torch or stamped().get("torch") or "cpu"
        if flavour not in ("cpu", "cuda"):
            raise SetupError("TORCH=%s: must be cpu or cuda" % flavour)
        check_python()
        current = fingerprint(flavour)
        stamp = stamped()
        if stamp != current:
            if not ({**stamp, "proof": current["proof"]} == current and is_proved()):
                check_machine()
                set_up(flavour)
            STAMP.write_text(json.dumps(current) + "\n")
    except SetupError as error:
        sys.exit("outrider setup: %s" % error)


def set_up(flavour):
    """Create the environment in five steps. Raises SetupError."""
    import llama_build

    started = time.monotonic()
    pins = pinned()
    say(1, "environment .venv, Python %s" % platform.python_version())
    make_venv()
    pip("install", "pip==" + pins["pip"], "setuptools==" + pins["setuptools"])
    requirement, index, words = torch_source(flavour, pins["torch"])
    say(2, "torch: %s" % words)
    pip("install", "-c", CONSTRAINTS, requirement, *index)
    llama_build.install(pins["llama-cpp-python"])
    say(4, "all other packages, as pinned in constraints.txt, and Outrider itself")
    pip("install", "-c", CONSTRAINTS, "--no-build-isolation", "-e", "%s[dev]" % ROOT)
    say(5, "check")
    pip("check")
    print("set-up done in %d s: .venv/bin/outrider" % (time.monotonic() - started), flush=True)


def check_python():
    """Raise SetupError when this Python is too old."""
    if sys.version_info < (3, 11):  # noqa: UP036  # the user may run this file with an older Python
        others = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
        hint = "make PYTHON=%s" % others[0] if others else "install Python 3.11 or newer"
        raise SetupError(
            "Python 3.11 or newer is required, this is %s; %s" % (platform.python_version(), hint)
        )


def check_machine():
    """Raise SetupError when something is missing that the set-up needs and cannot download."""
    import llama_build

    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise SetupError("this Python has no venv module; %s" % how_to_install("venv"))
    if not llama_build.at_hand(pinned()["llama-cpp-python"]):
        llama_build.check_compilers()
    free = shutil.disk_usage(ROOT).free
    if free < SPACE:
        raise SetupError("%s: %.1f GB free, about %.0f GB needed" % (ROOT, free / 1e9, SPACE / 1e9))


def make_venv():
    """Create an environment with this Python, unless there is one of the same version."""
    config = VENV / "pyvenv.cfg"
    if config.is_file() and PYTHON.exists():
        versions = [
            line.split("=")[1].strip()
            for line in config.read_text().splitlines()
            if line.startswith("version")
        ]
        if versions[:1] == [platform.python_version()]:
            return
    run([sys.executable, "-m", "venv", "--clear", VENV], "python -m venv")


def torch_source(flavour, version):
    """Requirement, index options and description of torch for this flavour on this machine. Raises SetupError."""
    if flavour == "cuda":
        return "torch===" + version, [], "%s, CUDA build (several GB)" % version
    plain = "torch==" + version
    if sys.platform != "linux":
        return plain, [], "%s, plain pin (a CPU build on this system)" % version
    packages = resolve(plain, "--no-deps")
    if packages and "+cpu" in packages[0]["metadata"]["version"]:
        source = packages[0]["download_info"]["url"].rsplit("/", 1)[0]
        return plain, [], "%s, CPU wheel that pip finds in %s" % (version, source.replace("file://", ""))
    local = plain + "+cpu"
    index = ["--extra-index-url", CPU_INDEX]
    if resolve(local, "--no-deps", "--timeout", "10", "--retries", "1", *index):
        return local, index, "%s from torch's CPU index" % version
    packages = resolve(plain)
    if packages is None:
        raise SetupError(
            "torch %s cannot be downloaded: neither pip's index nor %s has it or answers"
            % (version, CPU_INDEX)
        )
    if any(package["metadata"]["name"].lower().startswith(("nvidia-", "cuda-")) for package in packages):
        words = "%s, plain pin: torch's CPU index does not answer, so CUDA packages are included (several GB)"
        return plain, [], words % version
    return plain, [], "%s, plain pin (without CUDA packages)" % version


def resolve(requirement, *options):
    """Packages that pip would install for a requirement, as in its report; None when it cannot resolve it."""
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


def is_proved():
    """Probe the llama.cpp of an environment that is otherwise up to date. Takes a second."""
    import llama_build

    outcome = llama_build.probed()
    if not outcome.works:
        why = outcome.error or "llama.cpp dies of %s" % outcome.fault.name
        print("%s: %s; setting it up again" % (VENV.name, why), flush=True)
    return outcome.works


def fingerprint(flavour):
    """All that determines the environment. It is up to date if its stamp equals this."""
    import tomllib  # needs Python 3.11, like llama_build; check_python must run first

    import llama_build

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [
        project["version"],
        project["dependencies"],
        project["optional-dependencies"],
        project["scripts"],
        CONSTRAINTS.read_text(),
    ]
    return {
        "torch": flavour,
        "python": platform.python_version(),
        "root": str(ROOT),
        "pins": hashlib.sha256(json.dumps(pins).encode()).hexdigest(),
        "proof": llama_build.fingerprint(),
    }


def stamped():
    """Fingerprint of the present environment; {} if there is none."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    main()
