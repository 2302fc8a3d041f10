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
SPACE = 4 * 10**9  # bytes that environment and build take at most, with a CPU build of torch


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
        have = stamped()
        if have != wanted:
            if not ({**have, "proof": wanted["proof"]} == wanted and is_proved()):
                check_machine()
                set_up(flavour)
            STAMP.write_text(json.dumps(wanted) + "\n")
    except SetupError as error:
        sys.exit("outrider setup: %s" % error)


def set_up(flavour):
    """The five steps."""
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
    """This Python can make the environment."""
    if sys.version_info < (3, 11):  # noqa: UP036  # this file is what tells
        others = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
        hint = "make PYTHON=%s" % others[0] if others else "install Python 3.11 or newer"
        raise SetupError("Python 3.11 or newer is needed, this is %s; %s" % (platform.python_version(), hint))


def check_machine():
    """Everything the set-up needs and cannot download is here."""
    import llama_build

    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise SetupError("this Python has no venv module; %s" % how_to_install("venv"))
    if not llama_build.at_hand(pinned()["llama-cpp-python"]):
        llama_build.check_compilers()
    free = shutil.disk_usage(ROOT).free
    if free < SPACE:
        raise SetupError("%s: %.1f GB free, about %.0f GB needed" % (ROOT, free / 1e9, SPACE / 1e9))


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


def is_proved():
    """An environment that lacks nothing but the proof of its llama.cpp has it now; it takes a second."""
    import llama_build

    found = llama_build.probed()
    if not found.works:
        why = found.error or "llama.cpp dies of %s" % found.fault.name
        print("%s: %s; it is set up anew" % (VENV.name, why), flush=True)
    return found.works


def fingerprint(flavour):
    """What the environment is made of: it is up to date while this stays the same."""
    import tomllib  # Python 3.11, like the other; the check for that comes first

    import llama_build

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
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
        "pins": hashlib.sha256(json.dumps(wanted).encode()).hexdigest(),
        "proof": llama_build.fingerprint(),
    }


def stamped():
    """The fingerprint of the environment that is there; empty if there is none."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    main()
