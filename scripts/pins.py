"""Resolves constraints.txt with uv: one file for all Pythons and systems that Outrider supports.

    python scripts/pins.py [--upgrade]

A pin is kept if it satisfies pyproject.toml; --upgrade takes the newest versions instead. Packages that only some
Pythons or systems need get a marker. Afterwards each Python on each platform is resolved separately from wheels only,
so that a pin without a wheel is an error here and not on a user's machine.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PYPROJECT = ROOT / "pyproject.toml"
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
MACOS = "14.0"  # the oldest version for which torch has wheels
NO_WHEEL = "llama-cpp-python"  # compiled on installation
COMMON = (
    "--extra",
    "dev",
    "--group",
    "build",
    "--no-emit-package",
    "outrider",
    "--no-header",
    "--no-annotate",
)
# Ignore the machine's own indexes and folders, so that the result is the same everywhere.
INDEX = ("--no-config", "--default-index", "https://pypi.org/simple")


def main():
    """Write constraints.txt, or exit with uv's error."""
    parser = argparse.ArgumentParser(description="Resolve constraints.txt.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    args = parser.parse_args()
    pythons = supported_pythons()
    with tempfile.TemporaryDirectory() as folder:
        uv = uv_in(Path(folder) / "venv")
        resolved = Path(folder) / "constraints.txt"
        resolved.write_text(CONSTRAINTS.read_text())
        upgrade = ["--upgrade"] if args.upgrade else []
        compiled(uv, "--universal", "--python-version", pythons[0], *upgrade, "-o", resolved)
        for python in pythons:
            for platform in PLATFORMS:
                check(uv, python, platform, resolved)
                print(f"Python {python} on {platform}: every pin has a wheel", flush=True)
        CONSTRAINTS.write_text(header() + resolved.read_text())
    print(f"wrote {CONSTRAINTS}")


def supported_pythons():
    """Versions of Python in pyproject.toml's classifiers, the oldest first: ["3.11", ...]."""
    classifiers = tomllib.loads(PYPROJECT.read_text())["project"]["classifiers"]
    versions = [match[1] for text in classifiers if (match := re.search(r":: Python :: (\d+\.\d+)$", text))]
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")])


def uv_in(folder):
    """Install the pinned uv in a new environment. Returns its path."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "-c", CONSTRAINTS, "uv"], check=True)
    return folder / "bin" / "uv"


def check(uv, python, platform, constraints):
    """Check that every pin has a wheel for this Python on this platform. Exits when one has none."""
    wheels = ("--only-binary", ":all:", "--no-binary", NO_WHEEL)
    compiled(uv, "--python-version", python, "--python-platform", platform, *wheels, "-c", constraints)


def compiled(uv, *options):
    """Run `uv pip compile`. Exits with its output when it fails."""
    command = [uv, "pip", "compile", *COMMON, *INDEX, *options, PYPROJECT]
    env = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"outrider pins: {' '.join(map(str, options))}\n{done.stderr.strip()}")


def header():
    """The comment at the top of constraints.txt."""
    lines = CONSTRAINTS.read_text().splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("#"))


if __name__ == "__main__":
    main()
